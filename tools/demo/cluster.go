package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/certs"
	"repld/wal"
)

// node is one repld and where it lives.
type node struct {
	name   string
	config string
	data   string
	client string // socket
	log    string
	admin  *admin.Client
	proc   *process
}

// cluster is the three nodes.
type cluster struct {
	bin   string
	dir   string
	delay time.Duration // of c
	nodes map[string]*node
}

var names = []string{"a", "b", "c"}

// applyDelay is how far c's state stays behind.
const applyDelay = 3 * time.Second

// newCluster writes the configurations of three nodes, c of which applies delay later.
func newCluster(bin, dir string, delay time.Duration) (*cluster, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(len(names))
	if err != nil {
		return nil, err
	}
	var peers strings.Builder
	for i, name := range names {
		fmt.Fprintf(&peers, "  - {name: %s, addr: \"127.0.0.1:%d\", client: %q}\n", name, ports[i], filepath.Join(dir, name+".sock"))
	}
	tls := filepath.Join(dir, "tls")
	if _, err := certs.InitCA(certs.Request{Dir: tls, Cluster: "demo"}); err != nil {
		return nil, err
	}
	c := &cluster{bin: bin, dir: dir, delay: delay, nodes: map[string]*node{}}
	for _, name := range names {
		n := &node{name: name, config: filepath.Join(dir, name+".yml"), data: filepath.Join(dir, name), client: filepath.Join(dir, name+".sock"), log: filepath.Join(dir, name+".log")}
		socket := filepath.Join(dir, name+".adm")
		n.admin = admin.NewClient(socket)
		mode := "mode: hot"
		if name == "c" {
			mode = "mode: lagged\napply_delay: " + delay.String()
		}
		if _, err := certs.Issue(certs.Request{Dir: tls, Node: name}); err != nil {
			return nil, err
		}
		text := fmt.Sprintf("cluster: demo\nnode: %s\ndata: %s\n%s\npeers:\n%stls: {ca: tls/ca.crt, cert: tls/%s.crt, key: tls/%s.key}\nsync: {k: 1}\nclient: {socket: %s}\nadmin: {socket: %s}\n",
			name, n.data, mode, peers.String(), name, name, n.client, socket)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(n.config, []byte(text), 0o644); err != nil {
			return nil, err
		}
		c.nodes[name] = n
	}
	return c, nil
}

// freePorts finds loopback ports that nobody listens on now.
func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out, nil
}

func (c *cluster) start(name string) error {
	n := c.nodes[name]
	p, err := start(n.log, filepath.Join(c.bin, "repld"), "--config", n.config)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// kill ends all children and waits for them.
func (c *cluster) kill() {
	for _, n := range c.nodes {
		n.proc.kill()
		n.admin.Close()
	}
}

func (c *cluster) showLogs() {
	for _, name := range names {
		text, err := os.ReadFile(c.nodes[name].log)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) > 15 {
			lines = lines[len(lines)-15:]
		}
		fmt.Fprintf(os.Stderr, "--- last lines of %s\n%s\n", c.nodes[name].log, strings.Join(lines, "\n"))
	}
}

// replctl runs the real binary and returns what it printed.
func (c *cluster) replctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "replctl"), args...)
	var out, both bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &both
	err := cmd.Run()
	if err != nil {
		return out.String(), fmt.Errorf("replctl %s: %w\n%s%s", strings.Join(args, " "), err, both.String(), out.String())
	}
	return out.String(), nil
}

// status is what the node says of itself.
func (n *node) status(ctx context.Context) (admin.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := n.admin.Status(ctx, true)
	if err != nil {
		return admin.NodeStatus{}, err
	}
	for _, x := range st.Nodes {
		if x.Node == n.name {
			return x, nil
		}
	}
	return admin.NodeStatus{}, fmt.Errorf("%s says nothing of itself", n.name)
}

// epochOnDisk reads the epoch of a node that does not run, from a copy: opening the slots themselves could repair them.
func (n *node) epochOnDisk() (wal.Epoch, error) {
	text, err := os.ReadFile(filepath.Join(n.data, "groups", "default", "epoch"))
	if err != nil {
		return 0, err
	}
	mem := vfs.NewMem()
	f, err := mem.Create("epoch", vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	if _, err := f.Write(text); err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	slots, _, err := failover.OpenSlots(failover.SlotsOptions{FS: mem, Dir: "/"})
	if err != nil {
		return 0, err
	}
	defer slots.Close()
	return slots.State().Epoch(), nil
}

// waitFor polls until ok returns true; what says what is waited for.
func waitFor(ctx context.Context, limit time.Duration, what string, ok func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		good, err := ok(ctx)
		if good {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for this in vain: %s (last: %v)", limit, what, last)
		case <-tick.C:
		}
	}
}
