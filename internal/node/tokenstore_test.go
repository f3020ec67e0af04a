package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"repld/failover"
	"repld/internal/server"
)

// onRaft has the token in the nodes themselves.
func onRaft(o *Options) { o.Raft = &RaftOptions{Election: 200 * time.Millisecond} }

// token is the record as a node reads it, as soon as it can.
func (m *member) token() (rec failover.Record) {
	m.t.Helper()
	until(m.t, func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		rec, err = m.group.token.Load(ctx)
		return err
	})
	return rec
}

// The token in the nodes' own raft log: promoted by hand, the active lost, another one promoted, the old one back; every node reads the same
// record (R2, R5, R15).
func TestRaftToken(t *testing.T) {
	t.Parallel()
	c := three(t, func(_ string, o *Options) { onRaft(o) })
	c.nodes["a"].mustSet("first")
	c.settled("a")
	for i, next := range []string{"b", "c", "a"} {
		last := []string{"a", "b", "c"}[i]
		c.stop(last)
		c.promote(next)
		key := fmt.Sprint("round ", i)
		c.nodes[next].mustSet(key)
		c.start(last)
		c.settled(next)
		rec := c.nodes[next].token()
		if rec.Holder != next || rec.Epoch != c.nodes[next].group.fence.Epoch() {
			t.Fatalf("%s is active in epoch %d, the token says %+v", next, c.nodes[next].group.fence.Epoch(), rec)
		}
		if again := c.nodes[last].token(); again.Rev != rec.Rev || again.Holder != next {
			t.Fatalf("%s reads %+v, %s reads %+v", next, rec, last, again)
		}
	}
	until(t, func() error { // losing the active shall cost no election
		if r := c.nodes["a"].group.raft.Status(); r.Leader == "a" || r.Leader == "" {
			return fmt.Errorf("leader of the token log: %q", r.Leader)
		}
		return nil
	})
}

// W3, W15: without a majority of the token log nobody is promoted and no smaller sync set is recorded; what is active goes on as far as its
// standbys ack.
// Faults: W3, W15 (the token log without a majority)
func TestRaftTokenLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, func(_ string, o *Options) {
		onRaft(o)
		o.Sync.Policy, o.CommitTimeout = PolicyShrink, time.Second
	}, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	a := c.nodes["a"]
	a.mustSet("all three")
	c.settled("a")
	c.stop("b")
	until(t, func() error { return a.set("two", "two") }) // waits until the set is smaller
	if rec, set := a.token(), a.rule(); rec.Sync.K != 1 || set.K != 1 || set.Has("b") {
		t.Fatalf("recorded %s, in force %s", rec.Sync, set)
	}
	c.stop("c")
	// Alone it cannot record that nobody is left: nothing may be acked (R6).
	if err := a.set("alone", "alone"); !errors.Is(err, server.ErrUnknown) {
		t.Fatalf("a write that nobody but the active has, and no token store knows of, is answered %v", err)
	}
	if set := a.rule(); set.K != 1 {
		t.Fatalf("in force %s", set)
	}
	c.start("b", "c")
	c.grown("a", 2)
	c.settled("a")
	if rec := a.token(); rec.Sync.K != 2 {
		t.Fatalf("recorded %s", rec.Sync)
	}
}
