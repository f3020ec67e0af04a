package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// fabric is a network between nodes whose links can be cut one way, silently, as a router does that drops packets, and whose sessions can be stalled while heartbeats
// pass. A node is dialled by its name.
type fabric struct {
	mu      sync.Mutex
	at      map[string]string    // where a node listens
	dialled map[string]string    // local address of a dialled connection → who dialled
	dropped map[[2]string]bool   // from, to
	conns   map[*fabricConn]bool // open ones
	stalled atomic.Bool          // sessions carry nothing, heartbeats pass
	release chan struct{}        // closed when a stall ends
}

func newFabric() *fabric {
	return &fabric{at: map[string]string{}, dialled: map[string]string{}, dropped: map[[2]string]bool{}, conns: map[*fabricConn]bool{}, release: make(chan struct{})}
}

func (f *fabric) listen(name string) func() (net.Listener, error) {
	return func() (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.at[name] = l.Addr().String()
		return &fabricListener{l, f, name}, nil
	}
}

type fabricListener struct {
	net.Listener
	f    *fabric
	name string
}

// Accept implements net.Listener.
func (l *fabricListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.f.keep(&fabricConn{Conn: c, f: l.f, from: l.name, remote: c.RemoteAddr().String()}), nil
}

// dialer dials for a node.
func (f *fabric) dialer(from string) func(ctx context.Context, to string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		f.mu.Lock()
		at, cut := f.at[to], f.dropped[[2]string{from, to}] || f.dropped[[2]string{to, from}]
		f.mu.Unlock()
		if at == "" {
			return nil, errors.New("no route")
		}
		if cut {
			<-ctx.Done() // the handshake of TCP gets no answer
			return nil, ctx.Err()
		}
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.dialled[c.LocalAddr().String()] = from
		f.mu.Unlock()
		return f.keep(&fabricConn{Conn: c, f: f, from: from, to: to}), nil
	}
}

func (f *fabric) keep(c *fabricConn) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	return c
}

// drop loses everything that from sends to the others from now on.
func (f *fabric) drop(from string, to ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range to {
		f.dropped[[2]string{from, t}] = true
	}
}

// isolate drops both ways.
func (f *fabric) isolate(node string, others ...string) {
	f.drop(node, others...)
	for _, o := range others {
		f.drop(o, node)
	}
}

// heal ends all drops. What was lost is lost: connections that lost something end.
func (f *fabric) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.dropped)
	for c := range f.conns {
		if c.lost.Load() {
			_ = c.Conn.Close()
		}
	}
}

// stall holds back all that sessions write until the function returned is called.
func (f *fabric) stall() (end func()) {
	f.stalled.Store(true)
	return sync.OnceFunc(func() {
		f.stalled.Store(false)
		close(f.release)
	})
}

type fabricConn struct {
	net.Conn
	f        *fabric
	from, to string
	remote   string // of an accepted connection, whose to is not known yet
	lost     atomic.Bool
	link     atomic.Bool // it carries heartbeats
}

// Write implements net.Conn.
func (c *fabricConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(`"link":"heartbeat"`)) || bytes.Contains(b, []byte(`"beat":`)) {
		c.link.Store(true)
	}
	c.f.mu.Lock()
	if c.to == "" {
		c.to = c.f.dialled[c.remote]
	}
	dropped := c.f.dropped[[2]string{c.from, c.to}]
	c.f.mu.Unlock()
	if dropped || c.lost.Load() {
		c.lost.Store(true)
		return len(b), nil
	}
	if c.f.stalled.Load() && !c.link.Load() && !bytes.HasPrefix(b, []byte("RPL")) { // which of both a connection is shows after the handshake
		<-c.f.release
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn. One that lost something does not tell the other end: nothing gets through.
func (c *fabricConn) Close() error {
	c.f.mu.Lock()
	delete(c.f.conns, c)
	c.f.mu.Unlock()
	return c.Conn.Close()
}
