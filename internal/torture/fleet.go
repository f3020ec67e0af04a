package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
)

// layout says how the nodes of a scenario are made.
type layout struct {
	nodes []string
	k     int
	// data gives a node another data directory than the usual one.
	data map[string]string
	// addr gives nodes their addresses; default: free ports of loopback.
	addr func(node string) string
	// reach says under which address node from finds node to; default: addr.
	reach func(from, to string) string
	// wrap is put before the command line of a node.
	wrap      func(node string) []string
	automatic bool          // failover.mode
	patient   bool          // the default intervals of heartbeats, not shorter ones
	token     string        // where the token lives, as YAML; default: repld's
	stall     time.Duration // limits.stall, default as repld's
	cluster   string        // default torture
	segment   string        // bytes of a log segment, default 1MiB
	more      string        // lines of every configuration
}

// node is one repld and where it lives.
type node struct {
	name   string
	config string
	data   string
	client string // socket
	log    string
	addr   string
	admin  *admin.Client
	redis  *redis.Client
	proc   *process
	wrap   []string
}

// fleet is the nodes of one scenario.
type fleet struct {
	dir   string // configuration, logs
	socks string // short, for sockets
	order []string
	nodes map[string]*node
}

// small settings: segments rotate, memtables flush and waits end within a short test.
const settings = `insecure: true
wal: {segment_size: 1MiB, retain: 512MiB, memory_tail: 1MiB}
state: {memtable: 1MiB, cache: 8MiB}
limits: {commit_timeout: 3s}
`

// hasty finds failures sooner than the defaults do: more of them fit into a short test.
const hasty = "heartbeat: {interval: 50ms, epochs: 100ms}\n"

func newFleet(dir string, o Options, l layout) (*fleet, error) {
	socks, err := os.MkdirTemp("", "rt") // a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: dir, socks: socks, order: l.nodes, nodes: map[string]*node{}}
	for _, name := range l.nodes {
		n := &node{name: name, config: filepath.Join(dir, name+".yml"), data: filepath.Join(dir, name), log: filepath.Join(dir, name+".log")}
		if d := l.data[name]; d != "" {
			n.data = d
		}
		if l.addr != nil {
			n.addr = l.addr(name)
		} else if n.addr, err = freeAddr(); err != nil {
			return nil, err
		}
		if l.wrap != nil {
			n.wrap = l.wrap(name)
		}
		n.client = filepath.Join(socks, name+".sock")
		n.admin = admin.NewClient(filepath.Join(socks, name+".adm"))
		n.redis = redis.NewClient(clientOptions(n.client, 20*time.Second))
		f.nodes[name] = n
	}
	for _, n := range f.nodes {
		if err := os.WriteFile(n.config, []byte(f.configOf(n, o, l)), 0o644); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// clientOptions are those of a client that does not retry by itself.
func clientOptions(socket string, timeout time.Duration) *redis.Options {
	return &redis.Options{Network: "unix", Addr: socket, MaxRetries: -1, PoolSize: 1, DialTimeout: 2 * time.Second, ReadTimeout: timeout, WriteTimeout: timeout,
		DisableIdentity: true, Protocol: 2}
}

func (f *fleet) configOf(n *node, o Options, l layout) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("cluster: %s\nnode: %s\ndata: %s", cmp.Or(l.cluster, "torture"), n.name, n.data)
	if len(l.nodes) > 1 {
		line("listen: %q", n.addr)
		line("peers:")
		for _, name := range f.order {
			addr := f.nodes[name].addr
			if l.reach != nil && name != n.name {
				addr = l.reach(n.name, name)
			}
			line("  - {name: %s, addr: %q}", name, addr)
		}
		line("sync: {k: %d}", l.k)
	}
	line("client: {socket: %s}\nadmin: {socket: %s}", n.client, strings.TrimSuffix(n.client, ".sock")+".adm")
	b.WriteString(settings)
	if !l.patient {
		b.WriteString(hasty)
	}
	if l.token != "" {
		line("token: %s", l.token)
	}
	if l.automatic {
		line("failover: {mode: automatic, backoff: 0s}")
	}
	b.WriteString(l.more)
	text := b.String()
	if l.segment != "" {
		text = strings.Replace(text, "segment_size: 1MiB", "segment_size: "+l.segment, 1)
	}
	if l.stall > 0 {
		text = strings.Replace(text, "commit_timeout: 3s", "commit_timeout: 3s, stall: "+l.stall.String(), 1)
	}
	return text
}

// freeAddr finds a loopback port that nobody listens on now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// others are all nodes but one.
func (f *fleet) others(name string) (list []*node) {
	for _, n := range f.order {
		if n != name {
			list = append(list, f.nodes[n])
		}
	}
	return list
}

// start starts the node without waiting for it to answer.
func (n *node) start(bin string, env ...string) error {
	if n.proc.alive() {
		return fmt.Errorf("node %s runs already", n.name)
	}
	args := append(append([]string{}, n.wrap...), bin, "--config", n.config)
	p, err := launch(n.log, env, args...)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// status is what the node says of itself.
func (n *node) status(ctx context.Context) (admin.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := n.admin.Status(ctx, true)
	if err != nil {
		return admin.NodeStatus{}, err
	}
	if len(c.Nodes) != 1 {
		return admin.NodeStatus{}, fmt.Errorf("local status has %d rows", len(c.Nodes))
	}
	return c.Nodes[0], nil
}

// close ends everything, by force.
func (f *fleet) close() error {
	if f == nil {
		return nil
	}
	for _, n := range f.nodes {
		if n.proc.alive() {
			_ = n.proc.signal(syscall.SIGCONT)
			n.proc.kill()
		}
		n.admin.Close()
		_ = n.redis.Close()
	}
	return os.RemoveAll(f.socks)
}

// stop ends all nodes as a person would, and holds that they do it well.
func (f *fleet) stop() error {
	var errs []error
	for _, name := range f.order {
		if n := f.nodes[name]; n.proc.alive() {
			errs = append(errs, n.proc.signal(syscall.SIGTERM))
		}
	}
	for _, name := range f.order {
		n := f.nodes[name]
		if n.proc == nil {
			continue
		}
		if err := n.proc.ended(60 * time.Second); err != nil {
			errs = append(errs, fmt.Errorf("clean stop of %s: %w", name, err))
		} else if !n.proc.cmd.ProcessState.Success() {
			errs = append(errs, fmt.Errorf("clean stop of %s: it ended with %v", name, n.proc.cmd.ProcessState))
		}
	}
	return errors.Join(errs...)
}
