// Package tokentest is the conformance suite of failover.Store: every token store runs it.
package tokentest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"repld/failover"
	"repld/wal"
)

// Factory returns several independent stores over one empty token, as separate processes would open them. It
// registers their closing with t.Cleanup.
type Factory func(t *testing.T, n int) []failover.Store

// patience bounds what the suite waits for.
const patience = 10 * time.Second

// Run runs the suite. It holds that one token has one holder in each epoch (R2), whoever asks and however often.
func Run(t *testing.T, open Factory) {
	t.Run("empty", func(t *testing.T) { testEmpty(t, open(t, 1)[0]) })
	t.Run("set and load", func(t *testing.T) { testSetAndLoad(t, open(t, 2)) })
	t.Run("stale revision", func(t *testing.T) { testStaleRevision(t, open(t, 2)) })
	t.Run("epoch rules", func(t *testing.T) { testEpochRules(t, open(t, 1)[0]) })
	t.Run("history", func(t *testing.T) { testHistory(t, open(t, 1)[0]) })
	t.Run("one winner", func(t *testing.T) { testOneWinner(t, open(t, 4)) })
	t.Run("no lost update", func(t *testing.T) { testNoLostUpdate(t, open(t, 3)) })
	t.Run("watch", func(t *testing.T) { testWatch(t, open(t, 2)) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, open(t, 1)[0]) })
}

// Next is a valid record for epoch e.
func Next(e wal.Epoch, holder string) failover.Record {
	return failover.Record{Epoch: e, Holder: holder, Reason: "test", Time: time.Unix(1, 0).UTC(),
		Sync: wal.SyncSet{Version: uint64(e), Members: []string{"b", "c"}, K: 1}}
}

func context10(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func testEmpty(t *testing.T, s failover.Store) {
	rec, err := s.Load(context10(t))
	if err != nil || rec.Rev != 0 || rec.Epoch != 0 {
		t.Fatalf("an empty token loads as %+v, %v", rec, err)
	}
}

func testSetAndLoad(t *testing.T, s []failover.Store) {
	ctx := context10(t)
	set, err := s[0].CompareAndSet(ctx, 0, Next(1, "a"))
	if err != nil || set.Rev != 1 {
		t.Fatalf("set: %+v, %v", set, err)
	}
	for i := range s {
		got, err := s[i].Load(ctx)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(set) {
			t.Fatalf("store %d loads %+v, %v; want %+v", i, got, err, set)
		}
	}
}

func testStaleRevision(t *testing.T, s []failover.Store) {
	ctx := context10(t)
	mustSet(t, s[0], 0, Next(1, "a"))
	cur, err := s[1].CompareAndSet(ctx, 0, Next(1, "b"))
	if !errors.Is(err, failover.ErrConflict) || cur.Holder != "a" || cur.Rev != 1 {
		t.Fatalf("revision 0 again: %+v, %v; want conflict with a's record", cur, err)
	}
	if _, err := s[1].CompareAndSet(ctx, 7, Next(2, "b")); !errors.Is(err, failover.ErrConflict) {
		t.Fatalf("a revision that never was: %v", err)
	}
}

// testEpochRules holds R2 and R3 at the token: the epoch only rises, and one epoch has one holder.
func testEpochRules(t *testing.T, s failover.Store) {
	ctx := context10(t)
	mustSet(t, s, 0, Next(5, "a"))
	for _, bad := range []failover.Record{Next(4, "a"), Next(5, "b")} {
		if cur, err := s.CompareAndSet(ctx, 1, bad); !errors.Is(err, failover.ErrConflict) || cur.Epoch != 5 {
			t.Fatalf("epoch %d by %s after epoch 5 by a: %+v, %v", bad.Epoch, bad.Holder, cur, err)
		}
	}
	mustSet(t, s, 1, Next(5, "a")) // a new sync set in the same epoch
	if _, err := s.CompareAndSet(ctx, 2, failover.Record{Epoch: 6}); !errors.Is(err, failover.ErrInvalid) {
		t.Fatalf("a record without a holder: %v", err)
	}
}

// testHistory holds R6: the token remembers under which sets older epochs acked, whoever changes it.
func testHistory(t *testing.T, s failover.Store) {
	for i, e := range []wal.Epoch{2, 3, 3, 7} {
		mustSet(t, s, uint64(i), Next(e, "a"))
	}
	rec, err := s.Load(context10(t))
	if err != nil || len(rec.History) != 2 || rec.History[0].Epoch != 2 || rec.History[1].Epoch != 3 || rec.History[1].Sync.Version != 3 {
		t.Fatalf("%+v, %v", rec, err)
	}
	for e := range wal.Epoch(failover.MaxTenures) {
		mustSet(t, s, uint64(e)+4, Next(e+8, "b"))
	}
	rec, err = s.Load(context10(t))
	if err != nil || len(rec.History) != failover.MaxTenures || rec.Forgotten != 3 || rec.History[0].Epoch != 7 {
		t.Fatalf("%d tenures, forgotten %d, %v", len(rec.History), rec.Forgotten, err)
	}
}

// testOneWinner holds H7 of the fault catalogue: promoted on several nodes at once, one wins.
func testOneWinner(t *testing.T, s []failover.Store) {
	ctx := context10(t)
	const each = 4
	var wg sync.WaitGroup
	wins := make(chan string, len(s)*each)
	for i := range len(s) * each {
		wg.Go(func() {
			name := fmt.Sprintf("n%d", i)
			_, err := s[i%len(s)].CompareAndSet(ctx, 0, Next(1, name))
			switch {
			case err == nil:
				wins <- name
			case !errors.Is(err, failover.ErrConflict):
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	close(wins)
	if len(wins) != 1 {
		t.Fatalf("%d winners of one epoch", len(wins))
	}
	winner := <-wins
	if rec, err := s[0].Load(ctx); err != nil || rec.Holder != winner {
		t.Fatalf("%s won, but the token says %+v, %v", winner, rec, err)
	}
}

// testNoLostUpdate has every store raise the epoch many times: as many revisions as successes, each epoch once.
func testNoLostUpdate(t *testing.T, s []failover.Store) {
	ctx := context10(t)
	const each = 20
	var wg sync.WaitGroup
	for i := range s {
		wg.Go(func() {
			for n := 0; n < each; {
				cur, err := s[i].Load(ctx)
				if err != nil {
					t.Errorf("load: %v", err)
					return
				}
				_, err = s[i].CompareAndSet(ctx, cur.Rev, Next(cur.Epoch+1, fmt.Sprintf("n%d", i)))
				if err == nil {
					n++
				} else if !errors.Is(err, failover.ErrConflict) {
					t.Errorf("set: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	rec, err := s[0].Load(ctx)
	// A success that was overtaken before it returned is reported as a conflict, so there may be more revisions.
	if want := len(s) * each; err != nil || rec.Rev < uint64(want) || rec.Epoch != wal.Epoch(rec.Rev) {
		t.Fatalf("after %d successes: %+v, %v", want, rec, err)
	}
}

func testWatch(t *testing.T, s []failover.Store) {
	ctx := context10(t)
	type seen struct {
		rec failover.Record
		err error
	}
	for i := range s { // through the store that changes it, and through another one
		rev := uint64(i)
		got := make(chan seen, 1)
		go func() {
			rec, err := s[1].Watch(ctx, rev)
			got <- seen{rec, err}
		}()
		mustSet(t, s[i], rev, Next(wal.Epoch(rev+1), "a"))
		if g := <-got; g.err != nil || g.rec.Rev != rev+1 {
			t.Fatalf("watch after %d: %+v, %v", rev, g.rec, g.err)
		}
	}
	for rev := uint64(0); rev < 2; { // a replica may be a moment behind, but never goes back
		rec, err := s[0].Watch(ctx, rev)
		if err != nil || rec.Rev <= rev || rec.Rev > 2 {
			t.Fatalf("watch of the past after %d: %+v, %v; want what there is, at once", rev, rec, err)
		}
		rev = rec.Rev
	}
}

func testCancelled(t *testing.T, s failover.Store) {
	ctx, cancel := context.WithCancel(context10(t))
	cancel()
	if _, err := s.Watch(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Fatalf("watch: %v", err)
	}
	if rec, err := s.Load(context10(t)); err != nil || rec.Rev != 0 {
		t.Fatalf("after a cancelled call: %+v, %v", rec, err)
	}
}

func mustSet(t *testing.T, s failover.Store, rev uint64, next failover.Record) {
	t.Helper()
	if rec, err := s.CompareAndSet(context10(t), rev, next); err != nil || rec.Rev != rev+1 {
		t.Fatalf("set revision %d: %+v, %v", rev+1, rec, err)
	}
}
