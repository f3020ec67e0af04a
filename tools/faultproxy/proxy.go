package faultproxy

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Rule is what happens to bytes in one direction. The zero Rule passes them on.
type Rule struct {
	Delay       time.Duration // of each piece
	BytesPerSec int           // at most; 0: no limit
	FlipEvery   int           // one bit in about so many bytes is flipped; 0: none
	Hold        bool          // nothing passes; the connection stays open. What was sent meanwhile passes when the hold ends
}

// Proxy passes connections on to one address.
type Proxy struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup
	seed   uint64

	mu struct {
		sync.Mutex
		up, down Rule
		changed  chan struct{} // closed when the rules change
		refuse   bool
		closed   bool
		pairs    map[*pair]struct{}
		flips    int
		conns    uint64
	}
}

// pair is one connection and its other half.
type pair struct{ in, out net.Conn }

// New listens on addr and passes what connects there on to target.
func New(addr, target string, seed uint64) (*Proxy, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{target: target, l: l, seed: seed}
	p.mu.changed = make(chan struct{})
	p.mu.pairs = map[*pair]struct{}{}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where it listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Set changes the rules, up from those who connect to the target, down the other way, also for connections that are open.
func (p *Proxy) Set(up, down Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.up, p.mu.down = up, down
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
}

// Refuse resets all connections and, while on, every new one.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.refuse = on; on {
		p.resetLocked()
	}
}

// Heal passes everything on again. Connections that were held stay.
func (p *Proxy) Heal() {
	p.Refuse(false)
	p.Set(Rule{}, Rule{})
}

// Flips is how many bits were flipped so far.
func (p *Proxy) Flips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.flips
}

// Close ends the proxy and all its connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.mu.closed = true
	p.resetLocked()
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
	p.mu.Unlock()
	err := p.l.Close()
	p.wg.Wait()
	return err
}

// resetLocked closes all connections with a reset, as a host that died does.
func (p *Proxy) resetLocked() {
	for c := range p.mu.pairs {
		for _, one := range []net.Conn{c.in, c.out} {
			if t, ok := one.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
			_ = one.Close()
		}
	}
}

func (p *Proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.wg.Go(func() { p.serve(in) })
	}
}

func (p *Proxy) serve(in net.Conn) {
	defer in.Close()
	out, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	defer out.Close()
	c := &pair{in, out}
	p.mu.Lock()
	refused := p.mu.refuse || p.mu.closed
	if !refused {
		p.mu.pairs[c] = struct{}{}
		p.mu.conns++
	}
	n := p.mu.conns
	p.mu.Unlock()
	if refused {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(in, out, true, rand.New(rand.NewPCG(p.seed, 2*n))) })
	both.Go(func() { p.pump(out, in, false, rand.New(rand.NewPCG(p.seed, 2*n+1))) })
	both.Wait()
	p.mu.Lock()
	delete(p.mu.pairs, c)
	p.mu.Unlock()
}

// rule is what applies to a direction now, and what is closed when that changes.
func (p *Proxy) rule(up bool) (r Rule, changed <-chan struct{}, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r = p.mu.down; up {
		r = p.mu.up
	}
	return r, p.mu.changed, p.mu.closed
}

// pump copies one direction. It ends the whole connection at its end, because half-closed ones do not occur between nodes.
func (p *Proxy) pump(from, to net.Conn, up bool, rnd *rand.Rand) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.pass(buf[:n], to, up, rnd) {
			return
		}
		if err != nil {
			return
		}
	}
}

// pass sends a piece on by the rules of the moment.
func (p *Proxy) pass(b []byte, to io.Writer, up bool, rnd *rand.Rand) bool {
	for {
		r, changed, closed := p.rule(up)
		if closed {
			return false
		}
		if r.Hold {
			<-changed
			continue
		}
		if r.Delay > 0 && !wait(r.Delay, changed) {
			continue // another rule: begin again with it
		}
		n := len(b)
		if r.BytesPerSec > 0 {
			n = min(n, max(1, r.BytesPerSec/20))
		}
		p.flip(b[:n], r.FlipEvery, rnd)
		if _, err := to.Write(b[:n]); err != nil {
			return false
		}
		if b = b[n:]; len(b) == 0 {
			return true
		}
		if r.BytesPerSec > 0 {
			wait(time.Duration(n)*time.Second/time.Duration(r.BytesPerSec), changed)
		}
	}
}

// wait reports whether d passed without a change.
func wait(d time.Duration, changed <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-changed:
		return false
	}
}

func (p *Proxy) flip(b []byte, every int, rnd *rand.Rand) {
	if every <= 0 {
		return
	}
	flips := 0
	for at := rnd.IntN(2 * every); at < len(b); at += 1 + rnd.IntN(2*every) {
		b[at] ^= 1 << rnd.IntN(8)
		flips++
	}
	p.mu.Lock()
	p.mu.flips += flips
	p.mu.Unlock()
}
