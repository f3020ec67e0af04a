package replicate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"repld/wal"
)

func set(version uint64, k int, members ...string) wal.SyncSet {
	return wal.SyncSet{Version: version, Members: members, K: k}
}

// R1: what is committed is durable here and at k members of V.
func TestCommitRuleCounts(t *testing.T) {
	type acks map[string]wal.LSN
	for _, c := range []struct {
		name    string
		set     wal.SyncSet
		durable wal.LSN
		acks    acks
		want    wal.LSN
	}{
		{"alone", set(1, 0), 7, nil, 7},
		{"async with standbys", set(1, 0, "b", "c"), 7, acks{"b": 3}, 7},
		{"one of two, fastest wins", set(1, 1, "b", "c"), 9, acks{"b": 3, "c": 5}, 5},
		{"all of two, slowest counts", set(1, 2, "b", "c"), 9, acks{"b": 3, "c": 5}, 3},
		{"not durable here", set(1, 1, "b"), 2, acks{"b": 5}, 2},
		{"not a member", set(1, 1, "b"), 9, acks{"c": 5}, 0},
		{"ourselves do not count", set(1, 1, "a", "b"), 9, acks{"a": 9}, 0},
		{"a name twice counts once", set(1, 2, "b", "b", "c"), 9, acks{"b": 9}, 0},
		{"too few members", set(1, 3, "b", "c"), 9, acks{"b": 9, "c": 9}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewCommitRule("a", c.set, 0, 1)
			r.Durable(c.durable)
			for name, lsn := range c.acks {
				r.Acked(name, lsn, 1)
			}
			if got := r.Committed(); got != c.want {
				t.Fatalf("committed %d, want %d", got, c.want)
			}
		})
	}
}

// R1, R5: records of earlier epochs commit only together with the epoch-start record.
func TestCommitRuleWaitsForEpochStart(t *testing.T) {
	r := NewCommitRule("a", set(1, 1, "b"), 40, 51)
	r.Durable(60)
	r.Acked("b", 50, 1)
	if r.Committed() != 40 {
		t.Fatalf("committed %d before the epoch-start record", r.Committed())
	}
	r.Acked("b", 51, 1)
	if r.Committed() != 51 {
		t.Fatalf("committed %d, want 51", r.Committed())
	}
}

// H2, R11: what was acked by a standby that lost it does not count again.
// Faults: H2 (acks of a standby that lost them)
func TestCommitRuleForget(t *testing.T) {
	r := NewCommitRule("a", set(1, 1, "b"), 0, 1)
	r.Durable(10)
	r.Acked("b", 10, 1)
	r.Forget("b")
	r.Durable(20)
	r.Acked("b", 5, 1)
	if r.Committed() != 10 {
		t.Fatalf("committed %d, want 10: it never falls, and 5 does not add", r.Committed())
	}
	if r.AckedBy(10) != 0 || r.AckedBy(5) != 1 {
		t.Fatalf("acked by %d and %d", r.AckedBy(10), r.AckedBy(5))
	}
}

// R6: an ack counts only from a standby that has persisted the set in force.
func TestCommitRuleNeedsRecordedSet(t *testing.T) {
	r := NewCommitRule("a", set(3, 1, "b"), 0, 1)
	r.Durable(10)
	r.Acked("b", 10, 2)
	if r.Committed() != 0 {
		t.Fatalf("committed %d by an ack under an older set", r.Committed())
	}
	r.Acked("b", 10, 3)
	if r.Committed() != 10 {
		t.Fatalf("committed %d, want 10", r.Committed())
	}
}

// R6: the order of a change of the sync set.
func TestCommitRuleChange(t *testing.T) {
	r := NewCommitRule("a", set(1, 1, "b"), 0, 1)
	r.Durable(10)
	r.Acked("b", 10, 1)
	must(t, r.SetRule(set(2, 1, "c")))
	if err := r.SetRule(set(3, 0)); !errors.Is(err, ErrChangePending) {
		t.Fatalf("second change: %v", err)
	}
	r.Durable(20)
	r.Acked("b", 20, 1)
	if r.Committed() != 10 || r.Covered() {
		t.Fatalf("committed %d, covered %v: c has nothing yet", r.Committed(), r.Covered())
	}
	if r.Settle() == nil {
		t.Fatal("settled a set that misses committed records")
	}
	r.Acked("c", 15, 1)
	if r.Committed() != 15 || !r.Covered() || r.Recorded() {
		t.Fatalf("committed %d, covered %v, recorded %v", r.Committed(), r.Covered(), r.Recorded())
	}
	r.Acked("b", 20, 2)
	if !r.Recorded() {
		t.Fatal("b has recorded the set")
	}
	must(t, r.Settle())
	r.Acked("b", 30, 2)
	r.Durable(30)
	if r.Committed() != 15 {
		t.Fatalf("committed %d: c has not recorded the set that is in force now", r.Committed())
	}
	r.Acked("c", 25, 2)
	if r.Committed() != 25 {
		t.Fatalf("committed %d, want 25", r.Committed())
	}
}

func TestCommitRuleRefusesSets(t *testing.T) {
	r := NewCommitRule("a", set(2, 1, "b"), 0, 1)
	for _, s := range []wal.SyncSet{set(2, 1, "c"), set(3, 2, "b"), set(3, -1, "b"), set(3, 1, "a")} {
		if r.SetRule(s) == nil {
			t.Errorf("accepted %v", s)
		}
	}
	must(t, r.SetRule(set(3, 0)))
	r.Abandon()
	if cur, next := r.Rule(); cur.Version != 2 || next != nil {
		t.Fatalf("after abandon: %v, %v", cur, next)
	}
}

// R1, R6: random events; never above the definition, never falling, and never stuck below it.
func TestCommitRuleProperty(t *testing.T) {
	for seed := range uint64(2000) {
		if err := commitRuleRun(rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func commitRuleRun(rnd *rand.Rand) error {
	nodes := []string{"a", "b", "c", "d"}
	randomSet := func(version uint64) wal.SyncSet {
		s := wal.SyncSet{Version: version}
		for _, n := range nodes[1:] {
			if rnd.IntN(2) == 0 {
				s.Members = append(s.Members, n)
			}
		}
		s.K = rnd.IntN(len(s.Members) + 1)
		return s
	}
	first := wal.LSN(rnd.IntN(5) + 1)
	cur := randomSet(1)
	var next *wal.SyncSet
	r := NewCommitRule("a", cur, 0, first)
	var durable, committed wal.LSN
	acked, version := map[string]wal.LSN{}, map[string]uint64{}
	covers := func(s wal.SyncSet, lsn wal.LSN, v uint64) bool {
		n := 0
		for m, l := range acked {
			if slices.Contains(s.Members, m) && l >= lsn && version[m] >= v {
				n++
			}
		}
		return n >= s.K
	}
	for step := range 60 {
		switch rnd.IntN(8) {
		case 0, 1, 2:
			durable += wal.LSN(rnd.IntN(3))
			r.Durable(durable)
		case 3, 4, 5:
			n := nodes[1+rnd.IntN(3)]
			acked[n] += wal.LSN(rnd.IntN(4))
			version[n] = max(version[n], uint64(1+rnd.IntN(int(cur.Version)+1)))
			r.Acked(n, acked[n], version[n])
		case 6:
			s := randomSet(cur.Version + 1)
			if r.SetRule(s) == nil {
				next = &s
			}
		case 7:
			if rnd.IntN(3) == 0 {
				r.Abandon()
				next = nil
			} else if r.Settle() == nil {
				cur, next = *next, nil
			}
		}
		ok := func(lsn wal.LSN) bool {
			return lsn >= first && lsn <= durable && covers(cur, lsn, cur.Version) && (next == nil || covers(*next, lsn, 0))
		}
		c := r.Committed()
		if c < committed {
			return fmt.Errorf("step %d: committed fell from %d to %d", step, committed, c)
		}
		if c > committed && !ok(c) {
			return fmt.Errorf("step %d: committed %d against the definition", step, c)
		}
		if ok(c + 1) {
			return fmt.Errorf("step %d: committed %d, though %d qualifies", step, c, c+1)
		}
		committed = c
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
