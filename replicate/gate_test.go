package replicate

import (
	"context"
	"fmt"
	"net"
	"testing"
)

// addrConn is a connection that only has an address and can be closed.
type addrConn struct {
	net.Conn
	addr   string
	closed chan struct{}
}

func (c *addrConn) RemoteAddr() net.Addr { return streamAddr(c.addr) }

func (c *addrConn) Close() error {
	close(c.closed)
	return nil
}

func conns(hostname string, n int) []*addrConn {
	var all []*addrConn
	for i := range n {
		all = append(all, &addrConn{addr: fmt.Sprintf("%s:%d", hostname, 1000+i), closed: make(chan struct{})})
	}
	return all
}

func (c *addrConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// A flood from one host costs its own connections, the oldest first, and never one of a host with fewer, nor one that has shown a certificate.
func TestGate(t *testing.T) {
	g := newGate(4)
	peer, proven := conns("10.0.0.1", 1)[0], conns("10.0.0.9", 1)[0]
	for _, c := range []*addrConn{peer, proven} {
		if _, ok := g.enter(t.Context(), c); !ok {
			t.Fatal("no room in an empty gate")
		}
	}
	if !g.known(proven) {
		t.Fatal("not inside")
	}
	flood := conns("10.0.0.9", 50)
	for i, c := range flood {
		left := make(chan struct{})
		if i >= 2 {
			go func() { // what the goroutine of a connection does when it is closed
				<-flood[i-2].closed
				g.leave(flood[i-2])
				close(left)
			}()
		}
		out, ok := g.enter(t.Context(), c)
		if !ok || i < 2 && out != nil || i >= 2 && out != net.Conn(flood[i-2]) {
			t.Fatalf("connection %d: turned out %v", i, out)
		}
		if i >= 2 {
			<-left
		}
	}
	if peer.isClosed() || proven.isClosed() {
		t.Fatal("a flood closed the connection of somebody else")
	}
	g.leave(peer)
	g.leave(proven)
}

// With no room and nobody to turn out, entering ends with the context.
func TestGateWaits(t *testing.T) {
	g := newGate(1)
	c := conns("h", 2)
	if _, ok := g.enter(t.Context(), c[0]); !ok || !g.known(c[0]) {
		t.Fatal("no room")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, ok := g.enter(ctx, c[1]); ok || out != nil {
		t.Fatal("entered a full gate")
	}
	g.leave(c[0])
}
