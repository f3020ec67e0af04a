package replicate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// keepConnected dials p whenever there is no session with it.
func (m *Mesh) keepConnected(ctx context.Context, p *peerState) {
	failures := 0
	for ctx.Err() == nil {
		if s := p.current(); s != nil { // it may have dialed us
			select {
			case <-s.done:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		err := m.connect(ctx, p)
		if ctx.Err() != nil {
			return
		}
		// A session that lived a while earns an immediate retry; one that fell at once does not (W4).
		if time.Since(began) > m.o.MaxBackoff && !errors.Is(err, errNoSession) {
			failures = 0
		}
		if !m.pause(ctx, m.backoff(failures, err)) {
			return
		}
		failures++
	}
}

// errNoSession marks that no session came about.
var errNoSession = errors.New("not connected")

// connect dials once and, if that leads to a session, runs it to its end.
func (m *Mesh) connect(ctx context.Context, p *peerState) error {
	s, err := m.dial(ctx, p)
	if err != nil {
		p.failed(err)
		if m.said.fresh(p.Name, err.Error()) && ctx.Err() == nil {
			m.log.Warn("cannot connect to peer", "peer", p.Name, "addr", p.Addr, "err", err)
			if answered(err) {
				m.o.OnRefused(p.Name, p.Addr, err)
			}
		}
		return errors.Join(errNoSession, err)
	}
	return m.adopt(ctx, s)
}

func (m *Mesh) dial(ctx context.Context, p *peerState) (*session, error) {
	c, info, err := m.dialConn(ctx, p.Addr, p.Name, "")
	if err != nil {
		return nil, err
	}
	return m.newSession(c, info, true)
}

// backoff returns the wait after so many failures in a row: none, then MinBackoff doubled up to MaxBackoff, with
// jitter of a half. What was refused by words is not hammered.
func (m *Mesh) backoff(failures int, err error) time.Duration {
	if errors.Is(err, ErrRefused) {
		failures = max(failures, 62)
	}
	if failures == 0 {
		return 0
	}
	d := m.o.MaxBackoff
	if failures < 32 {
		d = min(d, m.o.MinBackoff<<(failures-1))
	}
	return d/2 + rand.N(d/2+1)
}

func (m *Mesh) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// accept takes inbound connections until ctx ends.
func (m *Mesh) accept(ctx context.Context, l net.Listener) {
	g := newGate(m.o.MaxHandshakes)
	for failures := 0; ; {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return
		}
		if err != nil { // out of files, for one: keep what is connected, try again
			failures++
			if m.said.fresh("\x00accept", err.Error()) {
				m.log.Error("cannot accept peers", "err", err)
			}
			if !m.pause(ctx, m.backoff(failures, nil)) {
				return
			}
			continue
		}
		failures = 0
		persist(c)
		out, ok := g.enter(ctx, c) // a flood of connections must not become a flood of goroutines
		if !ok {
			_ = c.Close()
			return
		}
		if out != nil && m.said.fresh("\x00flood", host(out)) {
			m.log.Warn("too many connections that do not say who they are, the oldest are closed", "limit", m.o.MaxHandshakes, "host", host(out))
			m.o.OnRefused("", remote(out), errFlood)
		}
		m.running.Go(func() {
			s := m.inbound(ctx, g, c)
			g.leave(c)
			if s != nil {
				_ = m.adopt(ctx, s)
			}
		})
	}
}

// answered reports whether err is something that the other side did or said, as opposed to the network between.
func answered(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op == "remote error" || op.Op == "local error" // crypto/tls names alerts so
	}
	return !errors.Is(err, context.DeadlineExceeded)
}

// reason is err without the port of the other end, which is another one with each connection.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

var (
	// errUnproven marks that a connection did not show who it is from.
	errUnproven = errors.New("no proof of who is there")
	errFlood    = errors.New("too many connections that do not say who they are")
)

// inbound turns a connection into a session, or closes it.
func (m *Mesh) inbound(ctx context.Context, g *gate, c net.Conn) *session {
	info, s, err := m.welcome(ctx, g, c)
	if err == nil {
		return s // nil for a link, which has its own goroutine
	}
	_ = c.Close()
	about := info.Node
	if p := m.peers[about]; p != nil {
		p.failed(err)
	} else {
		about = "\x00" + about + host(c)
	}
	if (errors.Is(err, ErrRefused) || errors.Is(err, errUnproven)) && ctx.Err() == nil && m.said.fresh(about, reason(err)) {
		m.log.Warn("inbound peer session did not come about", "peer", info.Node, "addr", remote(c), "err", err)
		m.o.OnRefused(info.Node, remote(c), err)
	}
	return nil
}

func (m *Mesh) welcome(ctx context.Context, g *gate, c net.Conn) (PeerInfo, *session, error) {
	raw := c // c is wrapped below
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(past()) })()
	if m.o.WrapServer != nil {
		wctx, cancel := context.WithTimeout(ctx, m.o.HandshakeTimeout)
		defer cancel()
		wrapped, err := m.o.WrapServer(wctx, c)
		if err != nil {
			return PeerInfo{}, nil, fmt.Errorf("%w: %w", errUnproven, err)
		}
		if !g.known(c) {
			return PeerInfo{}, nil, errFlood
		}
		c = wrapped
	}
	info, err := m.acceptorHandshake(c)
	if err != nil {
		return info, nil, err
	}
	c = m.seal(c)
	if info.Link != "" {
		m.running.Go(func() { m.serveLink(ctx, info, c) })
		return info, nil, nil
	}
	s, err := m.newSession(c, info, false)
	return info, s, err
}

func host(c net.Conn) string {
	h, _, err := net.SplitHostPort(remote(c))
	if err != nil {
		return remote(c)
	}
	return h
}
