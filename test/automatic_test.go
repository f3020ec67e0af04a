package test

import (
	"context"
	"testing"
	"time"

	"repld/test/cluster"
)

// TestAutomaticKill holds R1, R2 and R5 without a person: the active is killed with SIGKILL at random moments under 16 writers with sync 1; a standby takes over by itself at the next
// epoch, no acked write is missing, the old active rejoins. A new cluster, and one that was stopped as a whole, find an active by themselves too.
//
// Faults: P1, W1 (kill -9 of the active with automatic failover: acked present, one epoch a failover)
func TestAutomaticKill(t *testing.T) {
	rnd := seed(t)
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Automatic: true, Failover: "  backoff: 0s\n"})
	active, s := c.WaitActive(0, 30*time.Second)
	epoch := s.Epoch
	writers := cluster.StartWriters(t, c, 16, active)
	for range rounds(t, 6) {
		writers.WaitAcked(50+rnd.IntN(500), 60*time.Second)
		for _, n := range c.Others(active.Name) {
			n.WaitCaughtUp(active, 60*time.Second)
		}
		active.Kill()
		next, s := c.WaitActive(epoch, 60*time.Second, active.Name)
		if s.Epoch != epoch+1 {
			t.Logf("the failover from %s to %s took %d epochs", active.Name, next.Name, s.Epoch-epoch) // a busy machine may cost an attempt
		}
		epoch = s.Epoch
		writers.Move(next)
		active.Start()
		active = next
	}
	writers.WaitAcked(100, 60*time.Second)
	writers.Stop()
	active, _ = c.WaitActive(epoch-1, 60*time.Second)
	writers.Check(active)
	for _, n := range c.Others(active.Name) {
		n.WaitCaughtUp(active, 60*time.Second)
	}
	active.Verify()

	for _, n := range c.Nodes() {
		n.Kill()
	}
	for _, n := range c.Nodes() {
		if err := n.TryStart(); err != nil {
			t.Fatal(err)
		}
	}
	active, _ = c.WaitActive(epoch, 60*time.Second)
	cluster.Until(t, 30*time.Second, func() error { return active.Redis().Set(context.Background(), "after", "restart", 0).Err() })
	writers.Check(active)
}

// TestAutomaticFreeze: an active that stands still is followed without a person, and when it wakes it acks nothing of its epoch and rejoins (R2, R14, R15). SIGTERM hands over first.
//
// Faults: P3 (SIGSTOP of the active with automatic failover, SIGCONT after the new one serves)
func TestAutomaticFreeze(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Automatic: true})
	active, s := c.WaitActive(0, 30*time.Second)
	writers := cluster.StartWriters(t, c, 8, active)
	writers.WaitAcked(200, 60*time.Second)
	active.Pause()
	next, s2 := c.WaitActive(s.Epoch, 60*time.Second, active.Name)
	ctx := context.Background()
	cluster.Until(t, 30*time.Second, func() error { return next.Redis().Set(ctx, "of", "the new epoch", 0).Err() })
	active.Resume()
	if v, err := active.Redis().Get(ctx, "of").Result(); err == nil && v != "the new epoch" {
		t.Fatalf("the old active answered a read with %q after its lease (R14)", v)
	}
	writers.Move(next)
	active.WaitCaughtUp(next, 60*time.Second)
	writers.WaitAcked(100, 60*time.Second)

	next.Stop()
	third, s3 := c.WaitActive(s2.Epoch, 60*time.Second, next.Name)
	if s3.Epoch != s2.Epoch+1 {
		t.Errorf("the hand-over at SIGTERM came out at epoch %d after %d", s3.Epoch, s2.Epoch)
	}
	writers.Move(third)
	writers.WaitAcked(100, 60*time.Second)
	writers.Stop()
	writers.Check(third)
}
