package heartbeat

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"repld/failover"
)

// site is one node of a test: an agent, and what it was told.
type site struct {
	name     string
	agent    *Agent
	answered chan Response
	lost     atomic.Int64
	refused  atomic.Int64
	vote     failover.Vote
}

// fabric connects sites by pipes.
type fabric struct {
	mu    sync.Mutex
	sites map[string]*site
	conns []net.Conn
	down  map[string]bool // refuses dials
	drop  map[string]bool // dials hang
}

func (f *fabric) dial(ctx context.Context, from, to string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down[to] {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	if f.drop[to] {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, ctx.Err()
	}
	a, b := net.Pipe()
	f.conns = append(f.conns, b)
	s := f.sites[to]
	go func() {
		s.agent.Serve(from, b)
		_ = b.Close()
	}()
	return a, nil
}

// kill closes all connections that end at the site, as the kernel does, and refuses new ones.
func (f *fabric) kill(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[name] = true
	for _, c := range f.conns {
		_ = c.Close()
	}
}

func newFabric(t *testing.T, ctx context.Context, names ...string) *fabric {
	f := &fabric{sites: map[string]*site{}, down: map[string]bool{}, drop: map[string]bool{}}
	began := time.Now()
	for _, n := range names {
		s := &site{name: n, answered: make(chan Response, 1000), vote: failover.Vote{Support: true}}
		var peers []string
		for _, p := range names {
			if p != n {
				peers = append(peers, p)
			}
		}
		var err error
		s.agent, err = NewAgent(Options{
			Peers: peers,
			Dial:  func(ctx context.Context, p string) (net.Conn, error) { return f.dial(ctx, n, p) },
			Beat:  func() failover.Beat { return failover.Beat{Node: n} },
			Clock: func() failover.Mono { return failover.Mono(time.Since(began)) },
			Answer: func(_ string, r Request) Response {
				out := Response{Beat: failover.Beat{Node: n}}
				if r.Poll != nil {
					v := s.vote
					out.Vote = &v
				}
				return out
			},
			Answered: func(_ string, r Response, _ failover.Mono, _ bool) { s.answered <- r },
			Lost:     func(string) { s.lost.Add(1) },
			Refused:  func(string) { s.refused.Add(1) },
		})
		if err != nil {
			t.Fatal(err)
		}
		f.sites[n] = s
	}
	return f
}

// TestAgent holds what the detector relies on: an answer each interval, a poll answered by each peer or said to be unanswerable at once, and a dead process proven within
// an interval: a loss, then a refusal. A host that drops packets is neither.
func TestAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFabric(t, ctx, "a", "b", "c")
		var all sync.WaitGroup
		for _, n := range []string{"a", "b"} { // c only answers
			all.Go(func() { _ = f.sites[n].agent.Run(ctx) })
		}
		a := f.sites["a"]
		time.Sleep(1050 * time.Millisecond)
		synctest.Wait()
		if n := len(a.answered); n < 20 || n > 24 {
			t.Errorf("%d answers of two peers in 1.05 s, want about 22", n)
		}
		votes := make(chan *failover.Vote, 2)
		f.sites["c"].vote = failover.Vote{Reason: "no"}
		began := time.Now()
		a.agent.Poll(failover.Poll{Candidate: "a"}, func(_ string, v *failover.Vote) { votes <- v })
		x, y := <-votes, <-votes
		if x == nil || y == nil || x.Support == y.Support || time.Since(began) > 10*time.Millisecond {
			t.Errorf("votes %v %v after %s", x, y, time.Since(began))
		}
		f.kill("c")
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if a.lost.Load() == 0 || a.refused.Load() == 0 {
			t.Errorf("a process that died was not proven dead within 20 ms: lost %d, refused %d", a.lost.Load(), a.refused.Load())
		}
		f.mu.Lock()
		f.down["c"], f.drop["c"] = false, true
		f.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		before := a.refused.Load()
		time.Sleep(2 * time.Second)
		if a.refused.Load() != before {
			t.Errorf("a host that is silent was taken for one that refuses")
		}
		a.agent.Poll(failover.Poll{Candidate: "a"}, func(_ string, v *failover.Vote) { votes <- v })
		if x, y := <-votes, <-votes; (x == nil) == (y == nil) {
			t.Errorf("of two peers one is away: votes %v %v", x, y)
		}
		cancel()
		all.Wait()
		f.kill("b")
		synctest.Wait()
	})
}

// FuzzRead holds that nonsense from a peer ends the connection and allocates no more than came.
func FuzzRead(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00{}"))
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q Request
		if err := read(&nonsense{b}, &q); err == nil && len(b) < 6 {
			t.Errorf("%q was read", b)
		}
	})
}

type nonsense struct{ b []byte }

func (n *nonsense) Read(p []byte) (int, error) {
	if len(n.b) == 0 {
		return 0, errors.New("end")
	}
	k := copy(p, n.b)
	n.b = n.b[k:]
	return k, nil
}
