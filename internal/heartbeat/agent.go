package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"repld/failover"
)

// Options configure an Agent. All but Interval, Timeout and Logger are required.
type Options struct {
	Peers    []string
	Interval time.Duration                                                // between heartbeats to a peer, default 100 ms
	Timeout  time.Duration                                                // of a dial, a write, and of waiting for answers; default ten intervals
	Dial     func(ctx context.Context, peer string) (net.Conn, error)     // the node handshake included
	Beat     func() failover.Beat                                         // what this node says of itself now
	Clock    func() failover.Mono                                         // the clock of the lease
	Answer   func(peer string, r Request) Response                        // to a peer's request; Seq is filled in. Must not block for long
	Answered func(peer string, r Response, sent failover.Mono, poll bool) // a peer's answer to what was sent at sent
	Lost     func(peer string)                                            // a connection was closed or reset by the peer's end
	Refused  func(peer string)                                            // the peer's host says that nobody listens
	Logger   *slog.Logger                                                 // default: discard
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	if o.Interval == 0 {
		o.Interval = 100 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * o.Interval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports what cannot work.
func (o *Options) Validate() error {
	if o.Dial == nil || o.Beat == nil || o.Clock == nil || o.Answer == nil || o.Answered == nil || o.Lost == nil || o.Refused == nil || o.Interval < 0 {
		return errors.New("heartbeat: all callbacks are required")
	}
	return nil
}

// Agent sends heartbeats to all peers and answers theirs.
type Agent struct {
	o     Options
	links map[string]*link
}

// link is this node's own connection to a peer.
type link struct {
	agent *Agent
	peer  string
	kick  chan struct{} // capacity 1: send a heartbeat now
	polls chan *ask     // capacity 1: send a poll
}

// ask is a poll to be sent; done is called once, with nil when there is no answer.
type ask struct {
	poll failover.Poll
	done func(*failover.Vote)
}

// NewAgent checks the options. Nothing is sent before Run.
func NewAgent(o Options) (*Agent, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{o: o, links: map[string]*link{}}
	for _, p := range o.Peers {
		a.links[p] = &link{agent: a, peer: p, kick: make(chan struct{}, 1), polls: make(chan *ask, 1)}
	}
	return a, nil
}

// Run sends until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, l := range a.links {
		all.Go(func() { l.run(ctx) })
	}
	all.Wait()
	return nil
}

// Kick sends everybody a heartbeat now: this node has news.
func (a *Agent) Kick() {
	for _, l := range a.links {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// Poll asks all peers and calls done for each, once, on some goroutine; with nil for one that is not connected or does not answer.
func (a *Agent) Poll(p failover.Poll, done func(peer string, v *failover.Vote)) {
	for _, l := range a.links {
		q := &ask{poll: p, done: func(v *failover.Vote) { done(l.peer, v) }}
		select {
		case l.polls <- q:
		default: // one is waiting already: the link is down
			q.done(nil)
		}
	}
}

// Serve answers a peer's requests on a connection that it dialed, until that ends.
func (a *Agent) Serve(peer string, c net.Conn) {
	lowDelay(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(2 * a.o.Timeout))
		var q Request
		err := read(c, &q)
		if err != nil {
			if gone(err) {
				a.o.Lost(peer)
			}
			return
		}
		r := a.o.Answer(peer, q)
		r.Seq = q.Seq
		_ = c.SetWriteDeadline(time.Now().Add(a.o.Timeout))
		if err := write(c, r); err != nil {
			if gone(err) {
				a.o.Lost(peer)
			}
			return
		}
	}
}

// run keeps the link up. After a loss it dials again at once: if that is refused, the process at the other end is gone.
func (l *link) run(ctx context.Context) {
	o := l.agent.o
	last := ""
	for ctx.Err() == nil {
		began := time.Now()
		c, err := l.dial(ctx)
		if err == nil {
			err = l.talk(ctx, c)
			_ = c.Close()
			if ctx.Err() != nil {
				return
			}
			if gone(err) {
				o.Lost(l.peer)
			}
			o.Logger.Debug("heartbeat connection ended", "peer", l.peer, "error", err)
			if time.Since(began) > o.Interval {
				continue // dial at once
			}
		} else if refused(err) {
			o.Refused(l.peer)
		}
		if err != nil && err.Error() != last && ctx.Err() == nil {
			last = err.Error()
			o.Logger.Debug("no heartbeat connection", "peer", l.peer, "error", err)
		}
		l.rest(ctx, o.Interval/2)
	}
}

func (l *link) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.agent.o.Timeout)
	defer cancel()
	return l.agent.o.Dial(ctx, l.peer)
}

// rest waits, and answers polls meanwhile: the peer cannot be asked.
func (l *link) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case <-ctx.Done():
			return
		case q := <-l.polls:
			q.done(nil)
		}
	}
}

// pending are requests that are not answered yet.
type pending struct {
	sync.Mutex
	sent map[uint64]sentRequest
}

type sentRequest struct {
	at   failover.Mono
	poll *ask
}

// talk sends heartbeats and polls on c until it ends. The answers are read by a second goroutine.
func (l *link) talk(ctx context.Context, c net.Conn) error {
	o := l.agent.o
	lowDelay(c)
	p := &pending{sent: map[uint64]sentRequest{}}
	readErr := make(chan error, 1)
	go func() { readErr <- l.listen(c, p) }()
	fail := func(err error) error {
		_ = c.Close()
		if e := <-readErr; gone(e) {
			err = e // the reader saw why
		}
		p.Lock()
		defer p.Unlock()
		for _, s := range p.sent {
			if s.poll != nil {
				s.poll.done(nil)
			}
		}
		return err
	}
	t := time.NewTicker(o.Interval)
	defer t.Stop()
	var seq uint64
	var poll *ask // taken, to be sent next
	for {
		seq++
		q := Request{Seq: seq, Beat: o.Beat()}
		if poll != nil {
			q.Poll = &poll.poll
		}
		p.Lock()
		p.sent[seq] = sentRequest{at: o.Clock(), poll: poll} // before it is sent: the lease counts from here
		p.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(o.Timeout))
		if err := write(c, q); err != nil {
			return fail(fmt.Errorf("send heartbeat: %w", err))
		}
		poll = nil
		select {
		case <-t.C:
		case <-l.kick:
		case poll = <-l.polls:
		case err := <-readErr:
			readErr <- err
			return fail(err)
		case <-ctx.Done():
			return fail(ctx.Err())
		}
	}
}

// listen reads the answers on a link.
func (l *link) listen(c net.Conn, p *pending) error {
	o := l.agent.o
	for {
		_ = c.SetReadDeadline(time.Now().Add(o.Timeout))
		var r Response
		if err := read(c, &r); err != nil {
			return err
		}
		p.Lock()
		s, ok := p.sent[r.Seq]
		delete(p.sent, r.Seq)
		p.Unlock()
		if !ok {
			return fmt.Errorf("answer to heartbeat %d, which was not sent", r.Seq)
		}
		o.Answered(l.peer, r, s.at, s.poll != nil)
		if s.poll != nil {
			s.poll.done(r.Vote)
		}
	}
}

// gone reports whether the other end closed or reset the connection, as the kernel does for a process that died.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF)
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// lowDelay asks the host to send these bytes before bulk ones. Without effect on what is no TCP connection.
func lowDelay(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		const ipTOSLowDelay = 0x10
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS, ipTOSLowDelay) // a courtesy: refused on IPv6 sockets, for one
	})
}
