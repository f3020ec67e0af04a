package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestWriterOrder: concurrent callers get each LSN once, every record is in the log under its LSN, and what OnDurable said
// only grows and covers everything in the end.
func TestWriterOrder(t *testing.T) {
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		t.Run(codec.String(), func(t *testing.T) {
			o := testOptions(vfs.NewMem())
			o.SegmentBytes = 64 << 10
			l, _ := testOpen(t, o)
			mustAppend(t, l, chain(t, Position{}, 1, 5, 10, FrameOptions{Epoch: 2})...)
			var durable []Position // by the writer goroutine only
			committed := LSN(3)
			w, err := l.NewWriter(WriterOptions{Epoch: 4, Codec: codec, FrameBytes: 4 << 10, Committed: func() LSN { return committed },
				OnDurable: func(p Position) { durable = append(durable, p) }, Now: func() time.Time { return time.Unix(9, 9) }})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			want := map[LSN]string{}
			var wg sync.WaitGroup
			for c := range 8 {
				wg.Go(func() {
					for i := range 150 {
						p := fmt.Appendf(nil, "caller %d record %d %s", c, i, bytes.Repeat([]byte{byte('a' + i%26)}, i))
						lsn, err := w.Append(KindEffects, p)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						want[lsn] = string(p)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Append(KindEffects, nil); !errors.Is(err, ErrClosed) {
				t.Fatalf("append to a closed writer: %v", err)
			}
			if err := w.Admit(t.Context()); !errors.Is(err, ErrClosed) {
				t.Fatalf("admit by a closed writer: %v", err)
			}
			checkWritten(t, l, want, durable)
			w, err = l.NewWriter(WriterOptions{Epoch: 5})
			if err != nil {
				t.Fatal(err)
			}
			if lsn, err := w.Append(KindMark, []byte("m")); err != nil || lsn != 1206 {
				t.Fatalf("next writer: %d, %v", lsn, err)
			}
			if err := l.Close(); err != nil { // closes the writer too
				t.Fatal(err)
			}
			if l.Durable().LSN != 1206 {
				t.Fatalf("durable %v", l.Durable())
			}
		})
	}
}

func checkWritten(t *testing.T, l *Log, want map[LSN]string, durable []Position) {
	t.Helper()
	n := 0
	for _, f := range readAll(t, l, 5) {
		if f.Epoch != 4 || f.Committed != 3 || !f.Time.Equal(time.Unix(9, 9)) {
			t.Fatalf("header %+v", f.Header)
		}
		err := f.Each(func(r Record) error {
			n++
			if want[r.LSN] != string(r.Payload) {
				return fmt.Errorf("LSN %d holds %q, want %q", r.LSN, r.Payload, want[r.LSN])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != len(want) || n != 1200 {
		t.Fatalf("%d records, want %d", n, len(want))
	}
	last := LSN(5)
	for _, p := range durable {
		if p.LSN <= last {
			t.Fatalf("durable %v after %d", p, last)
		}
		last = p.LSN
	}
	if last != 1205 || l.Durable().LSN != last {
		t.Fatalf("durable %d and %v", last, l.Durable())
	}
}

// TestWriterFrames: records share frames up to FrameBytes, a larger record has one of its own, one above the limit is refused.
func TestWriterFrames(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.SegmentBytes = 256 << 10
	o.MaxFrameBytes = 100_000
	l, _ := testOpen(t, o)
	g := newGate()
	w, err := l.NewWriter(WriterOptions{Epoch: 1, FrameBytes: 10_000, Codec: CodecNone, Committed: g.committed})
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{1, 4000, 4000, 4000, 50_000, 10, 10, 99_000}
	for i, n := range sizes {
		if _, err := w.Append(KindEffects, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-g.in // the first record is being written, the others gather
		}
	}
	if _, err := w.Append(KindEffects, make([]byte, 100_000)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("record above the limit: %v", err)
	}
	g.open()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, f := range readAll(t, l, 0) {
		got = append(got, f.Count)
	}
	if fmt.Sprint(got) != "[1 2 1 1 2 1]" {
		t.Fatalf("records a frame: %v", got)
	}
}

// gate holds the writer goroutine between two frames.
type gate struct {
	in  chan struct{} // the goroutine is held
	out chan struct{} // closed: go on for good
}

func newGate() *gate { return &gate{in: make(chan struct{}, 1000), out: make(chan struct{})} }

func (g *gate) committed() LSN {
	g.in <- struct{}{}
	<-g.out
	return 0
}

func (g *gate) open() { close(g.out) }

// TestAdmit: callers wait while too much waits to be written, and no longer (R12).
func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, err := Open(testOptions(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		g := newGate()
		w, err := l.NewWriter(WriterOptions{Epoch: 1, QueueBytes: 1000, Committed: g.committed})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.Admit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Append(KindEffects, make([]byte, 700)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Admit(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("full queue: %v", err)
		}
		admitted := make(chan error, 1)
		go func() { admitted <- w.Admit(t.Context()) }()
		synctest.Wait()
		g.open()
		if err := <-admitted; err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAppendAllocates: the hot path allocates a few times a frame and never a record.
func TestAppendAllocates(t *testing.T) {
	l, _ := testOpen(t, testOptions(vfs.NewMem()))
	g := newGate()
	w, err := l.NewWriter(WriterOptions{Epoch: 1, FrameBytes: 1 << 20, Committed: g.committed})
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 100)
	if _, err := w.Append(KindEffects, payload); err != nil {
		t.Fatal(err)
	}
	<-g.in
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := w.Append(KindEffects, payload); err != nil {
			t.Fatal(err)
		}
	})
	if allocs >= 1 {
		t.Errorf("%v allocations a record", allocs)
	}
	g.open()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
