package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/replicate"
	"repld/wal"
)

// These tests hold single steps of a node that is open and does not run: nothing but the test moves it.

// still is such a node, of a cluster of a, b and c.
func still(t *testing.T) *group {
	t.Helper()
	n := newCluster(t, 1, nil, "a", "b", "c").open("a")
	t.Cleanup(func() { errorless(t, n.Close()) })
	return n.group
}

var ours = wal.SyncSet{Version: 1, Members: []string{"b", "c"}, K: 1}

// leads makes the node commit by a rule whose epoch began with LSN 1, with so many records durable.
func leads(t *testing.T, g *group, durable wal.LSN) {
	t.Helper()
	errorless(t, g.fence.Grant(1, "a", ours))
	rule := replicate.NewCommitRule("a", ours, 0, 1)
	rule.Durable(durable)
	if !g.commit.start(rule, 1, func() bool { return true }) {
		t.Fatal("not started")
	}
}

// R11: an ack of a standby that does not count commits nothing, however much it has.
func TestOnlyVotersCommit(t *testing.T) {
	t.Parallel()
	g := still(t)
	leads(t, g, 10)
	g.acked("b", replicate.Ack{Durable: 10, Sync: 1})
	if at := g.commit.lsn(); at != 0 {
		t.Fatalf("a standby that does not count committed up to %d", at)
	}
	g.acked("c", replicate.Ack{Durable: 7, Sync: 1, Counts: true})
	if at := g.commit.lsn(); at != 7 {
		t.Fatalf("committed %d, want 7", at)
	}
}

// R11: what a standby acked before it lost its disk commits nothing after it.
func TestLostDiskIsForgotten(t *testing.T) {
	t.Parallel()
	g := still(t)
	leads(t, g, 5)
	g.acked("b", replicate.Ack{Durable: 10, Sync: 1, Counts: true}) // ahead of our own sync
	g.regressed("b", replicate.Regress{Had: 10, Has: 0, Reason: "test"})
	g.durable(wal.Position{LSN: 10})
	if at := g.commit.lsn(); at != 5 {
		t.Fatalf("committed %d, 5 before b lost its disk", at)
	}
}

// R3: from the moment at which a newer epoch is persisted, and before anybody is told of it, nothing of the older one is committed.
func TestNothingCommitsUnderANewerEpoch(t *testing.T) {
	t.Parallel()
	g := still(t)
	leads(t, g, 10)
	g.epochRose(2, "b")
	g.acked("c", replicate.Ack{Durable: 10, Sync: 1, Counts: true})
	g.durable(wal.Position{LSN: 11})
	if at := g.commit.lsn(); at != 0 {
		t.Fatalf("committed up to %d of epoch 1 after epoch 2 was known", at)
	}
}

// R7: what was heard to be committed before the log is cut says nothing about the records that come in their place.
func TestRewind(t *testing.T) {
	t.Parallel()
	g := still(t)
	g.commit.learned(10)
	if _, err := g.rewind(wal.Position{LSN: 4}); err != nil {
		t.Fatal(err)
	}
	if at := g.commit.lsn(); at != 4 {
		t.Fatalf("committed %d after a rewind to 4", at)
	}
	g.commit.learned(6)
	if _, err := g.rewind(wal.Position{LSN: 8}); err != nil {
		t.Fatal(err)
	}
	if at := g.commit.lsn(); at != 6 {
		t.Fatalf("a rewind to 8 committed %d, want 6 as before", at)
	}
}

// R5: an epoch is not open before its first record is committed: durable here is not enough.
func TestEpochOpensWithItsFirstRecord(t *testing.T) {
	t.Parallel()
	g := still(t)
	errorless(t, g.fence.Grant(1, "a", ours))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan error, 1)
	go func() {
		_, err := g.startEpoch(ctx, wal.EpochStart{Epoch: 1, Holder: "a", Sync: ours})
		started <- err
	}()
	until(t, func() error {
		if g.log.Durable().LSN == 0 {
			return errors.New("the epoch-start record is not durable")
		}
		return nil
	})
	select {
	case err := <-started:
		t.Fatalf("the epoch began (%v), nobody has acked", err)
	default:
	}
	cancel()
	if err := soon(t, started, "the end of the start"); err == nil {
		t.Fatal("the epoch began and nobody has acked")
	}
}

// An active whose fence knows a newer epoch, and whose role machine does not yet, never says that it is the active of that epoch: two nodes would be.
func TestFencedIsNotActive(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, nil, "a", "b")
	c.start()
	c.promote("a")
	c.settled("a")
	g := c.nodes["a"].group
	if s := g.nodeStatus(); s.Role != admin.RoleActive || s.Holder != "a" {
		t.Fatalf("%s, holder %s", s.Role, s.Holder)
	}
	stop := make(chan struct{})
	seen := make(chan string, 1)
	go func() {
		defer close(seen)
		for {
			if s := g.nodeStatus(); s.Role == admin.RoleActive && s.Holder != "a" {
				seen <- fmt.Sprintf("%s in epoch %d of %s", s.Role, s.Epoch, s.Holder)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	errorless(t, g.fence.Observe(g.fence.Epoch()+1, "b", wal.SyncSet{}))
	if r := g.role(g.fence.State()); r == admin.RoleActive {
		t.Errorf("right after epoch %d of b: %s", g.fence.Epoch(), r)
	}
	close(stop)
	if said := <-seen; said != "" {
		t.Error(said)
	}
}

// frameOf is a frame of several records.
func frameOf(t *testing.T, prev wal.Position, at time.Time, count int) *wal.Frame {
	t.Helper()
	var records []wal.Record
	for range count {
		records = append(records, wal.Record{Kind: wal.KindMark, Payload: []byte("m")})
	}
	f, err := wal.EncodeFrame(prev, wal.FrameOptions{Epoch: 1, Codec: wal.CodecNone, Time: at}, records)
	errorless(t, err)
	return f
}

// R7: a frame is due when its last record is committed, and, on a lagged standby, when its delay has passed; a promotion lifts the delay only.
func TestDue(t *testing.T) {
	t.Parallel()
	g := still(t)
	first := frameOf(t, wal.Position{}, time.Now(), 3)
	second := frameOf(t, first.End(), time.Now(), 2)
	_, err := g.log.AppendFrames([]*wal.Frame{first, second})
	errorless(t, err)
	a := g.applier
	t.Cleanup(a.drop)
	due := func(limit wal.LSN) int {
		t.Helper()
		a.drop()
		a.limit = func() wal.LSN { return limit }
		frames, _, err := a.due(nil)
		errorless(t, err)
		return len(frames)
	}
	for limit, want := range []int{0, 0, 0, 1, 1, 2, 2} {
		if n := due(wal.LSN(limit)); n != want {
			t.Errorf("committed up to %d: %d frames are due, want %d", limit, n, want)
		}
	}
	a.delay = time.Hour
	if n := due(5); n != 0 {
		t.Errorf("%d frames are due at once, delay 1 h", n)
	}
	a.hurry(true)
	if n, m := due(5), due(4); n != 2 || m != 1 {
		t.Errorf("in a promotion %d and %d frames are due, want 2 and 1", n, m)
	}
}

// TestStateOfAnotherCopy: a state whose position is not on the log's history is no state, though the log reaches as far; it is built anew from the log.
func TestStateOfAnotherCopy(t *testing.T) {
	t.Parallel()
	life := func(value string) (*cluster, *vfs.MemFS) {
		c := newCluster(t, 0, nil, "a")
		disk := c.disks["a"].(*vfs.MemFS)
		c.start()
		until(t, func() error { return c.nodes["a"].set("key", value) })
		c.stop("a")
		return c, disk
	}
	c, disk := life("ours")
	_, other := life("another one's")
	errorless(t, disk.RemoveAll(stateDir))
	if ok, err := vfs.Clone(other, disk, stateDir, stateDir, vfs.CloneSync); err != nil || !ok {
		t.Fatalf("copy: %t, %v", ok, err)
	}
	c.start()
	a := c.nodes["a"]
	until(t, func() error { return a.write(func(*kv.Txn) error { return nil }) })
	if got := a.get("key"); got != "ours" {
		t.Fatalf("the state says %q", got)
	}
}

// R8, R11: a standby whose log ended with a damaged frame, which may have been durable and acked, does not vote for data once it is cut, also after another start.
// Faults: D9 (the last frame of a killed standby changed, nothing but the log knows of it)
func TestDoubtfulLogDoesNotVote(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b")
	disk := vfs.NewCrashableMem()
	c.disks["b"] = disk
	c.start()
	c.promote("a")
	c.nodes["a"].mustSet("x", "y", "z")
	c.settled("a")
	segments := c.nodes["b"].group.log.Segments()
	last := segments[len(segments)-1]
	left := disk.CrashClone(crash(100, 1)) // killed: no clean-stop mark, and the state has flushed nothing
	c.stop("b")
	change(t, left, last.Path, func(b []byte) []byte { b[last.Bytes-1-frameTail] ^= 1; return b })
	c.disks["b"] = left
	for range 2 {
		n := c.open("b")
		doubt, votes := n.group.recovery.Doubt, n.group.fence.Voter()
		errorless(t, n.Close())
		if !doubt || votes {
			t.Fatalf("doubt %t, votes %t", doubt, votes)
		}
	}
}

// frameTail is more than what follows a frame's payload and less than a payload.
const frameTail = 12
