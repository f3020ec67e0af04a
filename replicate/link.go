package replicate

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// A link is a small connection of its own beside the session with a peer, so that what travels on it does not wait behind bulk traffic: heartbeats. It has the
// same wrapping (TLS) and the same handshake as a session; the preface names its kind. Both sides may dial. Links may have a listener of
// their own.

var errNoLinks = errors.New("links of this kind are not taken here")

// HandleLink registers fn for inbound links of a kind; a later call replaces it. fn runs in its own goroutine; the connection is closed when
// fn returns, and its reads fail when Run ends.
func (m *Mesh) HandleLink(kind string, fn func(peer PeerInfo, c net.Conn)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.links == nil {
		m.links = map[string]func(PeerInfo, net.Conn){}
	}
	m.links[kind] = fn
}

// DialLink connects a link of a kind to a peer. The caller closes it.
func (m *Mesh) DialLink(ctx context.Context, peer, kind string) (net.Conn, error) {
	p := m.peers[peer]
	if p == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownPeer, peer)
	}
	addr := p.LinkAddr
	if addr == "" {
		addr = p.Addr
	}
	c, _, err := m.dialConn(ctx, addr, p.Name, kind)
	return c, err
}

// dialConn dials, wraps and introduces us. kind is "" for a session.
func (m *Mesh) dialConn(ctx context.Context, addr, peer, kind string) (net.Conn, PeerInfo, error) {
	dctx, cancel := context.WithTimeout(ctx, m.o.HandshakeTimeout)
	defer cancel()
	c, err := m.o.Dial(dctx, addr)
	if err != nil {
		return nil, PeerInfo{}, err
	}
	persist(c)
	if m.o.WrapClient != nil {
		wrapped, err := m.o.WrapClient(dctx, c, peer)
		if err != nil {
			_ = c.Close()
			return nil, PeerInfo{}, err
		}
		c = wrapped
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(past()) })()
	info, err := m.dialerHandshake(c, peer, kind)
	if err != nil {
		_ = c.Close()
		return nil, info, err
	}
	return m.seal(c), info, nil
}

// serveLink runs the handler of an inbound link.
func (m *Mesh) serveLink(ctx context.Context, peer PeerInfo, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // not by a deadline, which fn may set anew
	m.mu.Lock()
	fn := m.links[peer.Link]
	m.mu.Unlock()
	if fn == nil {
		if m.said.fresh(peer.Node+"\x00link", peer.Link) {
			m.log.Warn("link of a peer was refused", "peer", peer.Node, "kind", peer.Link, "err", errNoLinks)
		}
		return
	}
	fn(peer, c)
}
