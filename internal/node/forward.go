package node

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"repld/internal/server"
	"repld/replicate"
)

// forwarder reaches the active for sessions of this node while it is a standby.
type forwarder struct {
	*group
	links forwardLinks
}

var _ server.Forwarder = (*forwarder)(nil)

// forwardLinks are the open links, and the nodes that they lead to.
type forwardLinks struct {
	sync.Mutex
	to map[*forwardLink]string
}

// forwardLink is one of them.
type forwardLink struct {
	net.Conn
	all *forwardLinks
}

// Close implements net.Conn.
func (l *forwardLink) Close() error {
	l.all.Lock()
	delete(l.all.to, l)
	l.all.Unlock()
	return l.Conn.Close()
}

// closeBut closes all links that do not lead to active, and tells how many it left because keep said so.
func (f *forwardLinks) closeBut(active string, keep func(node string) bool) (left int) {
	f.Lock()
	var old []*forwardLink
	for l, to := range f.to {
		switch {
		case to == active:
		case keep(to):
			left++
		default:
			old = append(old, l)
		}
	}
	f.Unlock()
	for _, l := range old {
		_ = l.SetDeadline(time.Unix(1, 0)) // closing a stream wakes nobody who reads from it
		_ = l.Close()
	}
	return left
}

// Active implements server.Forwarder.
func (f *forwarder) Active() bool { return f.active() }

// Open implements server.Forwarder.
func (f *forwarder) Open(ctx context.Context) (net.Conn, error) {
	m, ok := f.roster.active()
	switch {
	case !ok:
		return nil, fmt.Errorf("no active is known: epoch %d is held by %q", f.fence.Epoch(), f.holder())
	case m.Node == f.o.Name || m.Epoch < f.fence.Epoch():
		return nil, fmt.Errorf("the active changes: epoch %d is held by %q", f.fence.Epoch(), f.holder())
	}
	c, err := f.peers.mesh.Open(ctx, m.Node, streamForward, f.o.Group)
	if err != nil {
		return nil, err
	}
	l := &forwardLink{Conn: c, all: &f.links}
	f.links.Lock()
	if f.links.to == nil {
		f.links.to = map[*forwardLink]string{}
	}
	f.links.to[l] = m.Node
	f.links.Unlock()
	if now, ok := f.roster.active(); ok && now.Node != m.Node { // run may have looked before this link was among them
		_ = l.Close()
		return nil, fmt.Errorf("the active changes: epoch %d is held by %q", now.Epoch, now.Node)
	}
	return l, nil
}

// Changed implements server.Forwarder.
func (f *forwarder) Changed() <-chan struct{} { return f.roster.changed() }

// lastWords is how long a former active that is not suspected to be gone may take to say what became of commands that it was sent: in a switchover it refuses those
// that wait, so that they are executed by the next one, and nobody sees an error.
const lastWords = 500 * time.Millisecond

// run closes the links to a former active once another node accepts writes, until ctx ends: a host that is silent would never answer what is in flight to it, and
// nobody would ask the new active (R12). Writes on such a link are answered -UNKNOWN (R13).
func (f *forwarder) run(ctx context.Context) error {
	late := time.NewTimer(lastWords)
	defer late.Stop()
	patience := "" // node that accepted writes when the wait for last words began
	for {
		changed := f.roster.changed()
		m, ok := f.roster.active()
		if ok && f.links.closeBut(m.Node, func(n string) bool { return !f.voter.suspected(n) }) > 0 && patience != m.Node {
			patience = m.Node
			late.Reset(lastWords)
		}
		select {
		case <-changed:
		case <-late.C:
			if m, ok := f.roster.active(); ok && m.Node == patience {
				f.links.closeBut(m.Node, func(string) bool { return false })
			}
			patience = ""
		case <-ctx.Done():
			return nil
		}
	}
}

// serveForwarded executes what clients of a standby send.
func (n *Node) serveForwarded(peer replicate.PeerInfo, name string, s net.Conn) {
	if name != n.o.Group {
		n.logger.Warn("forwarded commands for another group refused", "peer", peer.Node, "asked", name)
		return
	}
	if err := n.server.ServeForwarded(s, peer.Node); err != nil {
		n.logger.Debug("link of a standby's clients ended", "peer", peer.Node, "error", err)
	}
}
