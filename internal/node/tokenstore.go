package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"repld/failover"
	"repld/failover/raftstore"
	"repld/internal/admin"
	"repld/internal/durable"
	"repld/replicate"
)

// RaftOptions tune the token store that is embedded in the nodes.
type RaftOptions struct {
	Election time.Duration // silence of its leader before another voter asks to be elected; default: raftstore's
}

// openToken opens the store that the options name.
func (g *group) openToken(mesh *replicate.Mesh) error {
	o := g.o
	switch {
	case o.Token != nil:
		g.token, g.closeTok = o.Token, o.CloseToken
	case o.Raft != nil && len(o.Peers) > 0:
		store, err := openRaft(o, g.path("token"), g.path("token/raft"), mesh, g.logger, g.fatal, func(peer string) bool { return g.voter.suspected(peer) })
		if err != nil {
			return err
		}
		g.token, g.raft, g.closeTok = store, store, store.Close
	default:
		store, err := failover.OpenFileStore(failover.FileStoreOptions{FS: o.FS, Dir: g.path("token")})
		if err != nil {
			return fmt.Errorf("open token store: %w", err)
		}
		g.token, g.closeTok = store, store.Close
	}
	return nil
}

// runToken takes part in the token's raft log, if there is one.
func (g *group) runToken(ctx context.Context) error {
	if g.raft == nil {
		<-ctx.Done()
		return nil
	}
	return g.raft.Run(ctx)
}

// openRaft opens this node's voter of the token log and ties it to the sessions between nodes. gone is asked only once the voter runs.
func openRaft(o *Options, parent, dir string, mesh *replicate.Mesh, logger *slog.Logger, fatal func(error), gone func(peer string) bool) (*raftstore.Store, error) {
	for _, d := range []string{parent, dir} {
		if err := durable.MakeDir(o.FS, d); err != nil {
			return nil, err
		}
	}
	ro := raftstore.Options{
		FS: o.FS, Dir: dir, Node: o.Name, Voters: []string{o.Name}, Election: o.Raft.Election,
		Dial: func(ctx context.Context, voter, kind string) (net.Conn, error) {
			return mesh.Open(ctx, voter, kind, o.Group)
		},
		Connected: func(voter string) bool { return connected(mesh, voter) && !gone(voter) }, // a session outlives a silent host for long
		OnFatal:   func(err error) { fatal(err) },
		Logger:    logger,
	}
	for _, p := range o.Peers {
		ro.Voters = append(ro.Voters, p.Name)
		if p.Witness {
			ro.Prefer = append(ro.Prefer, p.Name)
		}
	}
	store, err := raftstore.Open(ro)
	if err != nil {
		return nil, fmt.Errorf("open token store: %w", err)
	}
	for _, kind := range []string{raftstore.KindRaft, raftstore.KindCall} {
		mesh.Handle(kind, func(peer replicate.PeerInfo, group string, s net.Conn) {
			if group == o.Group {
				store.Handle(peer.Node, kind, s)
			}
		})
	}
	return store, nil
}

// leaderGone tells the token log of a node that is gone, so that no promotion waits for raft to notice.
func leaderGone(s *raftstore.Store) func(peer string, proof bool) {
	return func(peer string, proof bool) {
		if s != nil {
			s.LeaderGone(raftstore.Gone{Voter: peer, Proof: proof})
		}
	}
}

func connected(mesh *replicate.Mesh, peer string) bool {
	for _, p := range mesh.Peers() {
		if p.Name == peer {
			return p.Connected
		}
	}
	return false
}

// tokenShared reports whether all nodes see the same token.
func (o *Options) tokenShared() bool {
	if o.Token != nil {
		return o.Token.Shared()
	}
	return o.Raft != nil
}

// tokenStatus is a voter's view of the token log, nil when there is none.
func tokenStatus(s *raftstore.Store) *admin.TokenVoter {
	if s == nil {
		return nil
	}
	st := s.Status()
	return &admin.TokenVoter{Started: st.Started, Waits: st.Waits, Leader: st.Leader, Voters: st.Voters, Rev: st.Rev}
}

// tokenMetrics are what monitoring needs of it.
func tokenMetrics(t *admin.TokenVoter, gauge func(name, help string, v float64)) {
	if t == nil {
		return
	}
	led := 0.0
	if t.Leader != "" {
		led = 1
	}
	gauge("token_voters", "voters of the token log", float64(len(t.Voters)))
	gauge("token_leader_known", "1 while this node knows a leader of the token log", led)
	gauge("token_revision", "revision of the token as this node has it", float64(t.Rev))
}
