package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"repld/failover"
	"repld/failover/tokentest"
)

func TestConformance(t *testing.T) {
	tokentest.Run(t, func(t *testing.T, n int) []failover.Store {
		c := newCluster(t, voterNames(n)...)
		c.start(c.names...)
		c.leader()
		var out []failover.Store
		for _, name := range c.names[:n] {
			out = append(out, c.get(name).Store)
		}
		return out
	})
}

// R2, R3: the token survives the loss of any one voter at any time, the leader included, and a restart of all.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.start("a", "b", "c")
	for range 3 {
		leader := c.leader()
		rec := c.set(c.follower(leader), "x")
		c.kill(leader)
		c.loads(rec)
		rec = c.set(c.follower(leader), "y")
		c.start(leader)
		c.loads(rec)
	}
	rec := c.set("a", "z")
	for _, n := range c.names {
		c.kill(n)
	}
	c.start("c", "b") // two of three are enough
	c.loads(rec)
}

// W1: a leader that is cut off neither answers nor decides; the others go on, and it learns from them afterwards.
// Faults: W1 (the leader of the token log cut off)
func TestPartition(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.start("a", "b", "c")
	old := c.leader()
	before := c.set(old, "x")
	c.isolate(old)
	rec := c.set(c.follower(old), "y")
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if got, err := c.get(old).Load(ctx); err == nil {
		t.Fatalf("a voter without a majority loads %+v", got)
	}
	if _, err := c.get(old).CompareAndSet(ctx, before.Rev, tokentest.Next(before.Epoch+1, "z")); err == nil || errors.Is(err, failover.ErrConflict) {
		t.Fatalf("a voter without a majority answers: %v", err)
	}
	c.heal(old)
	c.loads(rec)
}

// Losing the active costs no election: leadership is where the token is not.
func TestLeadershipLeavesTheActive(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.tune = func(o *Options) { o.Prefer = []string{"b"} }
	c.start("a", "b", "c")
	leader := c.leader()
	c.set(leader, leader)
	c.until(func() error {
		if l := c.leader(); l == leader {
			return errors.New("the active still leads")
		}
		return nil
	})
	if leader != "b" && c.leader() != "b" {
		t.Errorf("%s leads, not b, which is preferred", c.leader())
	}
	// When it is the only one that could, it leads all the same.
	last := c.leader()
	c.set(last, "nobody")
	for _, n := range c.names {
		if n != last && n != c.follower(last) {
			c.kill(n)
		}
	}
	c.loads(c.set(last, c.follower(last)))
}

// R11: a voter whose disk is new does not vote for what it cannot know. Here the only one that knows the last epoch, besides the voter that was wiped, is
// down: together, the wiped one and the one that was behind have a majority of names, and must not decide.
func TestWipedVoter(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.start("a", "b", "c")
	c.leader()
	c.set("a", "x")
	c.kill("c") // misses what follows
	rec := c.set("a", "y")
	c.kill("a")
	c.kill("b")
	c.disks["b"] = newDisk(t)
	c.start("b", "c")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, n := range []string{"b", "c"} {
		if got, err := c.get(n).Load(ctx); err == nil {
			t.Fatalf("%s loads %+v although nobody who votes knows epoch %d", n, got, rec.Epoch)
		}
	}
	if c.get("b").raft.Load() != nil {
		t.Fatal("a voter with a new disk takes part without having been taken in")
	}
	c.start("a") // knows it, and with c is a majority, which takes b in again
	c.loads(rec)
	c.until(func() error {
		if c.get("b").raft.Load() == nil {
			return errors.New("b is not taken in")
		}
		return nil
	})
	next := c.set("b", "z")
	c.kill(c.leader())
	c.loads(next)
}

// A new cluster begins only when every voter has said that it knows nothing.
func TestFirstStartNeedsAll(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "a", "b", "c")
	c.start("a", "b")
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if rec, err := c.get("a").Load(ctx); err == nil {
		t.Fatalf("two of three begin without the third: %+v", rec)
	}
	c.start("c")
	c.loads(failover.Record{})
}

func TestDecideJoin(t *testing.T) {
	fresh := func(id string) answer { return answer{ID: id} }
	started := func(id, leader string, voters ...string) answer {
		return answer{ID: id, Started: true, Voters: voters, Leader: leader}
	}
	type as = map[string]answer
	for _, c := range []struct {
		name, self string
		answers    as
		want       step
	}{
		{"all blank, first by name", "a", as{"b": fresh("2"), "c": fresh("3")}, stepBegin},
		{"all blank, not first", "b", as{"a": fresh("1"), "c": fresh("3")}, stepWait},
		{"one silent", "a", as{"b": fresh("2")}, stepWait},
		{"known to the log", "b", as{"a": started("1", "", "a@1", "b@self", "c@3"), "c": fresh("3")}, stepStart},
		{"known to the log, one silent", "b", as{"a": started("1", "", "a@1", "b@self", "c@3")}, stepStart},
		{"replaced", "b", as{"a": started("1", "a", "a@1", "b@old", "c@3")}, stepAsk},
		{"replaced, first by name, one blank", "a", as{"b": started("2", "b", "a@old", "b@2", "c@3"), "c": fresh("3")}, stepAsk},
		{"replaced, no leader", "b", as{"a": started("1", "", "a@1", "b@old", "c@3"), "c": started("3", "", "c@3")}, stepWait},
	} {
		if d := decideJoin(c.self, c.self+"@self", []string{"c", "b", "a"}, c.answers); d.step != c.want {
			t.Errorf("%s: %+v, want %d", c.name, d, c.want)
		}
	}
}
