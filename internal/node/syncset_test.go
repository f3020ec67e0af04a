package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// rule is the sync set in force on an active.
func (m *member) rule() (set wal.SyncSet) {
	m.group.commit.inspect(func(r *replicate.CommitRule) { set, _ = r.Rule() })
	return set
}

// grown waits until an active promises k copies again, in its commit rule, its epoch file and its alarms.
func (c *cluster) grown(active string, k int) {
	c.t.Helper()
	m := c.nodes[active]
	until(c.t, func() error {
		if set, kept, alarm := m.rule(), m.group.fence.State().Sync(), m.group.alarms.get(alarmDegraded); set.K != k || kept.K != k || alarm != "" {
			return fmt.Errorf("sync in force %s, recorded %s, alarm %q", set, kept, alarm)
		}
		return nil
	})
}

// A node promoted with sync 0 promises the configured copies again when the standby is back, and says so meanwhile (R6, R12).
func TestGrowBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(_ string, o *Options) { o.CommitTimeout = 500 * time.Millisecond }, "a", "b")
	c.start()
	c.promote("a")
	c.nodes["a"].mustSet("first")
	c.settled("a")
	c.stop("a")
	none := 0
	b := c.nodes["b"]
	if _, err := b.promote(admin.PromoteRequest{Sync: &none}); err != nil {
		t.Fatal(err)
	}
	b.mustSet("alone")
	until(t, func() error {
		if b.group.alarms.get(alarmDegraded) == "" {
			return errors.New("nobody is told that fewer copies are promised than configured")
		}
		return nil
	})
	c.start("a")
	c.grown("b", 1)
	b.mustSet("together")
	c.settled("b")
	c.stop("a")
	if err := b.set("nobody acks", ""); !errors.Is(err, server.ErrUnknown) {
		t.Fatalf("sync is 1 and the standby is gone: %v", err)
	}
}

// With policy shrink a stuck active records the smaller set in the shared token before it goes on alone. The standby it left behind is then not promoted without it, and
// counts again when it has caught up (R1, R5, R6).
func TestShrink(t *testing.T) {
	t.Parallel()
	shared := vfs.NewMem()
	if err := shared.MkdirAll("token", 0o700); err != nil {
		t.Fatal(err)
	}
	token, err := failover.OpenFileStore(failover.FileStoreOptions{FS: shared, Dir: "token", Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() }) // after the nodes, which use it
	recorded := func() wal.SyncSet {
		t.Helper()
		rec, err := token.Load(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return rec.Sync
	}
	c := newCluster(t, 1, func(_ string, o *Options) { o.Token, o.Sync.Policy = token, PolicyShrink }, "a", "b")
	c.start()
	c.promote("a")
	c.settled("a")
	a := c.nodes["a"]
	a.mustSet("together")
	c.settled("a")
	if set := recorded(); set.K != 1 {
		t.Fatalf("recorded %s", set)
	}
	c.stop("b")
	if err := a.set("alone", "alone"); err != nil { // waits until the set is smaller
		t.Fatal(err)
	}
	if set := recorded(); set.K != 0 || a.rule().K != 0 {
		t.Fatalf("recorded %s, in force %s", set, a.rule())
	}
	c.stop("a")
	c.start("b")
	r, err := c.nodes["b"].promote(admin.PromoteRequest{Plan: true})
	if err != nil || r.Allowed {
		t.Fatalf("b, which misses an acked write, may be promoted: %+v, %v", r, err)
	}
	c.start("a")
	c.promote("a")
	c.settled("a")
	c.grown("a", 1)
	if set := recorded(); set.K != 1 {
		t.Fatalf("recorded %s", set)
	}
	c.nodes["a"].mustSet("again")
	c.settled("a")
	c.stop("a")
	none := 0
	if _, err := c.nodes["b"].promote(admin.PromoteRequest{Sync: &none}); err != nil {
		t.Fatalf("b has all that was acked, as sync is 1 of [b]: %v", err)
	}
	if got := c.nodes["b"].get("alone") + c.nodes["b"].get("again"); got != "aloneagain" {
		t.Fatalf("b has %q", got)
	}
}
