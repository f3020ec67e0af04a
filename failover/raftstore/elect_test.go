package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"repld/failover/tokentest"
)

// elect has a first leader elected, where raft by itself would take its time.
func (c *cluster) elect() {
	c.t.Helper()
	c.until(func() error {
		for _, n := range c.names {
			if c.get(n).raft.Load() == nil {
				return fmt.Errorf("%s does not take part yet", n)
			}
		}
		return nil
	})
	c.get("a").LeaderGone(Gone{Voter: "nobody", Proof: true})
	c.leader()
}

// A leader that is known to be gone is replaced without waiting for raft's own timeouts, also when the voter that should follow lacks what was committed last. On a slow
// machine both voters may stand at a time, and raft settles that after its timeout; it must not be the rule.
func TestLeaderGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	var timeouts atomic.Int64
	c.tune = func(o *Options) {
		o.Election = 5 * time.Second
		o.Logger = slog.New(&counter{Handler: slog.DiscardHandler, n: &timeouts, what: "raft: heartbeat timeout reached, starting"})
	}
	c.start("a", "b", "c")
	c.elect()
	const rounds = 8
	for range rounds {
		old := c.leader()
		rec := c.set(c.follower(old), old)
		c.kill(old)
		for _, n := range c.names {
			if v := c.get(n); v != nil {
				v.LeaderGone(Gone{Voter: old, Proof: true})
			}
		}
		leader := c.leader() // the first of those that are left, unless only the other one has the last entry
		c.loads(rec)
		c.set(leader, "x")
		c.start(old)
	}
	if n := timeouts.Load(); n > rounds/2 {
		t.Fatalf("raft's own timeout was needed %d times in %d rounds", n, rounds)
	}
}

// A voter that stands already sends nobody else after itself: they would halve the votes, and raft waits long before it tries again. Two voters need not mean the same
// successor: one that was away may not know yet who holds the token.
func TestCandidateStandsAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	var asked atomic.Int64
	c.tune = func(o *Options) {
		o.Election = 10 * time.Second
		o.Prefer = slices.DeleteFunc(slices.Clone(c.names), func(n string) bool { return n == o.Node }) // anybody but itself
		o.Connected = func(string) bool { return true }
		dial := o.Dial
		o.Dial = func(ctx context.Context, voter, kind string) (net.Conn, error) {
			if kind == KindCall {
				asked.Add(1)
			}
			return dial(ctx, voter, kind)
		}
	}
	c.start("a", "b", "c")
	c.elect()
	gone := Gone{Voter: c.leader(), Proof: true}
	name := c.follower(gone.Voter)
	v := c.get(name)
	for _, n := range c.names { // all others, so that the candidate stays one
		if n != name {
			c.kill(n)
		}
	}
	c.until(func() error { return v.elect(gone) })
	c.until(func() error {
		if s := v.raft.Load().State(); s != raft.Candidate {
			return fmt.Errorf("%s is %v", name, s)
		}
		return nil
	})
	before := asked.Load()
	if err := v.replace(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load() - before; n != 0 {
		t.Fatalf("a candidate asked another voter %d times to stand", n)
	}
}

// A voter that was away is heard at once when it is back, however long that was: with the third one gone nothing could be decided while raft rests.
func TestReturnedVoterCounts(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	var failures atomic.Int64
	c.tune = func(o *Options) {
		o.Logger = slog.New(&counter{Handler: slog.DiscardHandler, n: &failures, what: "raft: failed to appendEntries to"})
	}
	c.start("a", "b", "c")
	leader := c.leader()
	away := c.follower(leader)
	c.kill(away)
	for range 40 {
		c.set(leader, "x")
	}
	c.start(away)
	for _, n := range c.names {
		if n != leader && n != away {
			c.kill(n)
		}
	}
	c.set(leader, "y")
	if n := failures.Load(); n > 1 {
		t.Fatalf("raft gave %d deliveries up: it rests longer after each", n)
	}
}

// counter counts messages that begin with what.
type counter struct {
	slog.Handler
	n    *atomic.Int64
	what string
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, c.what) {
		c.n.Add(1)
	}
	return nil
}

// Who asks for the token while its leader is gone brings the election about, whoever noticed first: the question itself does when there is no session with the leader.
func TestLoadReplacesLostLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.start("a", "b", "c")
	old := c.leader()
	rec := c.set(old, "x")
	c.kill(old)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := c.get(c.follower(old)).Load(ctx); err != nil || got.Rev != rec.Rev {
		t.Fatalf("load after the leader's end: %+v, %v", got, err)
	}
}

// Nobody's word takes the lead from a leader that this voter hears, unless it is proof.
func TestLeaderHeardIsNotGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.tune = func(o *Options) { o.Election = 10 * time.Second }
	c.start("a", "b", "c")
	c.elect()
	leader := c.leader()
	c.set(leader, "x") // heard just now by all
	other := c.get(c.follower(leader))
	if err := other.elect(Gone{Voter: leader}); !errors.Is(err, errRetry) {
		t.Fatalf("a leader that was heard is replaced: %v", err)
	}
	if err := other.elect(Gone{Voter: other.o.Node, Proof: true}); !errors.Is(err, errRetry) {
		t.Fatalf("a voter believes that it is gone itself: %v", err)
	}
	if got := c.leader(); got != leader {
		t.Fatalf("%s leads, want %s", got, leader)
	}
}

// A question to a leader that will never answer ends when another one leads: a command that was asked for twice is done once.
func TestQuestionFollowsTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.start("a", "b", "c")
	old := c.leader()
	through := c.get(c.follower(old))
	rec := c.set(old, "x")
	c.freeze(old)
	type result struct {
		rev uint64
		err error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		got, err := through.CompareAndSet(ctx, rec.Rev, tokentest.Next(rec.Epoch+1, "y"))
		done <- result{got.Rev, err}
	}()
	if got := <-done; got.err != nil || got.rev != rec.Rev+1 {
		t.Fatalf("set while the leader stands still: rev %d, %v; want %d", got.rev, got.err, rec.Rev+1)
	}
	c.thaw(old)
}
