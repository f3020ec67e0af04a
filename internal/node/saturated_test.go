package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// narrowLink is a wire that real TCP connections share: so many bytes a second, in the order of their coming. What does not fit waits in the sockets' buffers, as before
// a network that is full.
type narrowLink struct {
	on     atomic.Bool
	speed  int          // bytes a second
	waited atomic.Int64 // bytes that had to wait for others

	mu   sync.Mutex
	free time.Time // when the wire has carried what it was given
}

// give puts n bytes on the wire and returns when they may go.
func (l *narrowLink) give(n int) (in time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if in = l.free.Sub(now); in <= 0 {
		in, l.free = 0, now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.speed))
	return in
}

// Like any router's, its queue is long: what is sent last comes seconds later.
const (
	narrowPiece = 4 << 10
	narrowQueue = 2 << 20
)

// through returns a connection whose bytes pass the link both ways.
func (l *narrowLink) through(ctx context.Context, c net.Conn) (net.Conn, error) {
	w, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer w.Close()
	near, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := w.Accept()
	if err != nil {
		return nil, errors.Join(err, near.Close())
	}
	go l.carry(c, far)
	go l.carry(far, c)
	return near, nil
}

// carry copies one direction until either end is closed.
func (l *narrowLink) carry(to, from net.Conn) {
	type piece struct {
		b  []byte
		at time.Time
	}
	queue := make(chan piece, narrowQueue/narrowPiece)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, narrowPiece)
			n, err := from.Read(buf)
			p := piece{b: buf[:n], at: time.Now()}
			if n > 0 && l.on.Load() {
				if in := l.give(n); in > 0 {
					l.waited.Add(int64(n))
					p.at = p.at.Add(in)
				}
			}
			queue <- p
			if err != nil {
				return
			}
		}
	}()
	var err error
	for p := range queue { // to its end, so that the reader is not left behind
		if in := time.Until(p.at); in > 0 && err == nil && l.on.Load() {
			<-time.After(in) // the wire's speed
		}
		if err == nil {
			if _, err = to.Write(p.b); err != nil {
				_ = from.Close()
			}
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// With an address of their own, heartbeats are not delayed by the link that all sessions share being full, for seconds and without a gap: none is missed, so that
// nobody is suspected, no lease ends, and there is no failover.
//
// Faults: W6 (a saturated link; heartbeats on an address of their own)
func TestHeartbeatsBesideASaturatedLink(t *testing.T) {
	t.Parallel()
	const speed = 256 << 10 // bytes a second
	bulk := int64(5 << 18)  // so many bytes wait for others
	if testing.Short() {
		bulk = 1 << 18
	}
	wire := &narrowLink{speed: speed}
	beats := func(node string) string { return node + "/heartbeats" }
	var f *fabric
	c, made := automatic(t, func(name string, o *Options) {
		for i := range o.Peers {
			o.Peers[i].Heartbeat = beats(o.Peers[i].Name)
		}
		dial := o.Dial
		o.Dial = func(ctx context.Context, to string) (net.Conn, error) {
			c, err := dial(ctx, to)
			if err != nil || strings.HasSuffix(to, "/heartbeats") {
				return c, err
			}
			return wire.through(ctx, c)
		}
		o.ListenHeartbeat = func() (net.Listener, error) { return f.listen(beats(name))() }
		// Generous, so that a busy machine is not taken for a delay. What waits before the link takes longer.
		o.Failover.Suspect, o.Failover.Lease = 3*time.Second, 3*time.Second
	})
	f = made
	c.start()
	active := c.elected(0)
	c.settled(active)
	a := c.nodes[active].group
	epoch := c.nodes[active].epoch()
	until(t, func() error {
		if !a.lease.live() {
			return errors.New("no lease yet")
		}
		return nil
	})
	wire.on.Store(true)
	var writers sync.WaitGroup
	var over atomic.Bool
	for i := range 8 {
		writers.Go(func() {
			for n := 0; !over.Load(); n++ {
				_ = c.nodes[active].set(fmt.Sprintf("w%d", i), incompressible(64<<10, uint64(i)<<32|uint64(n))) // may be unknown: its acks wait too
			}
		})
	}
	end := sync.OnceFunc(func() {
		over.Store(true)
		wire.on.Store(false)
		writers.Wait()
	})
	defer end()
	acks, last := 0, a.lease.until.Load()
	until(t, func() error {
		for _, n := range c.names {
			if s := *c.nodes[n].group.voter.suspects.Load(); len(s) > 0 {
				t.Fatalf("%s suspects %v beside a saturated link", n, s)
			}
		}
		if !a.lease.live() {
			t.Fatal("the lease ended beside a saturated link")
		}
		if now := a.lease.until.Load(); now != last {
			acks, last = acks+1, now
		}
		if waited := wire.waited.Load(); waited < bulk || acks < 10 {
			return fmt.Errorf("%d bytes waited for others, the lease was renewed %d times", waited, acks)
		}
		return nil
	})
	end()
	if !a.active() || c.nodes[active].epoch() != epoch {
		t.Fatalf("bulk traffic caused a failover: %s", c)
	}
}

// incompressible is n bytes that no codec makes shorter.
func incompressible(n int, seed uint64) string {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return string(b)
}
