package replicate

import (
	"context"
	"net"
	"sync"
)

// gate bounds the inbound connections that have not shown who they are. When it is full, the oldest connection of the host that has the most of them makes
// room: a flood from strangers, who never show anything, costs them their own connections and not the one of a peer from another host, and a peer from the
// same host has as long as the flood needs to fill the gate once more.
type gate struct {
	slots chan struct{} // one token for each connection inside; capacity is the limit

	mu   sync.Mutex
	open []waiting // oldest first, those that are to be turned out not among them
}

type waiting struct {
	c    net.Conn
	host string
}

func newGate(limit int) *gate { return &gate{slots: make(chan struct{}, limit)} }

// enter takes a slot for c, turning another connection out if there is none. It waits until that one has gone, which is a matter of its goroutine noticing
// the closed connection, or until ctx ends.
func (g *gate) enter(ctx context.Context, c net.Conn) (turnedOut net.Conn, ok bool) {
	select {
	case g.slots <- struct{}{}:
	default:
		turnedOut = g.turnOut()
		select {
		case g.slots <- struct{}{}:
		case <-ctx.Done():
			return turnedOut, false
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = append(g.open, waiting{c, host(c)})
	return turnedOut, true
}

// turnOut closes the oldest connection of the host that has the most.
func (g *gate) turnOut() net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	count, most := map[string]int{}, 0
	for _, w := range g.open {
		count[w.host]++
		most = max(most, count[w.host])
	}
	for i, w := range g.open {
		if count[w.host] == most {
			g.open = append(g.open[:i], g.open[i+1:]...)
			_ = w.c.Close() // its goroutine sees the error
			return w.c
		}
	}
	return nil // all inside are known or on their way out
}

// known keeps c from being turned out: it has shown a certificate. It is false if c was turned out before.
func (g *gate) known(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.open {
		if w.c == c {
			g.open = append(g.open[:i], g.open[i+1:]...)
			return true
		}
	}
	return false
}

// leave gives the slot of c back.
func (g *gate) leave(c net.Conn) {
	g.known(c)
	<-g.slots
}
