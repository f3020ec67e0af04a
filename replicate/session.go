package replicate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// session is one yamux session with a peer.
type session struct {
	mesh  *Mesh
	peer  PeerInfo
	mux   *yamux.Session
	since time.Time
	done  chan struct{} // closed when the session is over and not the peer's session any more

	rtt     atomic.Int64
	streams chan struct{} // one token for each inbound stream that is open
	pings   chan struct{} // one token for each ping under way

	mu  sync.Mutex
	why error // first reason for closing
}

func (m *Mesh) newSession(c net.Conn, peer PeerInfo, dialed bool) (*session, error) {
	cfg := yamux.DefaultConfig()
	cfg.AcceptBacklog = m.o.MaxStreams
	cfg.EnableKeepAlive = false // liveConn and ping do it
	cfg.ConnectionWriteTimeout = m.o.WriteTimeout
	cfg.MaxStreamWindowSize = m.o.WindowBytes
	cfg.StreamOpenTimeout = m.o.WriteTimeout
	cfg.StreamCloseTimeout = m.o.WriteTimeout
	cfg.LogOutput, cfg.Logger = nil, muxLogger{m.log.With("peer", peer.Node)}
	live := newLiveConn(c, m.o.IdleTimeout, m.o.WriteTimeout)
	s := &session{
		mesh: m, peer: peer, since: time.Now(), done: make(chan struct{}),
		streams: make(chan struct{}, m.o.MaxStreams), pings: make(chan struct{}, 16),
	}
	var err error
	if dialed {
		s.mux, err = yamux.Client(live, cfg)
	} else {
		s.mux, err = yamux.Server(live, cfg)
	}
	return s, err
}

// run accepts streams and pings until the session is over, and returns why. The handlers of its streams may still be
// running then; Mesh.Run waits for them.
func (s *session) run() error {
	s.mesh.running.Go(s.keepalive)
	var err error
	for {
		var st *yamux.Stream
		if st, err = s.mux.AcceptStream(); err != nil {
			break
		}
		select {
		case s.streams <- struct{}{}:
			s.mesh.running.Go(func() { s.serve(st) })
		default:
			s.mesh.log.Warn("too many streams, one was refused", "peer", s.peer.Node, "limit", cap(s.streams))
			_ = st.Close()
		}
	}
	s.close(err)
	return s.reason()
}

func (s *session) serve(c *yamux.Stream) {
	st := &Stream{Conn: c, session: s, release: func() { <-s.streams }}
	_ = c.SetReadDeadline(time.Now().Add(s.mesh.o.HandshakeTimeout))
	kind, group, err := readStreamPreface(c)
	if err != nil {
		_ = st.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	st.kind, st.group = kind, group
	fn := s.mesh.handler(kind)
	if fn == nil {
		s.mesh.log.Warn("stream of an unknown kind was refused", "peer", s.peer.Node, "kind", kind)
		_ = st.Close()
		return
	}
	fn(st)
}

func (s *session) open(ctx context.Context, kind, group string) (*Stream, error) {
	c, err := s.mux.OpenStream()
	if err != nil {
		if errors.Is(err, yamux.ErrSessionShutdown) {
			return nil, fmt.Errorf("%w: %s", ErrNotConnected, s.peer.Node)
		}
		if !errors.Is(err, yamux.ErrStreamsExhausted) && !errors.Is(err, yamux.ErrRemoteGoAway) {
			s.close(err) // a write failed
		}
		return nil, fmt.Errorf("open %s stream to %s: %w", kind, s.peer.Node, err)
	}
	st := &Stream{Conn: c, session: s, kind: kind, group: group}
	d, ok := ctx.Deadline()
	if limit := time.Now().Add(s.mesh.o.WriteTimeout); !ok || d.After(limit) {
		d = limit
	}
	_ = c.SetWriteDeadline(d)
	if err := writeStreamPreface(st, kind, group); err != nil {
		_ = st.Close()
		return nil, fmt.Errorf("open %s stream to %s: %w", kind, s.peer.Node, err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	return st, nil
}

// keepalive sends pings without waiting for answers: what counts for the other side is that something arrives.
func (s *session) keepalive() {
	t := time.NewTicker(s.mesh.o.PingInterval)
	defer t.Stop()
	for {
		select {
		case s.pings <- struct{}{}:
			s.mesh.running.Go(func() {
				if rtt, err := s.mux.Ping(); err == nil {
					s.rtt.Store(int64(rtt))
				}
				<-s.pings
			})
		default: // as many as the write timeout allows are under way
		}
		select {
		case <-t.C:
		case <-s.done:
			return
		}
	}
}

// alive reports whether the peer answers within the time given.
func (s *session) alive(within time.Duration) bool {
	answered := make(chan bool, 1)
	go func() {
		_, err := s.mux.Ping() // bounded by the write timeout, and by the session's end
		answered <- err == nil
	}()
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case ok := <-answered:
		return ok
	case <-t.C:
		return false
	case <-s.done:
		return false
	}
}

// close ends the session; the first reason is kept.
func (s *session) close(why error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = why
	}
	s.mu.Unlock()
	_ = s.mux.Close()
}

func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}
