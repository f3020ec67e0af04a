package raftstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"repld/failover"
	"repld/failover/tokentest"
)

// TestMain lets the tests run at once: they wait far more than they compute.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "8") // a number is valid
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

// cluster runs voters in this process, each on a file system of its own, over pipes.
type cluster struct {
	t     *testing.T
	names []string
	disks map[string]vfs.FS
	tune  func(*Options)

	mu    sync.Mutex
	up    map[string]*voter
	cut   map[string]bool // cut off from all others
	ice   map[string]bool // stands still: what is sent to it or by it goes nowhere, and nobody is told
	conns map[string][]net.Conn
}

// voter is one that runs.
type voter struct {
	*Store
	stop  context.CancelFunc
	ended chan error
	fatal chan error
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, names: names, disks: map[string]vfs.FS{}, up: map[string]*voter{}, cut: map[string]bool{}, ice: map[string]bool{}, conns: map[string][]net.Conn{}}
	for _, n := range names {
		c.disks[n] = newDisk(t)
	}
	t.Cleanup(func() {
		for _, n := range names {
			c.stop(n)
		}
	})
	return c
}

func newDisk(t *testing.T) vfs.FS {
	fs := vfs.NewMem()
	if err := fs.MkdirAll("raft", 0o755); err != nil {
		t.Fatal(err)
	}
	return fs
}

func (c *cluster) open(name string) (*voter, error) {
	v := &voter{ended: make(chan error, 1), fatal: make(chan error, 1)}
	o := Options{
		FS: c.disks[name], Dir: "raft", Node: name, Voters: c.names, Election: 150 * time.Millisecond,
		Dial:      func(ctx context.Context, to, kind string) (net.Conn, error) { return c.dial(name, to, kind) },
		Connected: func(to string) bool { return c.connected(name, to) },
		OnFatal:   func(err error) { v.fatal <- err },
	}
	if c.tune != nil {
		c.tune(&o)
	}
	s, err := Open(o)
	v.Store = s
	return v, err
}

func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		v, err := c.open(name)
		if err != nil {
			c.t.Fatalf("open %s: %v", name, err)
		}
		c.run(name, v)
	}
}

func (c *cluster) run(name string, v *voter) {
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	go func() { v.ended <- v.Run(ctx) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.up[name] = v
}

// stop ends a voter cleanly.
func (c *cluster) stop(name string) {
	v := c.take(name)
	if v == nil {
		return
	}
	v.stop()
	if err := <-v.ended; err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
	if err := v.Close(); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
	c.hangUp(name)
}

// kill ends a voter without its taking leave.
func (c *cluster) kill(name string) {
	v := c.take(name)
	c.hangUp(name)
	_ = v.Close()
	v.stop()
	<-v.ended
}

func (c *cluster) take(name string) *voter {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.up[name]
	delete(c.up, name)
	return v
}

func (c *cluster) connected(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up[from] != nil && c.up[to] != nil && !c.cut[from] && !c.cut[to]
}

func (c *cluster) dial(from, to, kind string) (net.Conn, error) {
	if !c.connected(from, to) {
		return nil, errors.New("no session")
	}
	p, q := net.Pipe()
	lost := func() bool { return c.frozen(from, to) }
	a, b := net.Conn(&sieve{p, lost}), net.Conn(&sieve{q, lost})
	c.mu.Lock()
	v := c.up[to]
	c.conns[from], c.conns[to] = append(c.conns[from], a), append(c.conns[to], b)
	c.mu.Unlock()
	if v == nil {
		return nil, errors.Join(errors.New("no session"), a.Close(), b.Close())
	}
	go v.Handle(from, kind, b)
	return a, nil
}

// sieve loses what is written while lost says so.
type sieve struct {
	net.Conn
	lost func() bool
}

func (s *sieve) Write(b []byte) (int, error) {
	if s.lost() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

func (c *cluster) frozen(a, b string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ice[a] || c.ice[b]
}

// freeze has a voter stand still, as far as the others can tell; thaw ends it, and every connection.
func (c *cluster) freeze(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ice[name] = true
}

func (c *cluster) thaw(name string) {
	c.mu.Lock()
	c.ice[name] = false
	c.mu.Unlock()
	c.hangUp(name)
}

func (c *cluster) hangUp(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.conns[name] {
		_ = x.Close()
	}
	c.conns[name] = nil
}

// isolate cuts a voter off; heal undoes it.
func (c *cluster) isolate(name string) {
	c.mu.Lock()
	c.cut[name] = true
	c.mu.Unlock()
	c.hangUp(name)
}

func (c *cluster) heal(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[name] = false
}

func (c *cluster) get(name string) *voter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up[name]
}

// leader waits for one that all voters that run and are not cut off agree upon.
func (c *cluster) leader() (name string) {
	c.t.Helper()
	c.until(func() error {
		name = ""
		for _, n := range c.names {
			v := c.get(n)
			if v == nil || c.isCut(n) {
				continue
			}
			l := v.hello().Leader
			if l == "" || name != "" && l != name || c.get(l) == nil || c.isCut(l) {
				return fmt.Errorf("%s: leader %q, another says %q, waits for: %s", n, l, name, *v.state.Load())
			}
			name = l
		}
		return nil
	})
	return name
}

func (c *cluster) isCut(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[name]
}

// follower is a voter that runs and does not lead.
func (c *cluster) follower(leader string) string {
	for _, n := range c.names {
		if n != leader && c.get(n) != nil && !c.isCut(n) {
			return n
		}
	}
	c.t.Fatal("no follower")
	return ""
}

func (c *cluster) until(holds func() error) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			c.t.Fatal(err)
		}
	}
}

// set takes the next epoch for holder through a voter.
func (c *cluster) set(through, holder string) failover.Record {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := c.get(through)
	cur, err := s.Load(ctx)
	if err != nil {
		c.t.Fatalf("load through %s: %v", through, err)
	}
	rec, err := s.CompareAndSet(ctx, cur.Rev, tokentest.Next(cur.Epoch+1, holder))
	if err != nil {
		c.t.Fatalf("set through %s: %v", through, err)
	}
	return rec
}

// loads waits until every voter that runs loads rec.
func (c *cluster) loads(want failover.Record) {
	c.t.Helper()
	for _, n := range c.names {
		v := c.get(n)
		if v == nil || c.isCut(n) {
			continue
		}
		c.until(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			got, err := v.Load(ctx)
			if err != nil || got.Rev != want.Rev || got.Epoch != want.Epoch || got.Holder != want.Holder {
				return fmt.Errorf("%s loads %+v, %v; want %+v", n, got, err, want)
			}
			return nil
		})
	}
}

func voterNames(n int) []string {
	all := []string{"a", "b", "c", "d", "e"}
	return slices.Clone(all[:max(3, n)])
}
