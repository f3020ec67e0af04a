package sentinel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"repld/internal/resp"
	"repld/internal/server"
)

// Options configure a Server. The zero value of a field means its default.
type Options struct {
	// Name is what clients call the group ("mymaster" in many examples). Required.
	Name string
	// View tells who is who. Required.
	View View
	// Password is asked for by AUTH or HELLO before anything else; "" asks nobody.
	Password server.Secret
	// Failover hands the group over to a standby and returns when that is done, for SENTINEL FAILOVER. Default: nobody may ask for it here.
	Failover func(context.Context) error
	// RedisVersion is what HELLO and INFO say. Default "7.0.15".
	RedisVersion string
	// DownAfter is how long a node may be silent, as told to clients; for display.
	DownAfter time.Duration
	// Tick is how often the picture is looked at without a change. Default 100 ms.
	Tick time.Duration
	// MaxClients is how many connections there may be at once. Default 4096.
	MaxClients int
	// MaxOutputBytes closes a connection with more unread output. Default 1 MiB.
	MaxOutputBytes int
	// WriteTimeout closes a connection that takes nothing for so long. Default 30 s.
	WriteTimeout time.Duration
	// PartialTimeout closes a connection whose request is not complete after so long. Default 30 s.
	PartialTimeout time.Duration
	// Logger. Default: discards.
	Logger *slog.Logger
}

// EnsureDefaults fills in the fields that are zero.
func (o *Options) EnsureDefaults() {
	defInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defTime := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	if o.RedisVersion == "" {
		o.RedisVersion = "7.0.15"
	}
	defInt(&o.MaxClients, 4096)
	defInt(&o.MaxOutputBytes, 1<<20)
	defTime(&o.DownAfter, time.Second)
	defTime(&o.Tick, 100*time.Millisecond)
	defTime(&o.WriteTimeout, 30*time.Second)
	defTime(&o.PartialTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports what cannot be worked with.
func (o *Options) Validate() error {
	if o.Name == "" || o.View == nil {
		return fmt.Errorf("sentinel options: name and view are required")
	}
	if o.MaxClients < 0 || o.MaxOutputBytes < 0 {
		return fmt.Errorf("sentinel options: max clients %d, max output bytes %d: must be positive", o.MaxClients, o.MaxOutputBytes)
	}
	return nil
}

// ErrClosed is returned by Serve after Close.
var ErrClosed = errors.New("sentinel server closed")

// Server serves the Sentinel API. Run publishes changes; Serve accepts connections.
type Server struct {
	opts    Options
	limits  resp.Limits
	started time.Time
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		closed    bool
		lastID    int64
		conns     map[*conn]struct{}
		listeners map[net.Listener]struct{}
	}
}

// New makes a Server.
func New(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: o, started: time.Now()}
	s.limits = resp.Limits{MaxBulk: 16 << 10, MaxArgs: 1024, MaxInline: 16 << 10, MaxRequest: 1 << 20}
	s.limits.EnsureDefaults()
	s.mu.conns, s.mu.listeners = map[*conn]struct{}{}, map[net.Listener]struct{}{}
	return s, nil
}

// Run publishes what changes, until ctx ends; then it closes listeners and connections.
func (s *Server) Run(ctx context.Context) error {
	p := newPublisher(s.opts.Name)
	t := time.NewTicker(s.opts.Tick)
	defer t.Stop()
	defer s.Close()
	for {
		changed := s.opts.View.Changed()
		for _, m := range p.next(s.opts.View.Picture()) {
			s.opts.Logger.Info("sentinel event", "channel", m.channel, "event", m.payload)
			s.publish(m)
		}
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Serve accepts connections from l until Close, then returns ErrClosed. It closes l in any case.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.mu.listeners[l] = struct{}{}
	s.mu.Unlock()
	for {
		nc, err := l.Accept()
		if err == nil {
			s.start(nc)
			continue
		}
		s.mu.Lock()
		closed := s.mu.closed
		s.mu.Unlock()
		if closed {
			return ErrClosed
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		s.opts.Logger.Warn("accept failed, trying again", "addr", l.Addr().String(), "error", err)
		time.Sleep(acceptRetry)
	}
}

// acceptRetry is the pause after running out of file descriptors, say.
const acceptRetry = 50 * time.Millisecond

func (s *Server) start(nc net.Conn) {
	s.mu.Lock()
	full := len(s.mu.conns) >= s.opts.MaxClients
	if s.mu.closed || full {
		s.mu.Unlock()
		if full {
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = nc.Write([]byte("-ERR max number of clients reached\r\n")) // best effort: the connection ends anyhow
		}
		_ = nc.Close()
		return
	}
	s.mu.lastID++
	c := newConn(s, nc, s.mu.lastID)
	s.mu.conns[c] = struct{}{}
	s.wg.Add(2)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		c.writeLoop()
	}()
	go func() {
		defer s.wg.Done()
		c.readLoop()
		c.end()
		s.mu.Lock()
		delete(s.mu.conns, c)
		s.mu.Unlock()
	}()
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		out = append(out, c)
	}
	return out
}

func (s *Server) publish(m message) {
	for _, c := range s.all() {
		c.deliver(m)
	}
}

// Close ends all listeners and connections and waits for them.
func (s *Server) Close() error {
	s.mu.Lock()
	s.mu.closed = true
	for l := range s.mu.listeners {
		_ = l.Close() // Serve closes it again
	}
	s.mu.Unlock()
	for _, c := range s.all() {
		_ = c.nc.Close()
		c.end()
	}
	s.wg.Wait()
	return nil
}
