package failover

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"repld/internal/faultfs"
	"repld/wal"
)

func newFence(t *testing.T) *Fence {
	t.Helper()
	s, _ := openMem(t, newGroupFS(t))
	f := NewFence(s)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// R3: a lower epoch is refused and told the newer one; R2: one epoch has one holder.
func TestFenceObserve(t *testing.T) {
	f := newFence(t)
	var rises []string
	f.OnRise(func(e wal.Epoch, h string) { rises = append(rises, fmt.Sprintf("%d by %s, read %d", e, h, f.Epoch())) })
	if err := f.Observe(0, "", wal.SyncSet{}); err != nil {
		t.Fatalf("two blank nodes: %v", err)
	}
	for range 2 {
		if err := f.Observe(5, "a", setOf(1, 1, "b")); err != nil {
			t.Fatal(err)
		}
	}
	var stale *StaleEpochError
	if err := f.Observe(4, "b", setOf(9, 0)); !errors.As(err, &stale) || stale.Epoch != 5 || stale.Holder != "a" || !errors.Is(err, ErrStaleEpoch) {
		t.Fatalf("lower epoch: %v", err)
	}
	if err := f.Observe(5, "b", setOf(9, 0)); !errors.Is(err, ErrConflict) {
		t.Fatalf("second holder: %v", err)
	}
	if err := f.Observe(5, "a", setOf(2, 0, "b")); err != nil {
		t.Fatal(err)
	}
	if err := f.Observe(5, "a", setOf(1, 1, "b")); err != nil || f.State().Sync().Version != 2 {
		t.Fatalf("an older set replaced a newer one: %v, %v", f.State().Sync(), err)
	}
	if fmt.Sprint(rises) != "[5 by a, read 5]" {
		t.Fatalf("rises: %v", rises)
	}
	if err := f.Observe(6, "", wal.SyncSet{}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("an epoch without a holder: %v", err)
	}
}

// R2, R3: an epoch is granted to one candidate, and granting is idempotent.
func TestFenceGrant(t *testing.T) {
	f := newFence(t)
	if err := f.Grant(3, "b", wal.SyncSet{}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a grant without a set: %v", err)
	}
	for range 2 {
		if err := f.Grant(3, "b", setOf(1, 1, "a", "c")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Grant(3, "c", setOf(1, 1, "a", "b")); !errors.Is(err, ErrConflict) {
		t.Fatalf("granted twice: %v", err)
	}
	if err := f.Grant(2, "c", setOf(1, 1, "a", "b")); !errors.Is(err, ErrStaleEpoch) {
		t.Fatalf("granted below: %v", err)
	}
	if f.Epoch() != 3 || f.Holder() != "b" {
		t.Fatalf("%d, %s", f.Epoch(), f.Holder())
	}
}

// H7, R2: many candidates ask for the same epochs at once; each epoch has one holder, and the epoch only rises.
// Faults: H7 (many candidates at once)
func TestFenceGrantRace(t *testing.T) {
	f := newFence(t)
	var mu sync.Mutex
	holders := make(map[wal.Epoch]string)
	last := wal.Epoch(0)
	f.OnRise(func(e wal.Epoch, _ string) {
		if e <= last {
			t.Errorf("epoch %d after %d", e, last)
		}
		last = e
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("n%d", i)
			for e := wal.Epoch(1); e <= 20; e++ {
				if f.Grant(e, name, setOf(1, 0)) != nil {
					continue
				}
				mu.Lock()
				if h, ok := holders[e]; ok && h != name {
					t.Errorf("epoch %d granted to %s and %s", e, h, name)
				}
				holders[e] = name
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestFenceVoter(t *testing.T) {
	f := newFence(t)
	if f.Voter() {
		t.Fatal("a blank node votes (R11)")
	}
	if err := f.SetVoter(true); err != nil || !f.Voter() {
		t.Fatal(err)
	}
	gen := f.State().Generation
	if err := f.SetVoter(true); err != nil || f.State().Generation != gen {
		t.Fatalf("written again without a change: %v", err)
	}
	if a := f.State().Answer("b"); !a.Voter || !a.Reachable || a.Node != "b" {
		t.Fatalf("%+v", a)
	}
}

// R2: a node that granted an epoch to itself and lost the race follows the winner when the winner itself says so, and nobody else.
func TestFenceAccept(t *testing.T) {
	f := newFence(t)
	own, won := setOf(1, 1, "a", "b"), setOf(1, 1, "a", "c")
	if err := f.Grant(2, "c", own); err != nil {
		t.Fatal(err)
	}
	if err := f.Observe(2, "b", won); !errors.Is(err, ErrConflict) {
		t.Fatalf("hearsay: %v, want ErrConflict", err)
	}
	if err := f.Accept(2, "b", "a", won); !errors.Is(err, ErrConflict) {
		t.Fatalf("a promise to a third node was replaced: %v", err)
	}
	if err := f.Accept(2, "b", "c", won); err != nil || f.Holder() != "b" {
		t.Fatalf("holder %s, %v", f.Holder(), err)
	}
	if err := f.Accept(1, "a", "c", own); !errors.Is(err, ErrStaleEpoch) {
		t.Fatalf("lower epoch: %v", err)
	}
}

// R10: after the epoch file failed, every promise is refused with the reason, so that the node ends with it whoever finds out first. (Found by test/sim, seed 3040.)
func TestFenceFailureKeepsItsReason(t *testing.T) {
	fs := faultfs.New(newGroupFS(t), 1)
	s, _ := openMem(t, fs)
	f := NewFence(s)
	t.Cleanup(func() { _ = f.Close() })
	broken := errors.New("disk is on fire")
	fs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Fault: faultfs.Fail(broken)})
	for call := range 2 {
		if err := f.Observe(5, "a", setOf(1, 1, "b")); !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
			t.Errorf("call %d: %v", call, err)
		}
	}
	if err := f.Grant(6, "b", setOf(2, 1, "a")); !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
		t.Errorf("grant: %v", err)
	}
}
