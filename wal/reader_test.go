package wal

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// follow reads frames until the LSN and checks the chain.
func follow(t *testing.T, l *Log, after, until LSN) {
	r, err := l.NewReader(after)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	for r.Position().LSN < until {
		before := r.Position()
		f, err := r.Next(testContext(t))
		if err != nil {
			t.Errorf("behind %v: %v", before, err)
			return
		}
		if f.First != before.LSN+1 || f.Prev != before.Hash {
			t.Errorf("frame of LSN %d to %d behind %v", f.First, f.Last(), before)
			return
		}
		if _, err := DecodeFrame(f.Bytes, MaxFrameBytes); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestReadersFollowWriter: readers that start anywhere follow a writer over rotations, from memory and from disk.
func TestReadersFollowWriter(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.MemoryBytes = 20 << 10
	l, _ := testOpen(t, o)
	w, err := l.NewWriter(WriterOptions{Epoch: 1, FrameBytes: 2 << 10, Codec: CodecNone})
	if err != nil {
		t.Fatal(err)
	}
	const records = 3000
	payload := randomBytes(seed(t), 200)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { follow(t, l, 0, records) })
	}
	for i := range records {
		if err := w.Admit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(KindEffects, payload[:50+i%100]); err != nil {
			t.Fatal(err)
		}
		if i == records/2 {
			wg.Go(func() { follow(t, l, 0, records) }) // begins on disk and catches up
		}
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(l.Segments()) < 5 {
		t.Fatalf("%d segments", len(l.Segments()))
	}
}

// TestReaderAndTruncation: a reader behind a cut gets ErrDiverged, one before it goes on with the new history; a trim below a
// reader does not matter, above it gives ErrTrimmed.
func TestReaderAndTruncation(t *testing.T) {
	for _, memory := range []int64{1, 1 << 20} {
		o := testOptions(vfs.NewMem())
		o.MemoryBytes = memory
		l, _ := testOpen(t, o)
		frames := chain(t, Position{}, 60, 1, 1000, FrameOptions{})
		mustAppend(t, l, frames...)
		at := func(lsn LSN) *Reader {
			r, err := l.NewReader(lsn)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			return r
		}
		behind, edge, before, old := at(41), at(40), at(30), at(2)
		for _, r := range []*Reader{edge, before, old} { // open their files; edge is then behind the cut
			if _, err := r.TryNext(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.TruncateTail(frames[39].End(), SaveOptions{Dir: "diverged"}); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*Reader{behind, edge} {
			<-r.Notify()
			if _, err := r.TryNext(); !errors.Is(err, ErrDiverged) {
				t.Fatalf("behind the cut: %v", err)
			}
			if err := r.Err(); !errors.Is(err, ErrDiverged) {
				t.Fatalf("behind the cut, asked again: %v", err)
			}
		}
		if err := before.Err(); err != nil {
			t.Fatalf("before the cut: %v", err)
		}
		other := chain(t, l.End(), 5, 1, 900, FrameOptions{Epoch: 2})
		mustAppend(t, l, other...)
		for lsn := LSN(32); lsn <= 45; lsn++ {
			f, err := before.TryNext()
			if err != nil || f.First != lsn || lsn > 40 && f.Epoch != 2 {
				t.Fatalf("LSN %d: %+v, %v", lsn, f, err)
			}
		}
		if f, err := before.TryNext(); f != nil || err != nil {
			t.Fatalf("at the end: %v, %v", f, err)
		}
		if _, err := l.TruncateHead(30); err != nil {
			t.Fatal(err)
		}
		if _, err := old.TryNext(); !errors.Is(err, ErrTrimmed) {
			t.Fatalf("trimmed away: %v", err)
		}
		appendChain(t, l, 1, 10)
		if f, err := before.TryNext(); err != nil || f.First != 46 {
			t.Fatalf("after the trim: %v, %v", f, err)
		}
	}
}

// TestReadersUnderTruncation: readers run while the tail is cut and the head trimmed again and again.
func TestReadersUnderTruncation(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.MemoryBytes = 4 << 10
	l, _ := testOpen(t, o)
	appendChain(t, l, 30, 500)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				readWhile(t, l)
			}
		})
	}
	for i := range 60 {
		mustAppend(t, l, chain(t, l.End(), 8, 1, 700, FrameOptions{Epoch: Epoch(i + 1)})...)
		to, err := l.PositionAt(l.End().LSN - 5)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.TruncateTail(to, SaveOptions{Dir: "diverged"}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.TruncateHead(to.LSN - 20); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

// readWhile reads from the start to the end. Cuts and trims may stop it, damage may not.
func readWhile(t *testing.T, l *Log) {
	r, err := l.NewReader(l.Start().LSN)
	if errors.Is(err, ErrTrimmed) {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	for {
		before := r.Position()
		f, err := r.TryNext()
		switch {
		case errors.Is(err, ErrTrimmed) || errors.Is(err, ErrDiverged):
			return
		case err != nil:
			t.Error(err)
			return
		case f == nil:
			return
		case f.First != before.LSN+1 || f.Prev != before.Hash:
			t.Errorf("frame of LSN %d behind %v", f.First, before)
			return
		}
	}
}

// TestReaderWaits: Next waits without polling until there is a frame, the context ends, the reader or the log is closed.
func TestReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, err := Open(testOptions(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		next := func(ctx context.Context, r *Reader) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := r.Next(ctx)
				done <- err
			}()
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatalf("did not wait: %v", err)
			default:
			}
			return done
		}
		r, err := l.NewReader(0)
		if err != nil {
			t.Fatal(err)
		}
		got := next(t.Context(), r)
		appendChain(t, l, 1, 10)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := <-next(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		got = next(t.Context(), r)
		r.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		r.Close()
		if r, err = l.NewReader(1); err != nil {
			t.Fatal(err)
		}
		got = next(t.Context(), r)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		r.Close()
		if _, err := l.NewReader(1); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	})
}

// TestReaderSeesDamage: damage on disk under a running log is an error, not a wrong frame (D25).
// Faults: D25 (bytes changed under an open log)
func TestReaderSeesDamage(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.MemoryBytes = 1
	l, _ := testOpen(t, o)
	appendChain(t, l, 40, 900)
	f, err := fs.OpenReadWrite(l.Segments()[1].Path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rot"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := l.NewReader(0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 40 {
		if _, err = r.TryNext(); err != nil {
			break
		}
	}
	var c *CorruptError
	if !errors.As(err, &c) || c.Good != r.Position() || c.File != l.Segments()[1].Path {
		t.Fatalf("%v", err)
	}
}

func TestDivergedDamage(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := testOpen(t, testOptions(fs))
	appendChain(t, l, 5, 100)
	d, err := l.TruncateTail(Position{}, SaveOptions{Dir: "diverged"})
	if err != nil {
		t.Fatal(err)
	}
	path := fs.PathJoin(d.Path, divergedFrames)
	whole := readRaw(t, fs, path)
	bad := append([]byte(nil), whole...)
	bad[len(bad)/2] ^= 1
	for name, b := range map[string][]byte{"flipped": bad, "cut": whole[:len(whole)-1], "empty": nil} {
		writeRaw(t, fs, path, b)
		r, err := OpenDiverged(fs, d.Path)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, ErrCorrupt) || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	writeRaw(t, fs, fs.PathJoin(d.Path, divergedAbout), []byte("{}"))
	if list, err := ListDiverged(fs, "diverged"); err == nil || len(list) != 0 {
		t.Errorf("bad description: %+v, %v", list, err)
	}
}
