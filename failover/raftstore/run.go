package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"repld/failover"
)

// Run takes part in the token log until ctx ends: at once when this voter has done so before, otherwise when the others have told it how. It hands
// leadership on before it returns. Call Close afterwards.
func (s *Store) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if err := s.join(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.lead(ctx)
	s.leave()
	return nil
}

// config is raft's, for this voter.
func (s *Store) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.address())
	c.HeartbeatTimeout, c.ElectionTimeout = s.o.Election, s.o.Election
	c.LeaderLeaseTimeout = s.o.Election // no lease of ours hangs on it: a leader that gives up early for a hiccup would cost an election
	c.SnapshotThreshold, c.TrailingLogs = 2*s.o.Keep, s.o.Keep
	c.SnapshotInterval = 30 * time.Second
	c.Logger = newLogger(s.o.Logger)
	c.NoLegacyTelemetry = true
	return c
}

// start makes this voter take part. servers is the first configuration of a new cluster, nil otherwise.
func (s *Store) start(servers []raft.Server) error {
	c := s.config()
	log, snaps := raftLog{s.journal}, snapshots{s.journal}
	trans := transport{leads: s.leads, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.layer, MaxPool: maxPool, Timeout: max(time.Second, 2*s.o.Election), Logger: c.Logger, MsgpackUseNewTimeFormat: true,
	})}
	if servers != nil {
		if err := raft.BootstrapCluster(c, log, log, snaps, trans, raft.Configuration{Servers: servers}); err != nil {
			return errors.Join(fmt.Errorf("begin the token log: %w", err), trans.Close())
		}
	}
	r, err := raft.NewRaft(c, s.token, log, log, snaps, trans)
	if err != nil {
		return errors.Join(fmt.Errorf("start the token log: %w", err), trans.Close())
	}
	seen := make(chan raft.Observation, 16)
	r.RegisterObserver(raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	s.trans = trans
	s.raft.Store(r)
	go s.watchLeader(seen)
	s.leaderMoved()
	return nil
}

// leads reports whether this voter leads in a term, and will go on to.
func (s *Store) leads(term uint64) bool {
	r := s.raft.Load()
	return s.ctx.Err() == nil && r != nil && r.State() == raft.Leader && r.CurrentTerm() == term
}

func (s *Store) watchLeader(seen <-chan raft.Observation) {
	for {
		select {
		case o := <-seen:
			l := o.Data.(raft.LeaderObservation)
			s.o.Logger.Debug("leader of the token log", "leader", voterName(string(l.LeaderID)))
			s.leaderMoved()
		case <-s.ctx.Done():
			return
		}
	}
}

// leaderMoved lets questions that wait be asked again.
func (s *Store) leaderMoved() {
	next := make(chan struct{})
	close(*s.moved.Swap(&next))
}

// joinEvery is how often a voter that does not take part asks the others.
const joinEvery = 250 * time.Millisecond

// join decides how this voter begins, and starts it.
//
//   - It took part before: it goes on.
//   - Some other voter takes part, and its log names this voter's id: it begins with an empty log. It never promised anything under this id.
//   - Some other voter takes part, and its log does not know this id: this voter's disk is new. It asks the leader to take it in the place of the one that had
//     its name, which a majority of the others has to agree to; until then it does not vote (R11).
//   - Nobody takes part: the cluster is new, but only when every voter says so: one that is silent might know of a token. The voter whose name sorts first begins the
//     log, with the ids of all.
func (s *Store) join(ctx context.Context) error {
	had, err := raft.HasExistingState(raftLog{s.journal}, raftLog{s.journal}, snapshots{s.journal})
	if err != nil {
		return err
	}
	if had {
		return s.start(nil)
	}
	t := time.NewTicker(joinEvery)
	defer t.Stop()
	for {
		d := decideJoin(s.o.Node, s.address(), s.o.Voters, s.askAll(ctx))
		switch d.step {
		case stepBegin:
			s.o.Logger.Info("token log begins", "voters", d.voters)
			var servers []raft.Server
			for _, v := range d.voters {
				servers = append(servers, raft.Server{ID: raft.ServerID(v), Address: raft.ServerAddress(v)})
			}
			return s.start(servers)
		case stepStart:
			return s.start(nil)
		case stepAsk:
			s.askToJoin(ctx, d.leader)
		}
		if *s.state.Load() != d.why {
			s.waitsFor(d.why)
			s.o.Logger.Info("this voter does not take part in the token log yet", "why", d.why)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// step is what a voter that takes no part yet does next.
type step int

const (
	stepWait  step = iota
	stepBegin      // begin a new log with the voters named
	stepStart      // take part with an empty log
	stepAsk        // ask the leader to be taken in
)

type joinDecision struct {
	step   step
	why    string
	voters []string // addresses
	leader string
}

// decideJoin is the rule that join describes. answers has an answer for each other voter that gave one.
func decideJoin(self, own string, voters []string, answers map[string]answer) joinDecision {
	var silent, all []string
	var started []answer
	for _, v := range slices.Sorted(slices.Values(voters)) {
		if v == self {
			all = append(all, own)
			continue
		}
		a, ok := answers[v]
		if !ok {
			silent = append(silent, v)
			continue
		}
		all = append(all, address(v, a.ID))
		if a.Started {
			started = append(started, a)
		}
	}
	for _, a := range started {
		if slices.Contains(a.Voters, own) {
			return joinDecision{step: stepStart}
		}
	}
	switch {
	case len(started) > 0:
		for _, a := range started {
			if a.Leader != "" {
				return joinDecision{step: stepAsk, leader: a.Leader, why: "waits to be taken in by the leader, " + a.Leader}
			}
		}
		return joinDecision{why: "this voter's disk is new, and the other voters have no leader that could take it in"}
	case len(silent) > 0:
		return joinDecision{why: "the first start needs every voter once; silent: " + strings.Join(silent, ", ")}
	case voterName(all[0]) == self:
		return joinDecision{step: stepBegin, voters: all}
	}
	return joinDecision{why: "waits for " + voterName(all[0]) + " to begin"}
}

// askAll asks every other voter what it knows, at once.
func (s *Store) askAll(ctx context.Context) map[string]answer {
	ctx, cancel := context.WithTimeout(ctx, 2*joinEvery)
	defer cancel()
	var mu sync.Mutex
	out := map[string]answer{}
	var all sync.WaitGroup
	for _, v := range s.o.Voters {
		if v == s.o.Node {
			continue
		}
		all.Go(func() {
			a, err := s.call(ctx, v, question{Op: opHello})
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[v] = a
		})
	}
	all.Wait()
	return out
}

// askToJoin asks the leader to make this voter one. Whether it did shows in what the others say next.
func (s *Store) askToJoin(ctx context.Context, leader string) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	a, err := s.call(ctx, leader, question{Op: opJoin, ID: s.address()})
	if err == nil {
		err = a.err(leader)
	}
	if err != nil && ctx.Err() == nil {
		s.o.Logger.Info("not taken in as a voter of the token log yet", "leader", leader, "error", err)
	}
}

// hello is what this voter says of itself.
func (s *Store) hello() answer {
	var a answer
	s.journal.view(func(st *state) { a.ID = st.ID })
	if r := s.raft.Load(); r != nil {
		a.Started = true
		for _, v := range s.servers(r) {
			a.Voters = append(a.Voters, string(v.ID))
		}
		_, id := r.LeaderWithID()
		a.Leader = voterName(string(id))
		return a
	}
	// A voter that took part before and is about to start again is not a new one.
	had, err := raft.HasExistingState(raftLog{s.journal}, raftLog{s.journal}, snapshots{s.journal})
	a.Started = had || err != nil
	return a
}

// servers is the newest configuration in the log.
func (s *Store) servers(r *raft.Raft) []raft.Server {
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// admit is the leader taking in a voter whose disk is new, in the place of the one that had its name.
func (s *Store) admit(ctx context.Context, name, addr string) error {
	r := s.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return errRetry
	}
	if voterName(addr) != name || !slices.Contains(s.o.Voters, name) || len(addr) > maxName {
		return fmt.Errorf("voter %q cannot join as %q: %w", name, addr, failover.ErrInvalid)
	}
	s.admitting.Lock()
	defer s.admitting.Unlock()
	for _, v := range s.servers(r) {
		if string(v.ID) == addr {
			continue
		}
		if voterName(string(v.ID)) == name {
			s.o.Logger.Warn("voter of the token log has a new disk: its old self is removed", "voter", name)
			if err := await(ctx, r.RemoveServer(v.ID, 0, s.o.Timeout)); err != nil {
				return fmt.Errorf("%w: remove %s: %w", errRetry, v.ID, err)
			}
		}
	}
	if err := await(ctx, r.AddVoter(raft.ServerID(addr), raft.ServerAddress(addr), 0, s.o.Timeout)); err != nil {
		return fmt.Errorf("%w: add %s: %w", errRetry, addr, err)
	}
	s.o.Logger.Info("voter of the token log taken in", "voter", name)
	return nil
}

// lead does the duties of the leader, while this voter is it, until ctx ends: leadership is kept off the active, so that losing the active costs no
// election, and with voters that have no data of their own.
func (s *Store) lead(ctx context.Context) {
	t := time.NewTicker(max(s.o.Election/4, 10*time.Millisecond))
	defer t.Stop()
	var rest time.Time // after an attempt that failed
	was := ""          // whom the tick before would have handed on to
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		to := s.successor()
		// At the second tick only: at the first one the promotion that made this node the active may be under way, which needs leader and disk.
		if first := to != was; to == "" || first || time.Now().Before(rest) {
			was = to
			continue
		}
		if err := s.transfer(ctx, to); err != nil {
			s.o.Logger.Debug("leadership of the token log not handed on", "to", to, "error", err)
			rest = time.Now().Add(2 * s.o.Election)
		}
	}
}

// successor is the voter that should lead instead of this one; "" when this one should, or does not lead.
func (s *Store) successor() string {
	r := s.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return ""
	}
	st, _, err := s.token.now()
	if err != nil || st.Record.Holder != s.o.Node {
		return ""
	}
	return s.other(r)
}

// other is the address of the best voter to lead besides this one, "" when none is connected.
func (s *Store) other(r *raft.Raft) string {
	order := s.order(r, s.o.Node)
	for _, v := range s.servers(r) {
		if len(order) > 0 && voterName(string(v.ID)) == order[0] {
			return string(v.ID)
		}
	}
	return ""
}

func (s *Store) transfer(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*s.o.Election)
	defer cancel()
	return await(ctx, s.raft.Load().LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)))
}

// leave hands leadership on before this voter stops.
func (s *Store) leave() {
	r := s.raft.Load()
	if r == nil || r.State() != raft.Leader || s.ctx.Err() != nil {
		return
	}
	if to := s.other(r); to != "" {
		if err := s.transfer(context.Background(), to); err != nil {
			s.o.Logger.Debug("leadership of the token log not handed on", "to", to, "error", err)
		}
	}
}

var _ io.Closer = (*Store)(nil)
