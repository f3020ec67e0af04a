package node

import (
	"context"
	"fmt"
	"net"

	"repld/internal/server"
	"repld/replicate"
)

// forwarder reaches the active for sessions of this node while it is a standby.
type forwarder struct{ *group }

var _ server.Forwarder = forwarder{}

// Active implements server.Forwarder.
func (f forwarder) Active() bool { return f.active() }

// Open implements server.Forwarder.
func (f forwarder) Open(ctx context.Context) (net.Conn, error) {
	m, ok := f.roster.active()
	switch {
	case !ok:
		return nil, fmt.Errorf("no active is known: epoch %d is held by %q", f.fence.Epoch(), f.holder())
	case m.Node == f.o.Name || m.Epoch < f.fence.Epoch():
		return nil, fmt.Errorf("the active changes: epoch %d is held by %q", f.fence.Epoch(), f.holder())
	}
	return f.peers.mesh.Open(ctx, m.Node, streamForward, f.o.Group)
}

// Changed implements server.Forwarder.
func (f forwarder) Changed() <-chan struct{} { return f.roster.changed() }

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
