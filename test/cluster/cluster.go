// Package cluster starts whole clusters for tests from one declarative Spec: as real processes of the real binaries, or in process.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
	"repld/wal"
)

// Spec declares a cluster.
type Spec struct {
	Nodes        []NodeSpec
	K            int           // sync k of every node
	Automatic    bool          // failover.mode automatic, with a token store that the nodes share
	Token        string        // section token in YAML's flow style, like {store: raft}; default: as Automatic says. Only for processes
	Shrink       time.Duration // sync.policy shrink after so long, 0 = block; needs a token store that the nodes share. Only for processes
	Failover     string        // more settings of the section failover, as YAML lines with two spaces before them; only for processes
	Client       string        // more settings of the section client, as YAML lines with two spaces before them; only for processes
	StandbyReads bool          // standbys serve reads
	SentinelTLS  string        // certificate of the Sentinel API, its key beside it: FILE.crt, FILE.key
	Sentinel     bool          // clients reach each node over TCP too, and each node serves the Sentinel API for the group "test"
	Forward      bool          // standbys forward the commands of clients on their sockets to the active
	Segment      int64         // bytes of a log segment, 0 = default
	Retain       int64         // log budget in bytes, 0 = default
	Commit       time.Duration // commit timeout, 0 = default
	Stall        time.Duration // stall limit, 0 = default
	Plain        bool          // nodes talk in plain text, for proxies that look into it; else TLS with certificates of the cluster's own
}

// NodeSpec declares a node.
type NodeSpec struct {
	Name  string
	Delay time.Duration // lagged by so much, 0 = hot
	// Witness: it holds no data; only for processes. MustPromote and the like are not for it.
	Witness bool
}

// Witness declares a node without data.
func Witness(name string) NodeSpec { return NodeSpec{Name: name, Witness: true} }

// Hot declares hot nodes with these names.
func Hot(names ...string) []NodeSpec {
	var all []NodeSpec
	for _, n := range names {
		all = append(all, NodeSpec{Name: n})
	}
	return all
}

// runner is how a node's life is driven.
type runner interface {
	start() error
	stop() error  // gracefully
	kill() error  // at once; only for processes
	pause() error // SIGSTOP
	resume() error
	alive() bool
}

// Cluster is a running cluster below one folder; it is torn down with the test.
type Cluster struct {
	t     testing.TB
	Spec  Spec
	Dir   string
	nodes map[string]*Node
	order []string
}

// Node is one node of a Cluster.
type Node struct {
	Name   string
	Dir    string // its data directory
	Addr   string // peers
	Socket string // clients
	TCP    string // clients, with Spec.Sentinel
	Guide  string // its Sentinel API, with Spec.Sentinel
	admin  string
	c      *Cluster
	spec   NodeSpec
	runner runner
	client *redis.Client
}

// Processes starts each node as a process of the repld binary. The nodes start as standbys of nobody.
func Processes(t testing.TB, spec Spec) *Cluster {
	bin := Binary(t, "repld")
	return start(t, spec, func(n *Node) runner { return &process{t: t, node: n, bin: bin} })
}

// InProcess starts each node in this process, on real files and sockets.
func InProcess(t testing.TB, spec Spec) *Cluster {
	return start(t, spec, func(n *Node) runner { return &inProcess{node: n} })
}

func start(t testing.TB, spec Spec, make func(*Node) runner) *Cluster {
	t.Helper()
	// Not t.TempDir: unix socket paths must stay short.
	dir, err := os.MkdirTemp("", "repld")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, Spec: spec, Dir: dir, nodes: map[string]*Node{}}
	t.Cleanup(c.close)
	for _, s := range spec.Nodes {
		n := &Node{Name: s.Name, Dir: filepath.Join(dir, s.Name), Addr: FreeAddr(t), c: c, spec: s}
		n.Socket, n.admin = filepath.Join(dir, s.Name+".sock"), filepath.Join(dir, s.Name+".adm")
		n.client = redis.NewClient(&redis.Options{Network: "unix", Addr: n.Socket, MaxRetries: -1, ReadTimeout: 30 * time.Second, DisableIdentity: true})
		if spec.Sentinel {
			n.TCP, n.Guide = FreeAddr(t), FreeAddr(t)
		}
		c.nodes[s.Name] = n
		c.order = append(c.order, s.Name)
	}
	if c.secure() {
		if err := c.issue(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range c.order {
		n := c.nodes[name]
		n.runner = make(n)
		if s := &c.Spec; s.Automatic {
			if err := os.MkdirAll(c.tokenDir(), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		n.Start()
	}
	c.WaitMeshed()
	return c
}

// tokenDir is where a cluster with Automatic has its token.
func (c *Cluster) tokenDir() string { return filepath.Join(c.Dir, "token") }

// WaitActive waits until one node, not among those given, is active at an epoch above epoch, and returns it.
func (c *Cluster) WaitActive(epoch wal.Epoch, limit time.Duration, not ...string) (*Node, admin.NodeStatus) {
	c.t.Helper()
	var found *Node
	var status admin.NodeStatus
	Until(c.t, limit, func() error {
		said := ""
		for _, n := range c.Nodes() {
			if slices.Contains(not, n.Name) || !n.Alive() {
				continue
			}
			s, err := n.Status()
			if err == nil && s.Role == admin.RoleActive && s.Epoch > epoch {
				found, status = n, s
				return nil
			}
			said += fmt.Sprintf(" [%s: %s at epoch %d, %v]", n.Name, s.Role, s.Epoch, err)
		}
		return fmt.Errorf("nobody is active above epoch %d:%s", epoch, said)
	})
	return found, status
}

// WaitMeshed waits until every node reaches every other one.
func (c *Cluster) WaitMeshed() {
	c.t.Helper()
	for _, n := range c.Nodes() {
		Until(c.t, 20*time.Second, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			a := n.Admin()
			defer a.Close()
			s, err := a.Status(ctx, false)
			if err != nil {
				return err
			}
			for _, row := range s.Nodes {
				if row.Error != "" {
					return fmt.Errorf("%s does not reach %s: %s", n.Name, row.Node, row.Error)
				}
			}
			return nil
		})
	}
}

func (c *Cluster) close() {
	for _, name := range c.order {
		n := c.nodes[name]
		if n.client != nil {
			_ = n.client.Close()
		}
		if n.runner != nil && n.runner.alive() {
			_ = n.runner.resume()
			if err := n.runner.stop(); err != nil {
				c.t.Errorf("stop node %s: %v", n.Name, err)
			}
		}
	}
	if c.t.Failed() {
		c.t.Logf("cluster kept in %s", c.Dir)
		return
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		c.t.Errorf("remove %s: %v", c.Dir, err)
	}
}

// Node returns a node by name.
func (c *Cluster) Node(name string) *Node {
	n := c.nodes[name]
	if n == nil {
		c.t.Fatalf("no node %q", name)
	}
	return n
}

// Others returns all nodes but one.
func (c *Cluster) Others(name string) []*Node {
	var all []*Node
	for _, o := range c.order {
		if o != name {
			all = append(all, c.nodes[o])
		}
	}
	return all
}

// Nodes returns all nodes in order.
func (c *Cluster) Nodes() []*Node { return c.Others("") }

// Start starts the node and waits until its admin API answers.
func (n *Node) Start() {
	n.c.t.Helper()
	if err := n.runner.start(); err != nil {
		n.c.t.Fatalf("start node %s: %v", n.Name, err)
	}
	Until(n.c.t, 20*time.Second, func() error {
		if !n.runner.alive() {
			n.c.t.Fatalf("node %s ended while it started", n.Name)
		}
		_, err := n.Status()
		return err
	})
}

// TryStart starts the node without waiting for it to answer.
func (n *Node) TryStart() error { return n.runner.start() }

// Stop stops the node gracefully.
func (n *Node) Stop() {
	n.c.t.Helper()
	if err := n.runner.stop(); err != nil {
		n.c.t.Fatalf("stop node %s: %v", n.Name, err)
	}
}

// Kill ends the node's process with SIGKILL.
func (n *Node) Kill() { n.must("kill", n.runner.kill()) }

// Pause stops the process with SIGSTOP.
func (n *Node) Pause() { n.must("pause", n.runner.pause()) }

// Resume continues it with SIGCONT.
func (n *Node) Resume() { n.must("resume", n.runner.resume()) }

// Alive reports whether the node runs.
func (n *Node) Alive() bool { return n.runner.alive() }

// Wipe removes the data directory of a node that does not run.
func (n *Node) Wipe() {
	if n.Alive() {
		n.c.t.Fatalf("wipe node %s: it runs", n.Name)
	}
	n.must("wipe", os.RemoveAll(n.Dir))
}

func (n *Node) must(what string, err error) {
	n.c.t.Helper()
	if err != nil {
		n.c.t.Fatalf("%s node %s: %v", what, n.Name, err)
	}
}

// Redis is a real client on the node's socket that does not retry by itself.
func (n *Node) Redis() *redis.Client { return n.client }

// Admin is a client of the node's admin API.
func (n *Node) Admin() *admin.Client { return admin.NewClient(n.admin) }

// Config is the path of the node's configuration file.
func (n *Node) Config() string { return filepath.Join(n.c.Dir, n.Name+".yml") }

// AdminSocket is the path of the admin API's socket.
func (n *Node) AdminSocket() string { return n.admin }

// Status is what the node says of itself.
func (n *Node) Status() (admin.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a := n.Admin()
	defer a.Close()
	c, err := a.Status(ctx, true)
	if err != nil {
		return admin.NodeStatus{}, err
	}
	if len(c.Nodes) != 1 {
		return admin.NodeStatus{}, fmt.Errorf("local status has %d rows", len(c.Nodes))
	}
	return c.Nodes[0], nil
}

// Promote promotes the node and returns how it came out.
func (n *Node) Promote(req admin.PromoteRequest) (admin.PromoteResult, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	a := n.Admin()
	defer a.Close()
	return a.Promote(ctx, req, nil)
}

// MustPromote promotes the node or fails the test.
func (n *Node) MustPromote() admin.PromoteResult {
	n.c.t.Helper()
	var r admin.PromoteResult
	Until(n.c.t, 30*time.Second, func() (err error) {
		r, err = n.Promote(admin.PromoteRequest{Reason: "test"})
		return err
	})
	return r
}

// WaitCaughtUp waits until the node follows, votes, and has applied all that was committed when it is called.
func (n *Node) WaitCaughtUp(active *Node, limit time.Duration) {
	n.c.t.Helper()
	target, err := active.Status()
	n.must("status of active for", err)
	Until(n.c.t, limit, func() error {
		s, err := n.Status()
		if err != nil {
			return err
		}
		if s.Epoch != target.Epoch || !s.Voter || s.Durable.LSN < target.Committed || s.Applied.LSN < target.Committed {
			return fmt.Errorf("node %s: epoch %d voter %t durable %d applied %d link %s, want epoch %d lsn %d",
				n.Name, s.Epoch, s.Voter, s.Durable.LSN, s.Applied.LSN, s.Link, target.Epoch, target.Committed)
		}
		return nil
	})
}

// Verify has the cluster prove that its copies agree.
func (n *Node) Verify() admin.VerifyResult {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	a := n.Admin()
	defer a.Close()
	v, err := a.Verify(ctx, admin.VerifyRequest{WaitSeconds: 60}, nil)
	n.must("verify on", err)
	if !v.OK {
		n.c.t.Fatalf("copies differ: %v %+v", v.Notes, v.Nodes)
	}
	return v
}

// Until calls ok until it returns nil; the test fails with its last error when that takes longer than limit.
func Until(t testing.TB, limit time.Duration, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", limit, err)
		}
		<-pause.C
	}
}

// FreeAddr returns a loopback address that nobody listens on just now.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var errNotAProcess = errors.New("only a process can be killed or paused")
