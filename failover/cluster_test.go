package failover

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// memCluster is three nodes with real runners, fences and token files; only the log is reduced to its end.
type memCluster struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[string]*memNode
	open  map[wal.Epoch]string // who ever let clients write in an epoch
	stop  []func()
}

// memNode implements Host.
type memNode struct {
	c      *memCluster
	name   string
	fence  *Fence
	runner *Runner
	end    wal.Position // guarded by c.mu
	down   bool         // guarded by c.mu
}

func newMemCluster(t *testing.T, shared bool) *memCluster {
	t.Helper()
	c := &memCluster{t: t, nodes: make(map[string]*memNode), open: make(map[wal.Epoch]string)}
	fs := vfs.NewMem()
	for _, name := range names[:3] {
		token := name + "/token"
		if shared {
			token = "token"
		}
		for _, dir := range []string{name, token} {
			if err := fs.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		slots, _, err := OpenSlots(SlotsOptions{FS: fs, Dir: name, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		store, err := OpenFileStore(FileStoreOptions{FS: fs, Dir: token, Shared: shared})
		if err != nil {
			t.Fatal(err)
		}
		n := &memNode{c: c, name: name, fence: NewFence(slots)}
		n.runner, err = NewRunner(RunnerOptions{Node: name, Nodes: names[:3], Host: n, Fence: n.fence, Store: store,
			Next: func() wal.SyncSet { return wal.SyncSet{Members: names[:3], K: 1} }})
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[name] = n
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.runner.Run(ctx) }()
		c.stop = append(c.stop, func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	return c
}

func (n *memNode) answer() Answer {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.down {
		return Answer{Node: n.name, Err: "down"}
	}
	a := n.fence.State().Answer(n.name)
	a.Position, a.Blank, a.Role = n.end, n.end.LSN == 0, n.runner.Role()
	return a
}

func (n *memNode) Survey(context.Context) []Answer {
	var out []Answer
	for _, name := range names[:3] {
		out = append(out, n.c.nodes[name].answer())
	}
	return out
}

func (n *memNode) FencePeers(ctx context.Context, e wal.Epoch, candidate string, next wal.SyncSet) []Answer {
	for _, name := range names[:3] {
		if p := n.c.nodes[name]; p != n && p.answer().Reachable {
			_ = p.fence.Grant(e, candidate, next) // a refusal shows in the answer
		}
	}
	return n.Survey(ctx)
}

func (n *memNode) FastForward(_ context.Context, _ string, to wal.Position, _ func(string)) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.end = to
	return nil
}

// StartEpoch appends one record and has the standbys that obey ack it.
func (n *memNode) StartEpoch(_ context.Context, s wal.EpochStart) (wal.LSN, error) {
	end := wal.Position{Epoch: s.Epoch, LSN: s.Previous.LSN + 1, Hash: wal.Hash(s.Epoch)}
	if err := n.fence.Observe(s.Epoch, n.name, s.Sync); err != nil {
		return 0, err
	}
	acks := 0
	for _, m := range s.Sync.Members {
		p := n.c.nodes[m]
		if p.answer().Reachable && p.fence.Observe(s.Epoch, n.name, s.Sync) == nil {
			acks++
			n.c.mu.Lock()
			p.end = end
			n.c.mu.Unlock()
			_ = p.fence.SetVoter(true)
		}
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.end = end
	if acks < s.Sync.K {
		return 0, errors.New("not committed")
	}
	return end.LSN, nil
}

func (n *memNode) OpenClients(e wal.Epoch) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if h, ok := n.c.open[e]; ok {
		n.c.t.Errorf("epoch %d was opened by %s and %s (R2)", e, h, n.name)
	}
	n.c.open[e] = n.name
}

// HandOver promotes the target as a node does that is asked over the network.
func (n *memNode) HandOver(ctx context.Context, to string, at wal.Position) (wal.Epoch, error) {
	if got := n.c.nodes[to].answer().Position; got != at {
		return 0, errors.New("not caught up")
	}
	res, err := n.c.nodes[to].runner.Promote(ctx, PromoteOptions{Reason: "switchover"}, nil)
	return res.Epoch, err
}

func (n *memNode) Drain(context.Context, string) (wal.Position, error) {
	return n.answer().Position, nil
}
func (n *memNode) StopFollowing(context.Context) error        { return nil }
func (n *memNode) Replay(context.Context, func(string)) error { return nil }
func (n *memNode) StopWriter(context.Context) error           { return nil }
func (n *memNode) CloseClients(string)                        {}
func (n *memNode) PauseWrites()                               {}
func (n *memNode) ResumeWrites()                              {}
func (n *memNode) Follow(string, wal.Epoch)                   {}
func (n *memNode) Exit(err error)                             { n.c.t.Errorf("%s exits: %v", n.name, err) }

func (c *memCluster) close() {
	for _, stop := range c.stop {
		stop()
	}
}

// active lists who is active.
func (c *memCluster) active() []string {
	synctest.Wait()
	var out []string
	for _, name := range names[:3] {
		if c.nodes[name].runner.Role() == RoleActive {
			out = append(out, name)
		}
	}
	return out
}

// R2, R5, R11, R15 with real parts: a new cluster, a planned and an unplanned change, the return of the old active.
func TestClusterLife(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newMemCluster(t, shared)
			defer c.close()
			ctx := t.Context()
			if res, err := c.nodes["a"].runner.Promote(ctx, PromoteOptions{Reason: "new"}, nil); err != nil || !res.Plan.Bootstrap || res.Epoch != 1 {
				t.Fatalf("%+v, %v", res, err)
			}
			if e, err := c.nodes["a"].runner.Switchover(ctx, "b", nil); err != nil || e != 2 {
				t.Fatalf("epoch %d, %v", e, err)
			}
			if got := c.active(); len(got) != 1 || got[0] != "b" {
				t.Fatalf("active: %v", got)
			}
			c.mu.Lock()
			c.nodes["b"].down = true // cut off: it still believes to be active
			c.mu.Unlock()
			if res, err := c.nodes["c"].runner.Promote(ctx, PromoteOptions{Reason: "b is cut off"}, nil); err != nil || res.Epoch != 3 {
				t.Fatalf("%+v, %v", res, err)
			}
			// b is told by the first frame of c that reaches it, and steps down.
			if err := c.nodes["b"].fence.Observe(3, "c", c.nodes["c"].fence.State().Sync()); err != nil {
				t.Fatal(err)
			}
			if got := c.active(); len(got) != 1 || got[0] != "c" {
				t.Fatalf("active: %v", got)
			}
		})
	}
}

// H7, R2: promoted on two nodes at once, as often as it takes for the steps to fall in many orders.
// Faults: H7 (two candidates at once, their steps in many orders)
func TestClusterPromotedTwiceAtOnce(t *testing.T) {
	for round := range 40 {
		synctest.Test(t, func(t *testing.T) {
			c := newMemCluster(t, round%2 == 0)
			defer c.close()
			if _, err := c.nodes["a"].runner.Promote(t.Context(), PromoteOptions{Reason: "new"}, nil); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for _, name := range []string{"b", "c"} {
				wg.Go(func() {
					_, _ = c.nodes[name].runner.Promote(context.Background(), PromoteOptions{Reason: "twice"}, nil)
				})
			}
			wg.Wait()
			if got := c.active(); len(got) > 1 {
				t.Fatalf("round %d: active: %v, opened %v", round, got, c.open)
			}
		})
	}
}
