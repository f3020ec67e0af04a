package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
	"repld/test/cluster"
)

// TestCatchUp brings back a standby that was wiped, one that is a million records behind, and one whose needed log is gone, each while 16 clients write.
func TestCatchUp(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Segment: 4 << 20, Retain: 1 << 30})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	b.WaitCaughtUp(a, 30*time.Second)
	writers := cluster.StartWriters(t, c, 16, a)

	t.Run("wiped", func(t *testing.T) {
		writers.WaitAcked(2000, 60*time.Second)
		b.Stop()
		old, err := c.Node("c").Status()
		if err != nil {
			t.Fatal(err)
		}
		b.Wipe()
		b.Start()
		b.WaitCaughtUp(a, 60*time.Second)
		if s, err := b.Status(); err != nil || s.Incarnation == old.Incarnation || !s.Voter {
			t.Fatalf("wiped node: %+v, %v", s, err)
		}
	})
	t.Run("million-behind", func(t *testing.T) {
		b.Stop()
		behind := fill(t, a, many(1_000_000))
		b.Start()
		before := writers.Acked()
		began := time.Now()
		b.WaitCaughtUp(a, 180*time.Second)
		t.Logf("%d records behind, caught up in %s while %d writes were acked", behind, time.Since(began).Round(time.Millisecond), writers.Acked()-before)
		if s, err := b.Status(); err != nil || s.Start.LSN != 0 {
			t.Fatalf("it was to catch up from the log, but its log starts at %s (%v)", s.Start, err)
		}
	})
	writers.Stop()
	writers.Check(a)
	c.Node("c").WaitCaughtUp(a, 60*time.Second)
	a.Verify()
}

// TestCatchUpBySnapshot seeds a standby whose needed log is gone, while 16 clients write.
func TestCatchUpBySnapshot(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Segment: 128 << 10, Retain: 512 << 10})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	b.WaitCaughtUp(a, 30*time.Second)
	writers := cluster.StartWriters(t, c, 16, a)
	b.Stop()
	at := fill(t, a, many(300_000))
	cluster.Until(t, 30*time.Second, func() error {
		s, err := a.Status()
		if err != nil {
			return err
		}
		if uint64(s.Start.LSN) < at/4 {
			return fmt.Errorf("log still starts at %d", s.Start.LSN)
		}
		return nil
	})
	b.Start()
	b.WaitCaughtUp(a, 120*time.Second)
	if s, err := b.Status(); err != nil || s.Start.LSN == 0 || !s.Voter {
		t.Fatalf("it was to be seeded by a snapshot, but its log starts at %s, voter %t (%v)", s.Start, s.Voter, err)
	}
	writers.WaitAcked(100, 30*time.Second)
	writers.Stop()
	writers.Check(a)
	c.Node("c").WaitCaughtUp(a, 60*time.Second)
	a.Verify()
}

// many is how much of something a test makes; less with -short.
func many(n int) int {
	if testing.Short() {
		return n / 3
	}
	return n
}

// fill writes records through one pipelined connection and returns how many.
func fill(t *testing.T, n *cluster.Node, records int) uint64 {
	t.Helper()
	ctx := context.Background()
	value := strings.Repeat("v", 60)
	for done := 0; done < records; {
		batch := min(5000, records-done)
		_, err := n.Redis().Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range batch {
				p.Set(ctx, fmt.Sprintf("fill:%d", (done+i)%200_000), value, 0)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		done += batch
	}
	return uint64(records)
}

// TestLagged holds the lagged standby: it acks at once, applies late, and a promotion replays the rest, after saying how much that is.
func TestLagged(t *testing.T) {
	spec := cluster.Spec{Nodes: []cluster.NodeSpec{{Name: "a"}, {Name: "b", Delay: time.Hour}}, K: 1}
	c := cluster.Processes(t, spec)
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	fill(t, a, 20_000)
	cluster.Until(t, 20*time.Second, func() error {
		s, err := b.Status()
		if err != nil {
			return err
		}
		if s.Lag.Records != 0 || s.Lag.ApplyRecords < 20_000 || s.Lag.ApplySeconds <= 0 || !s.Voter {
			return fmt.Errorf("lag %+v, voter %t", s.Lag, s.Voter)
		}
		return nil
	})
	a.Kill()
	r, err := b.Promote(admin.PromoteRequest{Plan: true})
	if err != nil || r.Replay < 20_000 || r.ReplaySec <= 0 {
		t.Fatalf("plan: %+v, %v", r, err)
	}
	k := 0
	if r, err = b.Promote(admin.PromoteRequest{Sync: &k}); err != nil || r.Replay < 20_000 {
		t.Fatalf("promotion: %+v, %v", r, err)
	}
	if n, err := b.Redis().DBSize(context.Background()).Result(); err != nil || n != 20_000 {
		t.Fatalf("%d keys after replay, %v", n, err)
	}
}
