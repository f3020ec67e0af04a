package wal

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// paced opens a log and a Writer with a Pace, in a bubble with its own clock, and closes the log at the end. Four records of 1000 bytes do not fit one frame.
func paced(t *testing.T, pace time.Duration, fn func(l *Log, w *Writer, add func(n int))) {
	t.Helper()
	inBubble(t, WriterOptions{Pace: pace}, fn)
}

func inBubble(t *testing.T, o WriterOptions, fn func(l *Log, w *Writer, add func(n int))) {
	t.Helper()
	o.Epoch, o.Codec, o.FrameBytes = 1, CodecNone, 4000
	synctest.Test(t, func(t *testing.T) {
		l, _, err := Open(testOptions(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		w, err := l.NewWriter(o)
		if err != nil {
			t.Fatal(err)
		}
		fn(l, w, func(n int) {
			t.Helper()
			for range n {
				if _, err := w.Append(KindEffects, make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait() // the writer has done all that it does without a further word
		})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// durableAt fails unless the log is durable up to lsn after so much time.
func durableAt(t *testing.T, l *Log, lsn LSN, began time.Time, passed time.Duration) {
	t.Helper()
	if got, took := l.Durable().LSN, time.Since(began); got != lsn || took != passed {
		t.Fatalf("durable up to %d after %s, want %d after %s", got, took, lsn, passed)
	}
}

// TestPaceProgress: a frame waits until the records of the one before it are through, all of them, and no longer.
func TestPaceProgress(t *testing.T) {
	paced(t, time.Hour, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		add(1)
		durableAt(t, l, 1, began, 0) // the first frame has none before it
		add(2)
		durableAt(t, l, 1, began, 0)
		w.Progress(1)
		synctest.Wait()
		durableAt(t, l, 3, began, 0)
		add(1)
		w.Progress(2)
		synctest.Wait()
		durableAt(t, l, 3, began, 0) // record 3 is of the same frame
		w.Progress(3)
		synctest.Wait()
		durableAt(t, l, 4, began, 0)
		w.Progress(4) // before there is anything to wait
		add(1)
		durableAt(t, l, 5, began, 0)
		if f := readAll(t, l, 1)[0]; f.Count != 2 {
			t.Fatalf("the frame that waited holds %d records, want 2", f.Count)
		}
	})
}

// TestPaceBound: nobody waits for longer than Pace after the frame before was begun, even if nothing is ever through (R12).
func TestPaceBound(t *testing.T) {
	paced(t, time.Second, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		add(1)
		time.Sleep(600 * time.Millisecond)
		add(1)
		durableAt(t, l, 1, began, 600*time.Millisecond)
		time.Sleep(400*time.Millisecond - 1)
		synctest.Wait()
		durableAt(t, l, 1, began, time.Second-1)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		durableAt(t, l, 2, began, time.Second)
		time.Sleep(2 * time.Second)
		add(1) // the frame before is older than Pace
		durableAt(t, l, 3, began, 3*time.Second)
	})
}

// TestPaceFull: a frame that is full does not wait, the one behind it does.
func TestPaceFull(t *testing.T) {
	paced(t, time.Hour, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		add(1)
		add(3)
		durableAt(t, l, 1, began, 0)
		add(1) // begins the next frame
		durableAt(t, l, 4, began, 0)
		add(2)
		durableAt(t, l, 4, began, 0)
		add(1)
		durableAt(t, l, 7, began, 0)
	})
}

// TestPaceClose: Close makes durable what waits, at once; a failure ends the wait too, without another write (R10).
func TestPaceClose(t *testing.T) {
	paced(t, time.Hour, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		add(1)
		add(2)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		durableAt(t, l, 3, began, 0)
	})
	synctest.Test(t, func(t *testing.T) {
		l, _, err := Open(testOptions(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		w, err := l.NewWriter(WriterOptions{Epoch: 1, Pace: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		mustWrite(t, w, 1)
		synctest.Wait()
		mustWrite(t, w, 1)
		synctest.Wait()
		l.Fail(errors.New("disk hangs"))
		if err := w.Close(); !errors.Is(err, ErrFailed) || time.Since(began) != 0 {
			t.Fatalf("close after %s: %v", time.Since(began), err)
		}
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		<-w.done
		if took := time.Since(began); l.Durable().LSN != 1 || took > time.Second {
			t.Fatalf("durable %v; the writer's goroutine ended after %s", l.Durable(), took)
		}
	})
}

// TestPaceNone: a Writer without Pace never waits.
func TestPaceNone(t *testing.T) {
	paced(t, 0, func(l *Log, w *Writer, add func(int)) {
		began := time.Now()
		for n := range LSN(5) {
			add(1)
			durableAt(t, l, n+1, began, 0)
		}
		if n := len(readAll(t, l, 0)); n != 5 {
			t.Fatalf("%d frames, want 5", n)
		}
	})
}

// TestPaceOrder: whatever is through when, every record is in the log once, under its LSN, in the order of Append.
func TestPaceOrder(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 64 << 10
	l, _ := testOpen(t, o)
	var w *Writer
	ready := make(chan struct{})
	var frames int // by the writer goroutine only
	w, err := l.NewWriter(WriterOptions{Epoch: 1, FrameBytes: 4 << 10, Pace: 200 * time.Microsecond, OnDurable: func(p Position) {
		<-ready
		if frames++; frames%3 != 0 { // every third frame is never through
			w.Progress(p.LSN)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	const callers, records = 8, 150
	var mu sync.Mutex
	want := map[LSN]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range records {
				p := fmt.Sprintf("caller %d record %d %s", c, i, strings.Repeat("x", i))
				lsn, err := w.Append(KindEffects, []byte(p))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[lsn] = p
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	next := LSN(1)
	for _, f := range readAll(t, l, 0) {
		err := f.Each(func(r Record) error {
			if r.LSN != next || want[r.LSN] != string(r.Payload) {
				return fmt.Errorf("LSN %d holds %q, want LSN %d with %q", r.LSN, r.Payload, next, want[next])
			}
			next++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if next != callers*records+1 || l.Durable().LSN != next-1 {
		t.Fatalf("%d records, durable %v, want %d", next-1, l.Durable(), callers*records)
	}
}

// TestBusyPreparation: a disk that hangs while the next segment is prepared shows in Busy like one that hangs in a write (D17), and the Writer ends once the log
// was failed for it (R12).
// Faults: D17 (a hanging preparation)
func TestBusyPreparation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stuck atomic.Bool
		hold := make(chan struct{})
		o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if stuck.Load() && strings.HasSuffix(op.Path, tmpSuffix) {
				<-hold
			}
			return nil
		})))
		l, _, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		w, err := l.NewWriter(WriterOptions{Epoch: 1, Codec: CodecNone})
		if err != nil {
			t.Fatal(err)
		}
		stuck.Store(true)
		began := time.Now()
		for l.Busy() == 0 && l.End().LSN < 100 {
			if _, err := w.Append(KindEffects, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(time.Nanosecond) // of this bubble's clock: Busy is 0 at the moment in which it begins
		}
		waited := time.Since(began)
		time.Sleep(7 * time.Second)
		if busy := l.Busy(); busy < 7*time.Second || busy > 7*time.Second+waited {
			t.Fatalf("busy for %s at LSN %d", busy, l.End().LSN)
		}
		l.Fail(errors.New("the disk hangs"))
		if err := w.Close(); !errors.Is(err, ErrFailed) {
			t.Fatalf("close: %v", err)
		}
		durable := l.Durable()
		close(hold)
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Fatalf("close the log: %v", err)
		}
		if l.Durable() != durable || l.Busy() != 0 {
			t.Fatalf("durable %v after the failure, %v before; busy for %s", l.Durable(), durable, l.Busy())
		}
	})
}
