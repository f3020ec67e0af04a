package raftstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"repld/failover"
)

// errRetry: this voter could not answer, another one or the same one soon may. What was asked for may have happened all the same.
var errRetry = errors.New("not the leader of the token log")

// Store is a voter of the token log, and the token as the whole group sees it (failover.Store).
type Store struct {
	o       Options
	journal *journal
	token   *token
	layer   *layer
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	life struct {
		sync.Mutex
		closed  bool
		streams sync.WaitGroup // inbound ones
		asking  sync.WaitGroup // for a majority's word
	}

	raft  atomic.Pointer[raft.Raft] // nil until this voter takes part
	trans transport                 // raft's; set before raft is
	state atomic.Pointer[string]    // what a voter that does not take part yet waits for
	moved atomic.Pointer[chan struct{}]

	once      sync.Once
	admitting sync.Mutex
	closeErr  error
}

var _ failover.Store = (*Store)(nil)

// Open recovers the journal. Run does the rest.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.OnFatal = onlyOnce(o.OnFatal)
	j, err := openJournal(o)
	if err != nil {
		return nil, err
	}
	s := &Store{o: o, journal: j, token: newToken(o.OnFatal)}
	s.layer = newLayer(s.address(), s.open)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	changed := make(chan struct{})
	s.moved.Store(&changed)
	s.waitsFor("start")
	return s, nil
}

func onlyOnce(fn func(error)) func(error) {
	var once sync.Once
	return func(err error) { once.Do(func() { fn(err) }) }
}

// address is how the token log names this voter.
func (s *Store) address() string {
	var id string
	s.journal.view(func(st *state) { id = st.ID })
	return address(s.o.Node, id)
}

func (s *Store) waitsFor(what string) { s.state.Store(&what) }

// Shared implements failover.Store: all voters see the same token.
func (s *Store) Shared() bool { return true }

// Load implements failover.Store. The leader answers, after a majority has confirmed that it still is.
func (s *Store) Load(ctx context.Context) (failover.Record, error) {
	return s.onLeader(ctx, question{Op: opLoad})
}

// CompareAndSet implements failover.Store. The leader decides; when it is lost meanwhile, the next one is asked the same, and does it once.
func (s *Store) CompareAndSet(ctx context.Context, rev uint64, next failover.Record) (failover.Record, error) {
	return s.onLeader(ctx, question{Op: opSet, Command: &command{Nonce: rand.Text(), Rev: rev, Next: next}})
}

// Watch implements failover.Store: it looks at this voter's own copy, which follows the leader's.
func (s *Store) Watch(ctx context.Context, after uint64) (failover.Record, error) {
	for {
		st, changed, err := s.token.now()
		if err != nil {
			return failover.Record{}, err
		}
		if st.Record.Rev > after {
			return st.Record, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return failover.Record{}, ctx.Err()
		case <-s.ctx.Done():
			return failover.Record{}, fmt.Errorf("token store: %w", failover.ErrClosed)
		}
	}
}

// askAgain is how soon a question is asked again when nobody could answer it and no change of leader was seen.
const askAgain = 20 * time.Millisecond

// errMoved ends a question to a voter that leads no more: it may be gone, and would never answer. The command's nonce makes asking the next one safe.
var errMoved = errors.New("the leader of the token log changed")

// onLeader has the leader answer q, whoever it is, within the time limit.
func (s *Store) onLeader(ctx context.Context, q question) (failover.Record, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Timeout, fmt.Errorf("token store: no answer within %s", s.o.Timeout))
	defer cancel()
	why := errRetry
	var urged time.Time // when a successor was last asked for
	for {
		changed := *s.moved.Load()
		rec, err := s.tryUntil(ctx, changed, q)
		switch {
		case err == nil, errors.Is(err, failover.ErrConflict), errors.Is(err, failover.ErrInvalid), errors.Is(err, failover.ErrFailed), errors.Is(err, failover.ErrVersion):
			return rec, err
		case ctx.Err() == nil:
			why = err
		}
		if leader := s.leaderName(); leader != "" && leader != s.o.Node && !s.o.Connected(leader) && time.Since(urged) > s.o.Election/4 {
			urged = time.Now()
			s.LeaderGone(Gone{Voter: leader})
		}
		again := time.NewTimer(askAgain)
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return failover.Record{}, fmt.Errorf("%w: %w", context.Cause(ctx), why)
		case <-s.ctx.Done():
			again.Stop()
			return failover.Record{}, fmt.Errorf("token store: %w", failover.ErrClosed)
		}
		again.Stop()
	}
}

// leaderName is the leader as far as this voter knows, "" for none.
func (s *Store) leaderName() string {
	r := s.raft.Load()
	if r == nil {
		return ""
	}
	_, id := r.LeaderWithID()
	return voterName(string(id))
}

// tryUntil is try until the leader changes.
func (s *Store) tryUntil(ctx context.Context, changed <-chan struct{}, q question) (failover.Record, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-changed:
			cancel(fmt.Errorf("%w: %w", errMoved, errRetry))
		case <-done:
		}
	})
	defer func() {
		close(done)
		cancel(nil)
		watch.Wait()
	}()
	return s.try(ctx, q)
}

// try asks whoever is leader as far as this voter knows.
func (s *Store) try(ctx context.Context, q question) (failover.Record, error) {
	r := s.raft.Load()
	if r == nil {
		return failover.Record{}, fmt.Errorf("this voter does not take part yet: %s: %w", *s.state.Load(), errRetry)
	}
	_, id := r.LeaderWithID()
	switch leader := voterName(string(id)); leader {
	case "":
		return failover.Record{}, fmt.Errorf("no leader is known: %w", errRetry)
	case s.o.Node:
		if q.Op == opLoad {
			return s.loadHere(ctx)
		}
		return s.setHere(ctx, *q.Command)
	default:
		a, err := s.call(ctx, leader, q)
		if err != nil {
			return failover.Record{}, err
		}
		return a.Record, a.err(leader)
	}
}

// loadHere answers as the leader: what is committed when it begins is in the record, and a majority says that nobody else leads.
func (s *Store) loadHere(ctx context.Context) (failover.Record, error) {
	r := s.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return failover.Record{}, errRetry
	}
	// An index that is committed in an earlier term may be behind what that term's leader had committed: wait for an entry of our own.
	term := r.CurrentTerm()
	var at uint64
	if err := s.until(ctx, func() bool {
		at = r.CommitIndex()
		var l raft.Log
		err := raftLog{s.journal}.GetLog(at, &l)
		return err == nil && l.Term == term
	}); err != nil {
		return failover.Record{}, fmt.Errorf("leader of term %d has committed nothing yet: %w", term, err)
	}
	if err := s.verify(ctx, r); err != nil {
		return failover.Record{}, fmt.Errorf("%w: %w", errRetry, err)
	}
	if r.CurrentTerm() != term {
		return failover.Record{}, errRetry
	}
	var command uint64
	s.journal.view(func(st *state) { command = st.command(at) })
	for {
		st, changed, err := s.token.now()
		if err != nil || st.Index >= command {
			return st.Record, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return failover.Record{}, context.Cause(ctx)
		}
	}
}

// until looks until ok; it is for what comes within milliseconds.
func (s *Store) until(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return failover.ErrClosed
		}
		if r := s.raft.Load(); r == nil || r.State() != raft.Leader {
			return errRetry
		}
	}
	return nil
}

// setHere does a command as the leader.
func (s *Store) setHere(ctx context.Context, c command) (failover.Record, error) {
	r := s.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return failover.Record{}, errRetry
	}
	doc, err := encodeCommand(c)
	if err != nil {
		return failover.Record{}, err
	}
	f := r.Apply(doc, s.o.Timeout)
	if err := await(ctx, f); err != nil {
		return failover.Record{}, fmt.Errorf("%w: %w", errRetry, err)
	}
	out, ok := f.Response().(outcome)
	if !ok {
		return failover.Record{}, fmt.Errorf("token log answered %v", f.Response())
	}
	return out.Record, out.Err
}

// await waits for a future of raft, or for ctx: a leader that lost its majority gives up by itself, but not within ctx.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// verify has a majority say that this voter leads.
func (s *Store) verify(ctx context.Context, r *raft.Raft) error {
	if !s.enter(&s.life.asking) {
		return failover.ErrClosed
	}
	done := make(chan error, 1)
	go func() {
		defer s.life.asking.Done()
		done <- r.VerifyLeader().Error()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// quiet waits for the questions of verify, which raft leaves without an answer when it is shut down. It answers them soon, as the leader or as one that
// leads no more, unless its disk failed.
func (s *Store) quiet() {
	done := make(chan struct{})
	go func() {
		s.life.asking.Wait()
		close(done)
	}()
	late := time.NewTimer(10 * s.o.Election)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
}

// enter counts something that Close waits for; false once it does.
func (s *Store) enter(n *sync.WaitGroup) bool {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.life.closed {
		n.Add(1)
	}
	return !s.life.closed
}

// Handle serves an inbound stream of a kind from another voter; it returns when the stream is done with.
func (s *Store) Handle(from, kind string, c net.Conn) {
	defer c.Close()
	if !slices.Contains(s.o.Voters, from) || !s.enter(&s.life.streams) {
		return
	}
	defer s.life.streams.Done()
	stop := context.AfterFunc(s.ctx, func() { _ = c.Close() })
	defer stop()
	switch {
	case kind == KindCall:
		s.answerCall(from, c)
	case s.raft.Load() != nil:
		s.layer.handle(c, s.o.Timeout)
	}
}

// Close ends Run, releases the journal and makes every other call fail.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.life.Lock()
		s.life.closed = true
		s.life.Unlock()
		s.cancel()
		s.quiet()
		_ = s.layer.Close() // never fails
		if r := s.raft.Load(); r != nil {
			s.closeErr = r.Shutdown().Error()
		}
		s.token.wake()
		s.life.streams.Wait()
		s.closeErr = errors.Join(s.closeErr, s.journal.close())
	})
	return s.closeErr
}

// Status is what this voter knows of the token log.
type Status struct {
	Started bool     `json:"started"`          // it takes part
	Waits   string   `json:"waits,omitempty"`  // why it does not
	Leader  string   `json:"leader,omitempty"` // name, "" when none is known
	Voters  []string `json:"voters,omitempty"` // names, as the log says
	Rev     uint64   `json:"rev"`              // of the record as this voter has it
}

// Status describes this voter.
func (s *Store) Status() Status {
	st, _, _ := s.token.now()
	out := Status{Rev: st.Record.Rev}
	r := s.raft.Load()
	if r == nil {
		out.Waits = *s.state.Load()
		return out
	}
	_, id := r.LeaderWithID()
	out.Started, out.Leader = true, voterName(string(id))
	for _, v := range s.servers(r) {
		if v.Suffrage == raft.Voter {
			out.Voters = append(out.Voters, voterName(string(v.ID)))
		}
	}
	slices.Sort(out.Voters)
	return out
}
