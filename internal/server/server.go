package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Server accepts connections and runs a session on each.
type Server struct {
	opts    Options
	table   *table
	config  *config
	started time.Time

	// Owned by their own locks or atomics.
	stats       counters
	slowlog     slowlog
	cursors     cursors
	acl         atomic.Pointer[ACL] // nil: there are no named users
	links       links
	maxClients  atomic.Int64
	idleTimeout atomic.Int64 // ns
	lastID      atomic.Int64

	stop context.CancelFunc // ends what sessions wait for
	ctx  context.Context
	wg   sync.WaitGroup // sessions

	loops      []*loop // made for the first connection that can be in one
	loopsBegin sync.Once
	loopsEnd   chan struct{}
	loopsDone  sync.WaitGroup // their goroutines

	mu struct {
		sync.Mutex
		closed    bool
		listeners map[net.Listener]struct{}
		sessions  map[int64]*Session
		conns     map[int64]net.Conn
	}
}

// New makes a server that serves o.Backend. Call Serve for each listener.
func New(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: o, table: newTable(), started: time.Now()}
	s.config = newConfig(&s.opts)
	s.acl.Store(o.ACL)
	s.slowlog.threshold.Store(int64(o.SlowlogThreshold))
	s.slowlog.setLimit(o.SlowlogEntries)
	s.maxClients.Store(int64(o.MaxClients))
	s.idleTimeout.Store(int64(o.IdleTimeout))
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.mu.listeners = make(map[net.Listener]struct{})
	s.mu.sessions = make(map[int64]*Session)
	s.mu.conns = make(map[int64]net.Conn)
	s.loopsEnd = make(chan struct{})
	return s, nil
}

// Serve accepts connections from l until Shutdown or Close, then returns ErrClosed; another error is l's. It closes l in
// any case. With auth, clients of l must give the password first, if one is set.
func (s *Server) Serve(l net.Listener, auth bool) error {
	defer l.Close()
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.mu.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.mu.listeners, l)
	}()
	for {
		conn, err := l.Accept()
		if err == nil {
			s.start(conn, auth)
			continue
		}
		s.mu.Lock()
		closed := s.mu.closed
		s.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if !temporary(err) {
			return err
		}
		s.opts.Logger.Warn("accept failed, trying again", "addr", l.Addr().String(), "error", err)
		select {
		case <-time.After(acceptRetry):
		case <-s.ctx.Done():
		}
	}
}

// acceptRetry is the pause after running out of file descriptors, say.
const acceptRetry = 50 * time.Millisecond

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// start gives conn a session and a loop or a goroutine, or refuses it.
func (s *Server) start(conn net.Conn, auth bool) {
	s.stats.connections.Add(1)
	session := newSession(s, s.lastID.Add(1), address(conn.RemoteAddr(), conn.LocalAddr()), address(conn.LocalAddr(), nil), auth)
	session.info.unix = conn.RemoteAddr().Network() == "unix"
	kicked, kick := context.WithCancel(s.ctx)
	session.info.kicked = kicked
	d := newDriver(s, session, conn)
	looped := s.intoLoop(d)
	session.info.wake = func() {
		kick()
		_ = conn.SetReadDeadline(longAgo) // an error means that it is closed: awake too
		if looped {
			d.loop.post(d)
		}
	}
	d.left = func() {
		kick()
		s.forget(session)
		s.wg.Done()
	}
	s.mu.Lock()
	switch {
	case s.mu.closed:
		s.mu.Unlock()
		kick()
		_ = conn.Close()
		return
	case int64(len(s.mu.sessions)) >= s.maxClients.Load():
		s.mu.Unlock()
		kick()
		s.refuse(conn)
		return
	}
	s.mu.sessions[session.info.id] = session
	s.mu.conns[session.info.id] = conn
	s.wg.Add(1)
	s.mu.Unlock()
	if looped {
		d.loop.add(d)
		return
	}
	go d.run(s.ctx)
}

// longAgo is a deadline that wakes whoever reads.
var longAgo = time.Unix(1, 0)

// refuse tells a client that there are too many. The socket's buffer is empty, so that the write does not wait.
func (s *Server) refuse(conn net.Conn) {
	s.stats.rejected.Add(1)
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("-ERR max number of clients reached\r\n")) // best effort: the connection ends anyhow
	_ = conn.Close()
}

// address names one end of a connection; the client's end of a unix socket, which has no name, by the server's.
func address(a, or net.Addr) string {
	if or != nil && a.Network() == "unix" {
		a = or
	}
	if a.Network() == "unix" {
		return a.String() + ":0"
	}
	return a.String()
}

func (s *Server) forget(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.sessions, session.info.id)
	delete(s.mu.conns, session.info.id)
}

// DisconnectClients closes the connections that are there now, after their running batch, and returns how many. A node does
// that when it is no longer the active, because many clients ask who is only after their connection broke. Connections whose
// commands are forwarded to the active stay.
func (s *Server) DisconnectClients(reason string) int {
	n := 0
	for _, session := range s.sessions() {
		if !session.forwards() && session.info.close() {
			n++
		}
	}
	s.opts.Logger.Info("clients disconnected", "clients", n, "reason", reason)
	return n
}

// closeListeners makes the server accept nothing more.
func (s *Server) closeListeners() {
	s.links.dropIdle(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.closed = true
	for l := range s.mu.listeners {
		_ = l.Close() // Serve returns and closes it again
	}
}

// Shutdown accepts nothing more, lets each session end its running batch and send the replies, and waits for them until
// ctx ends; then it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closeListeners()
	for _, session := range s.sessions() {
		session.info.close()
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.stop()
		s.stopLoops()
		return nil
	case <-ctx.Done():
		err := s.Close()
		<-done
		return errors.Join(ctx.Err(), err)
	}
}

// Close closes listeners and connections and waits for the sessions. It does not wait for results of the Backend: writes
// without one are answered as unknown (R13), for which each connection has closeGrace.
func (s *Server) Close() error {
	s.closeListeners()
	for _, session := range s.sessions() {
		session.info.close()
	}
	s.stop()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
	}
	s.mu.Lock()
	for _, conn := range s.mu.conns {
		_ = conn.Close() // sessions end by the error
	}
	s.mu.Unlock()
	<-done
	s.stopLoops()
	return nil
}

const closeGrace = 200 * time.Millisecond
