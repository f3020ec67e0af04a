package config

import (
	"fmt"
	"strings"
	"time"
)

// minElection is below what a busy machine takes to run a process again.
const minElection = 50 * time.Millisecond

// checkToken: each store has settings of its own, and those of another one would be believed to have an effect.
func (c *Config) checkToken(p *problems) {
	set := func(key string) bool { return c.sources[key].kind != "default" }
	for key, on := range map[string]bool{"token.path": c.Token.Path != "", "token.shared": c.Token.Shared} {
		if set(key) && on && c.Token.Store != StoreFile {
			c.wrong(p, key, "is for token.store file, which is %s", c.Token.Store)
		}
	}
	if c.Token.Store == StoreFile && c.Token.Shared && c.Token.Path == "" {
		c.wrong(p, "token.shared", "needs token.path, the folder that all nodes share")
	}
	c.checkEtcd(p)
	if c.Token.Store != StoreRaft {
		return
	}
	switch n := len(c.Voters()); {
	case len(c.Peers) == 0:
		c.wrong(p, "token.store", "raft needs peers: a node that stands alone keeps its token in a file")
	case n < 3:
		c.wrong(p, "token.store", "raft with %d voters cannot outlive any of them: add a witness, or use file and promote by hand", n)
	case c.Token.Election < minElection:
		c.wrong(p, "token.election", "%v is less than %v: the leader would be given up for every hiccup", c.Token.Election, minElection)
	}
}

// checkEtcd: a password or certificate goes over an encrypted connection only.
func (c *Config) checkEtcd(p *problems) {
	e := &c.Token.Etcd
	if c.Token.Store != StoreEtcd {
		if len(e.Endpoints) > 0 {
			c.wrong(p, "token.etcd.endpoints", "is for token.store etcd, which is %s", c.Token.Store)
		}
		return
	}
	if len(e.Endpoints) == 0 && !p.unread["token.etcd.endpoints"] {
		c.wrong(p, "token.store", "etcd needs token.etcd.endpoints")
	}
	secure := false
	for _, u := range e.Endpoints {
		switch {
		case strings.HasPrefix(u, "https://"):
			secure = true
		case strings.HasPrefix(u, "http://"):
			if host := strings.TrimPrefix(u, "http://"); !loopback(host) && e.User != "" {
				c.wrong(p, "token.etcd.endpoints", "%s is in plain text, and the password would be, too: write https://", u)
			} else if !loopback(host) {
				c.Warnings = append(c.Warnings, fmt.Sprintf("token.etcd.endpoints: %s is in plain text: whoever reaches it can give the token away", u))
			}
		default:
			c.wrong(p, "token.etcd.endpoints", "%q begins with neither http:// nor https://", u)
		}
	}
	if (e.Cert == "") != (e.Key == "") {
		c.wrong(p, "token.etcd.cert", "cert and key go together")
	}
	if (e.CA != "" || e.Cert != "") && !secure && len(e.Endpoints) > 0 {
		c.wrong(p, "token.etcd.ca", "has no effect: none of the endpoints is https://")
	}
	if (e.User == "") != (e.PasswordFile == "") {
		c.wrong(p, "token.etcd.user", "user and password_file go together")
	}
	if e.PasswordFile != "" {
		password, err := readPassword(e.PasswordFile)
		if err != nil {
			c.wrong(p, "token.etcd.password_file", "%v", err)
		}
		e.Password = password
	}
}

// checkRole: a witness has neither clients nor a state.
func (c *Config) checkRole(p *problems) {
	if c.Role != RoleWitness {
		return
	}
	if len(c.Peers) == 0 {
		c.wrong(p, "role", "a witness needs peers")
	}
	if c.Token.Store == StoreFile {
		c.wrong(p, "role", "a witness votes on a token of store raft, or on who is alive for one of store etcd; with store file it has nothing to do")
	}
	for _, key := range []string{"client.socket", "client.tcp", "client.password_file", "client.acl_file", "apply_delay"} {
		if c.sources[key].kind != "default" {
			c.wrong(p, key, "has no effect on a witness, which serves no clients and holds no data")
		}
	}
	if c.Mode == ModeLagged {
		c.wrong(p, "mode", "lagged has no effect on a witness, which holds no data")
	}
}

// completeToken: nodes that fail over by themselves, or have a witness, need a token that all see, and have one in themselves when there are enough of them. A cluster in
// which a person promotes keeps what it has: with raft, promoting would need a majority where now the last active with k others is enough.
func (c *Config) completeToken() {
	for _, key := range []string{"token.store", "token.path", "token.shared"} {
		if c.sources[key].kind != "default" {
			return
		}
	}
	if len(c.Voters()) >= 3 && (c.Failover.Mode == "automatic" || len(c.DataNodes()) < len(c.Peers)) {
		c.Token.Store = StoreRaft
	}
}
