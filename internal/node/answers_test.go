package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"repld/internal/server"
	"repld/wal"
)

// gated is a sequencer whose log holds records up to last, of which none is applied. What submissions write is marked by hand: there is no log.
func gated(last wal.LSN) *sequencer {
	s := newSequencer(func() wal.LSN { return 0 }, 1<<20, time.Hour, nil)
	s.mu.gate, s.mu.last = gateOpen, last
	return s
}

// outcome is what a submission was told.
type outcome struct {
	told int
	err  error
}

func (o *outcome) done(_ wal.LSN, err error) { o.told, o.err = o.told+1, err }

func nothing(server.Sequence) error { return nil }

// R1, R7: who saw a record that is not applied is not answered before it is, not by the record before it either, and then once.
func TestAnswerWaitsForItsRecord(t *testing.T) {
	s := gated(5)
	var o, later outcome
	s.submit(t.Context(), nothing, o.done)
	s.mu.last = 6
	s.submit(t.Context(), nothing, later.done)
	for lsn := wal.LSN(1); lsn <= 7; lsn++ {
		s.finish(lsn)
		if want := lsn >= 5; (o.told == 1) != want || o.told > 1 || o.err != nil {
			t.Fatalf("the record is 5, applied up to %d: told %+v", lsn, o)
		}
		if want := lsn >= 6; (later.told == 1) != want || later.told > 1 {
			t.Fatalf("the record is 6, applied up to %d: told %+v", lsn, later)
		}
	}
}

// R7: answers leave in the order of the log. Who has nothing to wait for waits for those before it.
func TestAnswersKeepTheirOrder(t *testing.T) {
	s := gated(5)
	var first, second outcome
	s.submit(t.Context(), nothing, first.done)
	s.applied = func() wal.LSN { return 5 } // applied, and the applier is about to answer
	s.submit(t.Context(), nothing, second.done)
	if second.told > 0 {
		t.Fatal("the second was answered before the first")
	}
	s.finish(5)
	if first.told != 1 || second.told != 1 {
		t.Fatalf("told %+v and %+v", first, second)
	}
}

// R13: when the node steps down, whoever waits is told that the outcome is unknown; who comes later is refused as not written.
func TestOutcomesAtStepDown(t *testing.T) {
	s := gated(1)
	var waits, late outcome
	refusal := server.ReadOnly(2, "b")
	s.submit(t.Context(), nothing, waits.done)
	s.stop(refusal)
	s.submit(t.Context(), nothing, late.done)
	if waits.told != 1 || !errors.Is(waits.err, server.ErrUnknown) {
		t.Fatalf("in flight: %+v, want unknown", waits)
	}
	if late.told != 1 || !errors.Is(late.err, refusal) {
		t.Fatalf("after it: %+v, want the refusal", late)
	}
	s.finish(1)
	if waits.told != 1 {
		t.Fatal("told twice")
	}
}

// R12, R13: who waits for too long is told that the outcome is unknown, neither success nor failure.
func TestOutcomeOfALongWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gated(1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = s.sweep(ctx, time.Second) }()
		var o outcome
		s.submit(ctx, nothing, o.done)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if o.told != 0 {
			t.Fatalf("told %+v before the limit", o)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if o.told != 1 || !errors.Is(o.err, server.ErrUnknown) {
			t.Fatalf("told %+v, want unknown", o)
		}
	})
}

// R13: a batch that fails after a part of it went into the log is unknown; one that wrote nothing is refused with its own error.
func TestOutcomeOfABatchInPart(t *testing.T) {
	failed := errors.New("no")
	for _, wrote := range []bool{false, true} {
		s := gated(1)
		var o outcome
		s.submit(t.Context(), func(q server.Sequence) error {
			q.(*sequence).wrote = wrote
			return failed
		}, o.done)
		want := failed
		if wrote {
			want = server.ErrUnknown
		}
		if o.told != 1 || !errors.Is(o.err, want) {
			t.Errorf("wrote %t: told %+v, want %v", wrote, o, want)
		}
	}
}

// R1: a node is idle, and may hand over, when all that was appended is applied here, whether or not a client waits for it.
func TestIdle(t *testing.T) {
	s := gated(5)
	s.applied = func() wal.LSN { return 4 }
	if s.idle() {
		t.Error("idle with a record in flight for which nobody waits any more")
	}
	s.applied = func() wal.LSN { return 5 }
	if !s.idle() {
		t.Error("not idle with everything applied")
	}
}
