package replicate

import (
	"net"
	"sync"
)

// streamListener hands inbound streams of one kind to whoever accepts them.
type streamListener struct {
	m    *Mesh
	kind string
	ch   chan *Stream
	done chan struct{}
	once sync.Once
}

// acceptBacklog bounds the streams that wait for Accept.
const acceptBacklog = 64

// Listener returns inbound streams of a kind as a listener, for an http.Server. The connections that it accepts are
// *Stream. Streams that nobody accepts in time are closed. It takes the place of a Handle for the kind.
func (m *Mesh) Listener(kind string) net.Listener {
	l := &streamListener{m: m, kind: kind, ch: make(chan *Stream, acceptBacklog), done: make(chan struct{})}
	m.handle(kind, l.offer)
	return l
}

func (l *streamListener) offer(s *Stream) {
	select {
	case <-l.done:
		_ = s.Close()
		return
	default:
	}
	select {
	case l.ch <- s:
	default:
		l.m.log.Warn("streams are not accepted in time, one was closed", "peer", s.Peer().Node, "kind", l.kind)
		_ = s.Close()
	}
}

// Accept implements net.Listener.
func (l *streamListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	case s := <-l.ch:
		return s, nil
	}
}

// Close implements net.Listener. Streams that were accepted stay open.
func (l *streamListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		for {
			select {
			case s := <-l.ch:
				_ = s.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *streamListener) Addr() net.Addr { return streamAddr(l.kind) }

type streamAddr string

// Network implements net.Addr.
func (streamAddr) Network() string { return "mesh" }

// String implements net.Addr.
func (a streamAddr) String() string { return string(a) }
