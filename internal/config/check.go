package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultListen   = "127.0.0.1:7600"
	maxSocketPath   = 107 // sun_path of Linux without the final zero
	maxPasswordFile = 4 << 10
	maxACLFile      = 1 << 20
	minBulk         = Size(1 << 10)
	maxBulk         = Size(512 << 20)
)

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// complete fills in the defaults that depend on other settings.
func (c *Config) complete() {
	if c.Listen == "" {
		c.Listen = defaultListen
		if own := c.Self(); own.Addr != "" {
			c.Listen = own.Addr
		}
	}
	if c.Announce == "" {
		c.Announce = c.Listen
	}
	if c.Data != "" {
		c.Client.Socket = orPath(c.Client.Socket, c.Data, "client.sock")
		c.Admin.Socket = orPath(c.Admin.Socket, c.Data, "admin.sock")
	}
	if c.Client.OutputLimit == 0 {
		c.Client.OutputLimit = c.Client.MaxBulk + 64<<20
	}
	if len(c.Sync.Members) == 0 {
		for _, p := range c.DataNodes() {
			c.Sync.Members = append(c.Sync.Members, p.Name)
		}
	}
	c.completeToken()
	if c.sources["sync.k"].kind == "default" && len(c.DataNodes()) > 1 {
		c.Sync.K = 1
	}
}

func orPath(path, dir, name string) string {
	if path != "" {
		return path
	}
	return filepath.Join(dir, name)
}

// check reports every contradiction, not only the first.
func (c *Config) check(p *problems) {
	c.checkNames(p)
	c.checkAddresses(p)
	c.checkPeers(p)
	c.checkTLS(p)
	c.checkAccess(p)
	c.checkMode(p)
	c.checkSync(p)
	c.checkToken(p)
	c.checkRole(p)
	c.checkSockets(p)
	c.checkClient(p)
	c.checkSentinel(p)
	c.checkFailover(p)
	c.checkShip(p)
}

// checkShip: a log-shipping standby is of a cluster of its own, because nobody can fence the one that its archive is of (R2, R11).
func (c *Config) checkShip(p *problems) {
	switch {
	case c.Ship.URL == "" && c.Ship.Of != "":
		c.wrong(p, "ship.of", "has no effect without ship.url")
	case c.Ship.URL == "":
	case c.Ship.Of == "":
		c.wrong(p, "ship.of", "has to be set: the cluster that the archive is of")
	case c.Ship.Of == c.Cluster:
		c.wrong(p, "ship.of", "is this node's own cluster, %s: a log-shipping standby needs a cluster name of its own, so that the two are never taken for one", c.Cluster)
	case len(c.Peers) > 0:
		c.wrong(p, "ship.url", "is for a node without peers")
	}
}

// wrong reports a contradiction, unless the value could not even be read, which says enough.
func (c *Config) wrong(p *problems, key, format string, args ...any) {
	if p.unread[key] {
		return
	}
	p.add(key, c.sources[key], format, args...)
}

// missing reports a required setting unless its value was reported as wrong already.
func (c *Config) missing(p *problems, key string) {
	if c.sources[key].kind == "default" {
		c.wrong(p, key, "has to be set")
	}
}

func (c *Config) checkNames(p *problems) {
	for _, x := range []struct{ key, name string }{{"cluster", c.Cluster}, {"node", c.Node}} {
		switch {
		case x.name == "":
			c.missing(p, x.key)
		case !namePattern.MatchString(x.name):
			c.wrong(p, x.key, "%q is not a name (a-z, 0-9 and -, at most 32 characters)", x.name)
		}
	}
	if c.Data == "" {
		c.missing(p, "data")
	}
}

func (c *Config) checkAddresses(p *problems) {
	for _, x := range []struct{ key, addr string }{{"listen", c.Listen}, {"announce", c.Announce}, {"client.tcp", c.Client.TCP}, {"admin.http", c.Admin.HTTP},
		{"sentinel.listen", c.Sentinel.Listen}, {"sentinel.announce", c.Sentinel.Announce}, {"heartbeat.listen", c.Heartbeat.Listen}} {
		if c.sources[x.key].kind == "default" || x.addr == "" {
			continue
		}
		if err := checkAddr(x.addr); err != nil {
			c.wrong(p, x.key, "%v", err)
		}
	}
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port between 1 and 65535", addr)
	}
	return nil
}

func (c *Config) checkPeers(p *problems) {
	if len(c.Peers) == 0 {
		return
	}
	names, addrs := map[string]int{}, map[string]string{}
	for i, peer := range c.Peers {
		switch {
		case !namePattern.MatchString(peer.Name):
			c.wrong(p, "peers", "entry %d: name %q is not a name (a-z, 0-9 and -, at most 32 characters)", i+1, peer.Name)
		case names[peer.Name] > 0:
			c.wrong(p, "peers", "entries %d and %d have the same name %s", names[peer.Name], i+1, peer.Name)
		default:
			names[peer.Name] = i + 1
		}
		if err := checkAddr(peer.Addr); err != nil {
			c.wrong(p, "peers", "entry %d: addr %v", i+1, err)
		} else if other, twice := addrs[peer.Addr]; twice {
			c.wrong(p, "peers", "%s and %s have the same address %s", other, peer.Name, peer.Addr)
		} else {
			addrs[peer.Addr] = peer.Name
		}
	}
	if c.Node != "" && names[c.Node] == 0 {
		c.wrong(p, "peers", "this node, %s, is missing: list every node, so that the list is the same on all of them", c.Node)
	}
	if own := c.Self(); names[c.Node] > 0 && (own.Role == RoleWitness) != (c.Role == RoleWitness) {
		c.wrong(p, "peers", "says that the role of %s is %s, but role is %s", c.Node, cmp.Or(own.Role, RoleData), c.Role)
	}
	if len(c.DataNodes()) == 0 {
		c.wrong(p, "peers", "all of them are witnesses: nobody would hold the data")
	}
	if own := c.Self(); names[c.Node] > 0 && own.Mode != "" && own.Mode != c.Mode {
		c.wrong(p, "peers", "says that %s is %s, but mode is %s", c.Node, own.Mode, c.Mode)
	}
}

// checkTLS: with peers, TLS or written consent to do without, never both and never neither.
func (c *Config) checkTLS(p *problems) {
	for _, x := range []struct{ key, path string }{{"tls.ca", c.TLS.CA}, {"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key}} {
		if c.TLS.Set() && x.path == "" {
			c.wrong(p, x.key, "has to be set: TLS between nodes needs ca, cert and key")
		}
	}
	switch {
	case c.TLS.Set() && c.Insecure:
		c.wrong(p, "insecure", "contradicts tls: traffic between nodes is either encrypted or in plain text")
	case len(c.Peers) > 0 && !c.TLS.Set() && !c.Insecure && !p.unread["insecure"]:
		c.wrong(p, "tls", "has to be set: nodes show each other certificates, see replctl certs; or write `insecure: true` to have their traffic in plain text on a trusted network")
	}
}

func (c *Config) checkMode(p *problems) {
	if c.Mode == ModeLagged && c.ApplyDelay == 0 && !p.unread["apply_delay"] {
		c.wrong(p, "mode", "lagged needs apply_delay, more than zero")
	}
	if c.Mode == ModeHot && c.ApplyDelay > 0 {
		c.wrong(p, "apply_delay", "%v contradicts mode hot: a hot node applies at once; write mode: lagged", c.ApplyDelay)
	}
}

// checkSync: at most all members but one count for a commit, because the active never counts.
func (c *Config) checkSync(p *problems) {
	data := c.DataNodes()
	known := func(name string) bool {
		return slices.ContainsFunc(data, func(x Peer) bool { return x.Name == name })
	}
	members := map[string]bool{}
	for _, m := range c.Sync.Members {
		if !known(m) && c.sources["sync.members"].kind != "default" {
			c.wrong(p, "sync.members", "%q is not among the peers that hold data", m)
		}
		if members[m] && c.sources["sync.members"].kind != "default" {
			c.wrong(p, "sync.members", "%q is listed twice", m)
		}
		members[m] = true
	}
	most := len(members)
	if len(data) > 0 && most == len(data) {
		most-- // one of them is the active
	}
	switch {
	case c.Sync.K < 0:
		c.wrong(p, "sync.k", "%d is negative", c.Sync.K)
	case c.Sync.K > most:
		c.wrong(p, "sync.k", "%d standbys can never answer: of the %d members at most %d are standbys", c.Sync.K, len(members), most)
	}
	if c.Sync.Policy == PolicyShrink && !c.Token.EveryNodeSees() {
		c.wrong(p, "sync.policy", "shrink needs token.store raft or etcd, or token.shared: true: without a token that all nodes see, a reduced sync set cannot be made known to those who promote (R6)")
	}
	if c.Sync.Policy == PolicyBlock && c.sources["sync.shrink_after"].kind != "default" {
		c.wrong(p, "sync.shrink_after", "has no effect with sync.policy block")
	}
}

func (c *Config) checkSockets(p *problems) {
	for _, x := range []struct{ key, path string }{{"client.socket", c.Client.Socket}, {"admin.socket", c.Admin.Socket}} {
		if len(x.path) > maxSocketPath {
			c.wrong(p, x.key, "%s has %d bytes; Linux allows %d for a socket: choose a shorter path", x.path, len(x.path), maxSocketPath)
		}
	}
	if c.Client.Socket != "" && c.Client.Socket == c.Admin.Socket {
		c.wrong(p, "admin.socket", "is the same path as client.socket, %s", c.Client.Socket)
	}
	listeners := map[string]string{}
	for _, x := range []struct{ key, addr string }{{"listen", c.Listen}, {"heartbeat.listen", c.Heartbeat.Listen}, {"client.tcp", c.Client.TCP}, {"admin.http", c.Admin.HTTP}, {"sentinel.listen", c.Sentinel.Listen}} {
		if x.addr == "" || (x.key == "listen" && len(c.Peers) == 0) {
			continue
		}
		if other, taken := listeners[x.addr]; taken {
			c.wrong(p, x.key, "is the same address as %s, %s", other, x.addr)
		}
		listeners[x.addr] = x.key
	}
}

func (c *Config) checkClient(p *problems) {
	if c.Client.MaxClients <= 0 {
		c.wrong(p, "client.max_clients", "%d has to be more than zero", c.Client.MaxClients)
	}
	if c.Client.MaxBulk > maxBulk || c.Client.MaxBulk < minBulk {
		c.wrong(p, "client.max_bulk", "%v is not between %v and %v", c.Client.MaxBulk, minBulk, maxBulk)
	}
	if c.Client.OutputLimit < c.Client.MaxBulk {
		c.wrong(p, "client.output_limit", "%v is less than client.max_bulk %v: a client that reads such a value would be disconnected", c.Client.OutputLimit, c.Client.MaxBulk)
	}
	if c.Client.PasswordFile != "" {
		password, err := readPassword(c.Client.PasswordFile)
		if err != nil {
			c.wrong(p, "client.password_file", "%v", err)
		}
		c.Client.Password = Secret(password)
	}
	if c.Client.ACLFile != "" {
		text, err := readSecret(c.Client.ACLFile, maxACLFile)
		if err != nil {
			c.wrong(p, "client.acl_file", "%v", err)
		}
		c.Client.ACL = Secret(text)
	}
	if c.Client.TCP != "" && c.Client.PasswordFile == "" && c.Client.ACLFile == "" && !loopback(c.Client.TCP) {
		c.wrong(p, "client.tcp", "%s can be reached from other hosts: set client.password_file or client.acl_file, or listen on 127.0.0.1", c.Client.TCP)
	}
}

// checkAccess: what other hosts can reach is encrypted, or consented to.
func (c *Config) checkAccess(p *problems) {
	cl := c.Client
	checkServerTLS(c, p, "client", cl.TLSCert, cl.TLSKey, cl.TLSCA)
	if cl.TLSCert != "" && cl.TCP == "" {
		c.wrong(p, "client.tls_cert", "has no effect without client.tcp")
	}
	if cl.TLSCert != "" && cl.Insecure {
		c.wrong(p, "client.insecure", "contradicts client.tls_cert: clients over TCP are either encrypted or in plain text")
	}
	if cl.TCP != "" && cl.TLSCert == "" && !cl.Insecure && !loopback(cl.TCP) {
		c.wrong(p, "client.tcp", "%s can be reached from other hosts: set client.tls_cert and client.tls_key, or write `insecure: true` in client to have passwords and data in plain text on a trusted network", cl.TCP)
	}
	for _, h := range []struct {
		key     string
		command []string
	}{{"hooks.on_role_change", c.Hooks.OnRoleChange}, {"hooks.on_alarm", c.Hooks.OnAlarm}, {"hooks.pre_promote", c.Hooks.PrePromote}, {"drill.command", c.Drill.Command}} {
		if len(h.command) > 0 && !filepath.IsAbs(h.command[0]) {
			c.wrong(p, h.key, "%q is not an absolute path", h.command[0])
		}
	}
}

// checkServerTLS: the certificate of a listener for clients, by the keys tls_cert, tls_key and tls_ca of section.
func checkServerTLS(c *Config, p *problems, section, cert, key, ca string) {
	if (cert == "") != (key == "") {
		c.wrong(p, section+".tls_cert", "%s.tls_cert and %[1]s.tls_key go together", section)
	}
	if ca != "" && cert == "" {
		c.wrong(p, section+".tls_ca", "has no effect without %s.tls_cert", section)
	}
}

// loopback reports whether only this host can connect to addr. A name is not resolved: only localhost is known.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // reported already
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// readPassword reads the one line of a file that only its owner may read.
func readPassword(path string) (string, error) {
	text, err := readSecret(path, maxPasswordFile)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(text, "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return "", fmt.Errorf("%s has to hold one line with a password", path)
	}
	return password, nil
}

// readSecret reads a file that only its owner may read, of at most limit bytes.
func readSecret(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	if info.Mode().Type() != 0 || info.Mode().Perm()&^fs.FileMode(0o600) != 0 {
		return "", fmt.Errorf("%s has to be a file with mode 0600, found %v", path, info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	if int64(len(text)) > limit {
		return "", fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return string(text), nil
}
