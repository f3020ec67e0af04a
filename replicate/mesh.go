package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Mesh keeps one session with each peer and gives and takes streams on them. The node whose name sorts lower dials.
type Mesh struct {
	o     MeshOptions
	log   *slog.Logger
	peers map[string]*peerState // fixed after NewMesh

	// order serializes changes of sessions with the calls of OnPeer that tell them. Taken before any peerState.mu.
	order sync.Mutex

	mu       sync.Mutex
	handlers map[string]func(*Stream)
	links    map[string]func(PeerInfo, net.Conn)
	stop     context.CancelFunc // of Run
	finished chan struct{}      // closed when Run has returned
	closed   bool

	said changes
	// running counts all goroutines of Run, those of sessions and streams included.
	running sync.WaitGroup
}

// peerState is what the mesh knows of one peer.
type peerState struct {
	Peer
	mu          sync.Mutex
	session     *session
	since       time.Time // of the session, or of its loss
	incarnation string    // last seen
	lastError   string
}

// PeerStatus describes the session with one peer.
type PeerStatus struct {
	Name        string        `json:"name"`
	Addr        string        `json:"addr"`
	Connected   bool          `json:"connected"`
	Since       time.Time     `json:"since"` // of the session, or of its loss; zero if there never was one
	Incarnation string        `json:"incarnation,omitempty"`
	LastError   string        `json:"last_error,omitempty"`
	RTT         time.Duration `json:"rtt_ns"` // of the last answered ping, 0 if none
}

// NewMesh checks the options. Nothing happens on the network before Run.
func NewMesh(o MeshOptions) (*Mesh, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	m := &Mesh{o: o, log: o.Logger, peers: map[string]*peerState{}, handlers: map[string]func(*Stream){}}
	for _, p := range o.Peers {
		m.peers[p.Name] = &peerState{Peer: p}
	}
	return m, nil
}

// Handle registers fn for inbound streams of a kind; a later call replaces it. fn runs in its own goroutine; s is a
// *Stream, closed when fn returns.
func (m *Mesh) Handle(kind string, fn func(peer PeerInfo, group string, s net.Conn)) {
	m.handle(kind, func(s *Stream) {
		defer s.Close()
		fn(s.Peer(), s.Group(), s)
	})
}

func (m *Mesh) handle(kind string, fn func(*Stream)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if fn == nil {
		delete(m.handlers, kind)
		return
	}
	m.handlers[kind] = fn
}

func (m *Mesh) handler(kind string) func(*Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.handlers[kind]
}

// Open opens a stream to a peer. It fails with ErrNotConnected at once if there is no session.
func (m *Mesh) Open(ctx context.Context, peer, kind, group string) (net.Conn, error) {
	p := m.peers[peer]
	if p == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownPeer, peer)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := p.current()
	if s == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotConnected, peer)
	}
	st, err := s.open(ctx, kind, group)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Peers returns the status of all peers, in the order of the options.
func (m *Mesh) Peers() []PeerStatus {
	out := make([]PeerStatus, 0, len(m.o.Peers))
	for _, p := range m.o.Peers {
		out = append(out, m.peers[p.Name].status())
	}
	return out
}

// Run listens, dials and serves until ctx ends or Close is called; then all sessions are closed and all that it
// started has ended. It fails only if it cannot listen. It may be called once.
func (m *Mesh) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	if m.closed || m.stop != nil {
		m.mu.Unlock()
		return ErrClosed
	}
	m.stop, m.finished = cancel, make(chan struct{})
	m.mu.Unlock()
	defer close(m.finished)

	for _, listen := range []func() (net.Listener, error){m.o.LinkListen, m.o.Listen} {
		if listen == nil {
			continue
		}
		l, err := listen()
		if err != nil {
			cancel()
			m.running.Wait()
			return fmt.Errorf("listen for peers: %w", err)
		}
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		m.running.Go(func() { m.accept(ctx, l) })
	}
	for _, p := range m.peers {
		if m.o.Node < p.Name {
			m.running.Go(func() { m.keepConnected(ctx, p) })
		}
	}
	<-ctx.Done()
	m.closeSessions()
	m.running.Wait()
	return nil
}

// Close ends Run and waits for it.
func (m *Mesh) Close() error {
	m.mu.Lock()
	m.closed = true
	stop, finished := m.stop, m.finished
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-finished
	}
	return nil
}

func (m *Mesh) closeSessions() {
	for _, p := range m.peers {
		if s := p.current(); s != nil {
			s.close(ErrClosed)
		}
	}
}

// adopt makes s the session with its peer, newest first (W9), and runs it to its end.
func (m *Mesh) adopt(ctx context.Context, s *session) error {
	p := m.peers[s.peer.Node]
	m.order.Lock()
	if ctx.Err() != nil {
		m.order.Unlock()
		s.close(ErrClosed)
		return ErrClosed
	}
	old := p.set(s)
	m.tell(p.Name, true)
	m.order.Unlock()
	m.said.forget(p.Name)
	m.log.Info("peer connected", "peer", p.Name, "incarnation", s.peer.Incarnation, "addr", s.peer.Remote)
	if old != nil {
		old.close(errors.New("replaced by a newer session"))
	}
	err := s.run()
	m.order.Lock()
	if p.unset(s, err) {
		m.tell(p.Name, false)
		m.log.Warn("peer disconnected", "peer", p.Name, "err", err)
	}
	m.order.Unlock()
	close(s.done)
	return err
}

func (m *Mesh) tell(name string, up bool) {
	if m.o.OnPeer != nil {
		m.o.OnPeer(name, up)
	}
}

func (p *peerState) current() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

func (p *peerState) set(s *session) (old *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, p.session, p.since, p.incarnation, p.lastError = p.session, s, s.since, s.peer.Incarnation, ""
	return old
}

func (p *peerState) unset(s *session, why error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != s {
		return false
	}
	p.session, p.since = nil, time.Now()
	if why != nil {
		p.lastError = why.Error()
	}
	return true
}

func (p *peerState) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastError = err.Error()
}

func (p *peerState) status() PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := PeerStatus{
		Name: p.Name, Addr: p.Addr, Connected: p.session != nil, Since: p.since, Incarnation: p.incarnation, LastError: p.lastError,
	}
	if p.session != nil {
		st.RTT = time.Duration(p.session.rtt.Load())
	}
	return st
}

// changes lets a repeated message through once for each change.
type changes struct {
	mu   sync.Mutex
	last map[string]string
}

const maxChanges = 256

func (c *changes) fresh(about, text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || len(c.last) > maxChanges { // strangers may come under any name
		c.last = map[string]string{}
	}
	if c.last[about] == text {
		return false
	}
	c.last[about] = text
	return true
}

func (c *changes) forget(about string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, about)
}
