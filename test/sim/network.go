package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// network joins nodes by connections in memory. Each direction of each pair of nodes can be cut by itself; whatever it holds then arrives once it is mended, unless
// somebody gave up.
type network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	delay  time.Duration
	jitter time.Duration
	cuts   map[way]int    // how many faults cut this direction now
	noisy  map[string]int // how many faults make this node's links noisy
	at     map[string]*listener
	links  map[*link]bool
}

// way is one direction between two nodes.
type way struct{ from, to string }

// link is a connection between two nodes.
type link struct {
	a, b string
	ab   *half
	ba   *half
}

func newNetwork(c Config) *network {
	return &network{
		rng: rand.New(rand.NewPCG(c.Seed, 0x0e7)), delay: c.Delay, jitter: c.Jitter,
		cuts: map[way]int{}, noisy: map[string]int{}, at: map[string]*listener{}, links: map[*link]bool{},
	}
}

// late is how long a chunk takes from one node to another.
func (n *network) late(from, to string) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.delay
	if n.jitter > 0 {
		d += time.Duration(n.rng.Int64N(int64(n.jitter)))
	}
	if n.noisy[from]+n.noisy[to] > 0 {
		d += time.Duration(n.rng.IntN(20)) * time.Millisecond
		if n.rng.IntN(8) == 0 { // lost, sent again
			d += 200 * time.Millisecond << n.rng.IntN(3)
		}
	}
	return d
}

// cut cuts one direction, or takes one cut back.
func (n *network) cut(from, to string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := way{from, to}
	if on {
		n.cuts[w]++
	} else {
		n.cuts[w]--
	}
	held := n.cuts[w] > 0
	for l := range n.links {
		for _, h := range l.towards(w) {
			h.change(func() { h.held = held })
		}
	}
}

func (l *link) towards(w way) []*half {
	var hs []*half
	if l.a == w.from && l.b == w.to {
		hs = append(hs, l.ab)
	}
	if l.b == w.from && l.a == w.to {
		hs = append(hs, l.ba)
	}
	return hs
}

// noise makes the links of a node noisy, or takes that back.
func (n *network) noise(node string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on {
		n.noisy[node]++
	} else {
		n.noisy[node]--
	}
}

// reset breaks all connections of a node, or of a node with peer. what is on its way is lost.
func (n *network) reset(node, peer string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		if l.a == node && (peer == "" || l.b == peer) || l.b == node && (peer == "" || l.a == peer) {
			l.snap()
			delete(n.links, l)
		}
	}
}

func (l *link) snap() {
	for _, h := range []*half{l.ab, l.ba} {
		h.change(func() { h.broken = true })
	}
}

// endpoint is a process's place in the network. Once it is closed nothing of that process reaches anybody.
type endpoint struct {
	net  *network
	name string
	mu   sync.Mutex
	gone bool
	l    *listener
}

// close takes the process off the network at once, as its death does.
func (e *endpoint) close() {
	e.mu.Lock()
	again, l := e.gone, e.l
	e.gone = true
	e.mu.Unlock()
	if again {
		return
	}
	n := e.net
	n.mu.Lock()
	if l != nil && n.at[e.name] == l {
		delete(n.at, e.name)
	}
	n.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	n.reset(e.name, "")
}

func (e *endpoint) closed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone
}

// listen is node.Options.Listen.
func (e *endpoint) listen() (net.Listener, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return nil, errReset
	}
	l := newListener(e.name)
	e.l = l
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.net.at[e.name] = l
	return l, nil
}

// dial is node.Options.Dial. While a direction is cut it waits until ctx ends, as TCP would.
func (e *endpoint) dial(ctx context.Context, to string) (net.Conn, error) {
	n := e.net
	pause := time.NewTimer(2 * n.late(e.name, to))
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		n.mu.Lock()
		cut := n.cuts[way{e.name, to}] > 0 || n.cuts[way{to, e.name}] > 0
		l := n.at[to]
		n.mu.Unlock()
		switch {
		case e.closed():
			return nil, errReset
		case cut:
			pause.Reset(100 * time.Millisecond)
			continue
		case l == nil:
			return nil, errors.New("connection refused")
		}
		return e.connect(l, to)
	}
}

func (e *endpoint) connect(l *listener, to string) (net.Conn, error) {
	n := e.net
	lk := &link{a: e.name, b: to}
	lk.ab = newHalf(func() time.Duration { return n.late(e.name, to) })
	lk.ba = newHalf(func() time.Duration { return n.late(to, e.name) })
	forget := func() {
		lk.ab.mu.Lock()
		over := lk.ab.closed
		lk.ab.mu.Unlock()
		lk.ba.mu.Lock()
		over = over && lk.ba.closed
		lk.ba.mu.Unlock()
		if over {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.links, lk)
		}
	}
	here := &conn{in: lk.ba, out: lk.ab, addr: addr(to), forget: forget}
	there := &conn{in: lk.ab, out: lk.ba, addr: addr(e.name), forget: forget}
	n.mu.Lock()
	n.links[lk] = true
	n.mu.Unlock()
	if e.closed() || !l.offer(there) {
		n.mu.Lock()
		delete(n.links, lk)
		n.mu.Unlock()
		lk.snap()
		return nil, errors.New("connection refused")
	}
	return here, nil
}

// listener accepts what is offered.
type listener struct {
	name  addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newListener(name string) *listener {
	return &listener{name: addr(name), conns: make(chan net.Conn, 64), done: make(chan struct{})}
}

func (l *listener) offer(c net.Conn) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.conns <- c:
		return true
	default: // the backlog is full
		return false
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.name }
