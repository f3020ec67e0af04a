package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Gone is what a voter knows of another one's end.
type Gone struct {
	Voter string // its name
	Proof bool   // its process is dead for sure; otherwise it has been silent for long
}

// LeaderGone is told that a voter is gone, by the node's failure detector. If that one leads the token log another leader is elected now: a promotion waits for
// one, and raft by itself finds out only after an election timeout at each voter, and settles two candidates by waiting for as long again. All voters that
// notice mean the same successor, so there is one candidate. It does not block. Wrong, it costs a change of the leader and nothing else.
func (s *Store) LeaderGone(g Gone) {
	if !s.enter(&s.life.streams) {
		return
	}
	go func() {
		defer s.life.streams.Done()
		ctx, cancel := context.WithTimeout(s.ctx, s.o.Election)
		defer cancel()
		if err := s.replace(ctx, g); err != nil {
			s.o.Logger.Debug("no successor for the leader of the token log", "leader", g.Voter, "error", err)
		}
	}()
}

// standAfter is how long the next best voter leaves the one before it to be elected. That one may be refused: what was committed last may be in the other one's
// log only.
const standAfter = 100 * time.Millisecond

// replace has the best of the voters that are left stand for election, and this one, when its turn comes and there is no leader yet.
func (s *Store) replace(ctx context.Context, g Gone) error {
	r := s.raft.Load()
	if r == nil || !s.isGone(r, g) || r.State() == raft.Candidate { // a second candidate would halve the votes
		return nil
	}
	order := s.order(r, g.Voter)
	if len(order) == 0 {
		return errors.New("no voter is left")
	}
	var err error
	if first := order[0]; first != s.o.Node {
		var a answer
		if a, err = s.call(ctx, first, question{Op: opElect, ID: g.Voter, Proof: g.Proof}); err == nil {
			err = a.err(first)
		}
	}
	turn := time.NewTimer(standAfter * time.Duration(slices.Index(order, s.o.Node)))
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-ctx.Done():
		return errors.Join(err, context.Cause(ctx))
	}
	if !s.isGone(r, g) {
		return err
	}
	return errors.Join(err, s.stand(r))
}

// isGone reports whether g leads as far as this voter knows, and does so no more.
func (s *Store) isGone(r *raft.Raft, g Gone) bool {
	_, id := r.LeaderWithID()
	if leader := voterName(string(id)); leader != "" && leader != g.Voter || g.Voter == s.o.Node {
		return false
	}
	return r.State() != raft.Leader && (g.Proof || time.Since(r.LastContact()) > s.o.Election/2)
}

// order are the voters that may lead when `without` does not, the best first: the same at every voter that is connected with the same others. This one is always
// among them, unless it is `without`.
func (s *Store) order(r *raft.Raft, without string) (names []string) {
	for _, v := range s.servers(r) {
		name := voterName(string(v.ID))
		if v.Suffrage == raft.Voter && name != without && (name == s.o.Node || s.o.Connected(name)) {
			names = append(names, name)
		}
	}
	st, _, _ := s.token.now()
	rank := func(n string) int {
		switch {
		case slices.Contains(s.o.Prefer, n):
			return 0
		case n != st.Record.Holder:
			return 1
		}
		return 2
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return names
}

// stand makes this voter a candidate now, as a leader does that hands on: raft has no call for it but the request between two voters.
func (s *Store) stand(r *raft.Raft) error {
	if r.State() != raft.Follower {
		return nil // it is one already
	}
	s.o.Logger.Info("standing for leader of the token log: the one before is gone")
	self := s.address()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: s.trans.EncodePeer(raft.ServerID(self), raft.ServerAddress(self))}
	return s.trans.TimeoutNow(raft.ServerID(self), raft.ServerAddress(self), &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
}

// elect is another voter asking this one to stand in the place of one that is gone.
func (s *Store) elect(g Gone) error {
	r := s.raft.Load()
	if r == nil {
		return errRetry
	}
	if !s.isGone(r, g) {
		return fmt.Errorf("%w: %s is not gone as far as this voter knows, or leads no more", errRetry, g.Voter)
	}
	return s.stand(r)
}

// open is Options.Dial, and a pipe to this voter itself.
func (s *Store) open(ctx context.Context, voter, kind string) (net.Conn, error) {
	if voter != s.o.Node {
		return s.o.Dial(ctx, voter, kind)
	}
	a, b := net.Pipe()
	go s.Handle(voter, kind, b)
	return a, nil
}
