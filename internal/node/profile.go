package node

import (
	"context"
	"fmt"

	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// profile is what this node tells the others of itself.
func (g *group) profile() profile {
	st := g.fence.State()
	m := profile{
		Node: g.o.Name, Incarnation: g.incarnation, Epoch: st.Epoch(), Holder: st.Holder(), Client: g.o.Reach, Sentinel: g.o.Sentinel.Announce,
		Mode: g.o.Mode, Voter: st.Voter, Reads: g.o.StandbyReads, Durable: g.log.Durable().LSN, Applied: g.state.applied().LSN,
	}
	m.Open = g.active() && wal.Epoch(g.opened.Load()) == m.Epoch
	m.Lapsed = m.Open && !g.lease.live()
	if r := g.receiver.Status(); !m.Open && r.Running && r.State == replicate.StateStream && g.follower.target() == m.Holder {
		m.Linked = true
	}
	return m
}

// closeGate notes that clients may not write here any more, and that those who are connected have to be sent on.
func (g *group) closeGate() {
	if g.open.Swap(false) {
		g.left.Store(g.opened.Load())
	}
	g.roster.bump()
}

// moveClients closes the connections of clients once this node has left its role and another node accepts writes: many clients look for the active
// only then. Those that came after the role ended are closed as well. Writes in flight were answered as unknown when the role ended, before this (R13).
func (g *group) moveClients(ctx context.Context, clients *server.Server) error {
	for {
		news := g.roster.changed()
		if left := g.left.Load(); left != 0 {
			m, ok := g.roster.active()
			switch {
			case !ok:
			case m.Node == g.o.Name:
				g.left.CompareAndSwap(left, 0) // it came back: nobody has to go
			case uint64(m.Epoch) > left && g.left.CompareAndSwap(left, 0):
				clients.DisconnectClients(fmt.Sprintf("node %s is active in epoch %d", m.Node, m.Epoch))
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}
