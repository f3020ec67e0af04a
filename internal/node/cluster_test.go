package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// TestMain lets many tests run at once: they wait far more than they compute.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8") // a number is valid
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for something that must happen before it says that it does not.
const patience = 30 * time.Second

// cluster runs nodes in this process, each on a file system of its own in memory, over loopback TCP, until the test ends.
type cluster struct {
	t     *testing.T
	names []string
	disks map[string]vfs.FS
	tune  func(name string, o *Options) // changes the options of a node; may be nil
	nodes map[string]*member            // those that run
	wire  wire
}

// member is a node that runs.
type member struct {
	*Node
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error // what Run returned; capacity 1
}

// newCluster declares a cluster with sync k. Nothing runs yet.
func newCluster(t *testing.T, k int, tune func(name string, o *Options), names ...string) *cluster {
	c := &cluster{t: t, names: names, disks: map[string]vfs.FS{}, nodes: map[string]*member{}}
	c.wire.at = map[string]string{}
	for _, n := range names {
		c.disks[n] = vfs.NewMem()
	}
	c.tune = func(name string, o *Options) {
		o.Sync.K = k
		if tune != nil {
			tune(name, o)
		}
	}
	t.Cleanup(func() {
		for _, n := range names {
			c.stop(n)
		}
	})
	return c
}

func (c *cluster) options(name string) Options {
	o := Options{
		Cluster: "shop", Name: name, Dir: "data", FS: c.disks[name], SegmentBytes: 256 << 10, StandbyReads: true,
		Gossip: 50 * time.Millisecond, Heartbeat: 50 * time.Millisecond,
		Sync: SyncOptions{ShrinkAfter: 200 * time.Millisecond}, Failover: FailoverOptions{LocalReads: true},
	}
	for _, p := range c.names {
		if p != name {
			o.Peers = append(o.Peers, Peer{Name: p, Addr: p})
		}
	}
	if len(o.Peers) > 0 {
		o.Listen, o.Dial = c.wire.listen(name), c.wire.dial
	}
	c.tune(name, &o)
	return o
}

// open opens a node without running it. The caller closes it.
func (c *cluster) open(name string) *Node {
	c.t.Helper()
	n, err := Open(c.options(name))
	if err != nil {
		c.t.Fatalf("open %s: %v", name, err)
	}
	return n
}

// start runs nodes, all of them without names.
func (c *cluster) start(names ...string) {
	c.t.Helper()
	if len(names) == 0 {
		names = c.names
	}
	for _, name := range names {
		ctx, cancel := context.WithCancel(context.Background())
		m := &member{Node: c.open(name), t: c.t, cancel: cancel, ended: make(chan error, 1)}
		go func() { m.ended <- m.Run(ctx) }()
		<-m.Ready()
		c.nodes[name] = m
	}
}

// stop ends a node, if it runs, and expects it to end well.
func (c *cluster) stop(name string) {
	c.t.Helper()
	m := c.nodes[name]
	if m == nil {
		return
	}
	delete(c.nodes, name)
	m.cancel()
	if err := <-m.ended; err != nil {
		c.t.Errorf("stop %s: %v", name, err)
	}
}

// forget takes a node out that is not stopped at the end: it ends by itself.
func (c *cluster) forget(name string) *member {
	m := c.nodes[name]
	delete(c.nodes, name)
	return m
}

// promote makes a node the active, without consent to anything, as soon as the rule allows it.
func (c *cluster) promote(name string) {
	c.t.Helper()
	until(c.t, func() error {
		_, err := c.nodes[name].promote(admin.PromoteRequest{})
		return err
	})
}

// settled waits until active is active and all other nodes that run have its log and count.
func (c *cluster) settled(active string) {
	c.t.Helper()
	until(c.t, func() error {
		a := c.nodes[active].group
		if !a.active() {
			return fmt.Errorf("%s is not active: %s", active, c)
		}
		for name, m := range c.nodes {
			g := m.group
			if name != active && (g.active() || g.follower.target() != active || g.fence.Epoch() != a.fence.Epoch() || !g.fence.Voter() || g.log.Durable() != a.log.Durable()) {
				return fmt.Errorf("%s does not follow %s: %s", name, active, c)
			}
		}
		return nil
	})
}

// String describes all nodes that run.
func (c *cluster) String() (s string) {
	for _, name := range c.names {
		if m := c.nodes[name]; m != nil {
			g := m.group
			s += fmt.Sprintf("[%s %s epoch=%d holder=%s follows=%q durable=%s voter=%t alarms=%v]", name, g.runner.Role(), g.fence.Epoch(), g.holder(),
				g.follower.target(), g.log.Durable(), g.fence.Voter(), g.alarms.list())
		}
	}
	return s
}

// three starts a, b and c with sync 1 and makes a the active.
func three(t *testing.T, tune func(name string, o *Options)) *cluster {
	t.Helper()
	c := newCluster(t, 1, tune, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	return c
}

func (m *member) promote(req admin.PromoteRequest) (admin.PromoteResult, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return m.Promote(ctx, req)
}

// write evaluates one record and returns its outcome.
func (m *member) write(fn func(*kv.Txn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	m.group.seq.submit(ctx, func(s server.Sequence) error { return s.Record(time.Now(), fn) }, func(_ wal.LSN, err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errors.New("a write got no answer (R12)")
	}
}

func (m *member) set(key, value string) error {
	return m.write(func(t *kv.Txn) error { return t.Set([]byte(key), []byte(value), 0) })
}

// mustSet writes keys, each with its own name as the value, as soon as the node takes them.
func (m *member) mustSet(keys ...string) {
	m.t.Helper()
	for _, k := range keys {
		until(m.t, func() error { return m.set(k, k) })
	}
}

// get reads a key from a node that need not be the active; "" if there is none.
func (m *member) get(key string) string {
	m.t.Helper()
	return read(m.t, m.Node, key)
}

func read(t *testing.T, n *Node, key string) string {
	t.Helper()
	v, err := newBackend(n.group).View(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	e, _, err := v.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(e.Value)
}

// until waits for the condition.
func until(t *testing.T, holds func() error) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// soon fails unless c yields in time.
func soon[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("%s does not come", what)
	}
	return v
}

// wire is the network between the nodes. A node is dialled by its name, so that one that is started again may listen on another port.
type wire struct {
	mu    sync.Mutex
	at    map[string]string // where a node listens
	cut   bool
	conns []net.Conn
}

func (w *wire) listen(name string) func() (net.Listener, error) {
	return func() (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.at[name] = l.Addr().String()
		}
		return l, err
	}
}

func (w *wire) dial(ctx context.Context, name string) (net.Conn, error) {
	w.mu.Lock()
	at, cut := w.at[name], w.cut
	w.mu.Unlock()
	if at == "" || cut {
		return nil, errors.New("no route")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.Join(errors.New("no route"), conn.Close())
	}
	w.conns = append(w.conns, conn)
	return conn, nil
}

// partition separates all nodes from each other.
func (w *wire) partition() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		_ = c.Close() // whichever end is closed already
	}
	w.conns = nil
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// verified has all nodes digest their states at one mark.
func (m *member) verified(ctx context.Context) (admin.VerifyResult, error) {
	return adminAPI{m.group}.Verify(ctx, admin.VerifyRequest{}, func(admin.Event) {})
}
