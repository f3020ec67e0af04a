package wal

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestAppendReopenRead(t *testing.T) {
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		t.Run(codec.String(), func(t *testing.T) {
			fs := vfs.NewMem()
			o := testOptions(fs)
			l, rec := testOpen(t, o)
			if rec.End != (Position{}) || rec.Clean || rec.Doubt || rec.Segments != 1 {
				t.Fatalf("blank: %+v", rec)
			}
			frames := chain(t, Position{}, 60, 3, 300, FrameOptions{Codec: codec})
			for len(frames) > 0 {
				n := min(7, len(frames))
				mustAppend(t, l, frames[:n]...)
				frames = frames[n:]
			}
			want := readAll(t, l, 0)
			end := l.End()
			if end.LSN != 180 || l.Durable() != end || len(want) != 60 || len(l.Segments()) < 3 {
				t.Fatalf("end %v, %d frames, %d segments", end, len(want), len(l.Segments()))
			}
			for range 2 {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l, rec = testOpen(t, o)
				if !rec.Clean || rec.End != end || rec.Start != (Position{}) || rec.Cut != nil {
					t.Fatalf("reopened: %+v", rec)
				}
				sameFrames(t, readAll(t, l, 0), want)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	l, _ := testOpen(t, testOptions(vfs.NewMem()))
	good := chain(t, Position{}, 3, 1, 10, FrameOptions{Epoch: 5})
	mustAppend(t, l, good[0])
	end := l.End()
	broken := &Frame{Header: good[1].Header, Bytes: append([]byte(nil), good[1].Bytes...)}
	broken.Bytes[HeaderSize] ^= 1
	otherHash := Position{Epoch: 5, LSN: 1, Hash: end.Hash + 1}
	for name, c := range map[string]struct {
		frames []*Frame
		want   error
	}{
		"gap":         {good[2:3], ErrGap},
		"twice":       {good[:1], ErrGap},
		"gap inside":  {[]*Frame{good[1], good[1]}, ErrGap},
		"history":     {chain(t, otherHash, 1, 1, 10, FrameOptions{}), ErrDiverged},
		"stale epoch": {chain(t, end, 1, 1, 10, FrameOptions{Epoch: 4}), ErrStaleEpoch},
		"damaged":     {[]*Frame{broken}, ErrCorrupt},
	} {
		if _, err := l.AppendFrames(c.frames); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if l.End() != end || l.Failed() != nil {
			t.Fatalf("%s changed the log: %v, %v", name, l.End(), l.Failed())
		}
	}
	mustAppend(t, l, good[1:]...)
}

func TestFrameLargerThanSegment(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	appendChain(t, l, 1, 100)
	appendChain(t, l, 1, 50_000)
	appendChain(t, l, 2, 100)
	appendChain(t, l, 1, 70_000)
	want := readAll(t, l, 0)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec := testOpen(t, o)
	if rec.End.LSN != 5 {
		t.Fatalf("%+v", rec)
	}
	sameFrames(t, readAll(t, l, 0), want)
	o.MaxFrameBytes = 60_000
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(o); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("frame above the limit: %v", err)
	}
}

func TestLookup(t *testing.T) {
	for _, memory := range []int64{1, 1 << 20} {
		o := testOptions(vfs.NewMem())
		o.MemoryBytes = memory
		l, _ := testOpen(t, o)
		frames := chain(t, Position{}, 100, 3, 200, FrameOptions{})
		mustAppend(t, l, frames...)
		for lsn := LSN(1); lsn <= 300; lsn++ {
			f, err := l.FrameAt(lsn)
			if err != nil || lsn < f.First || lsn > f.Last() {
				t.Fatalf("FrameAt(%d) = %v, %v", lsn, f, err)
			}
			want := Position{}
			if lsn >= 3 {
				want = frames[lsn/3-1].End()
			}
			if p, err := l.PositionAt(lsn); err != nil || p != want {
				t.Fatalf("PositionAt(%d) = %v, %v, want %v", lsn, p, err, want)
			}
		}
		if p, err := l.PositionAt(999); err != nil || p != l.End() {
			t.Fatalf("beyond the end: %v, %v", p, err)
		}
		if _, err := l.FrameAt(301); !errors.Is(err, ErrGap) {
			t.Fatalf("FrameAt(301): %v", err)
		}
		if _, err := l.NewReader(4); !errors.Is(err, ErrGap) {
			t.Fatalf("reader inside a frame: %v", err)
		}
		if _, err := l.NewReader(303); !errors.Is(err, ErrGap) {
			t.Fatalf("reader beyond the end: %v", err)
		}
		if at, err := l.TimeOf(7); err != nil || !at.Equal(frames[2].Time) {
			t.Fatalf("TimeOf(7) = %v, %v", at, err)
		}
	}
}

// A segment goes only when all of it may: its last record is what somebody still needs until the caller says otherwise (D19).
func TestTruncateHeadKeepsTheNeeded(t *testing.T) {
	l, _ := testOpen(t, testOptions(vfs.NewMem()))
	for len(l.Segments()) < 4 {
		mustAppend(t, l, chain(t, l.End(), 30, 2, 300, FrameOptions{})...)
	}
	for len(l.Segments()) > 1 {
		oldest := l.Segments()[0]
		if n, err := l.TruncateHead(oldest.Last - 1); err != nil || n != 0 {
			t.Fatalf("trim to %d: %d segments went, %v; the oldest ends at %d", oldest.Last-1, n, err, oldest.Last)
		}
		if n, err := l.TruncateHead(oldest.Last); err != nil || n != 1 || l.Start().LSN != oldest.Last {
			t.Fatalf("trim to %d: %d segments went, %v; the log starts after %d", oldest.Last, n, err, l.Start().LSN)
		}
	}
}

// TestTruncateHeadRecycles: files go round, a recycled file never yields an old frame, and the start survives a restart.
func TestTruncateHeadRecycles(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(fs)
	o.MemoryBytes = 1
	l, _ := testOpen(t, o)
	for round := range 12 {
		frames := chain(t, l.End(), 30, 2, 300, FrameOptions{})
		mustAppend(t, l, frames...)
		keep := l.End().LSN - 40
		if _, err := l.TruncateHead(keep); err != nil {
			t.Fatal(err)
		}
		start := l.Start()
		if start.LSN > keep || len(l.Segments()) > 4 {
			t.Fatalf("round %d: start %v, keep %d, %d segments", round, start, keep, len(l.Segments()))
		}
		got := readAll(t, l, start.LSN)
		if got[0].First != start.LSN+1 || got[len(got)-1].End() != l.End() {
			t.Fatalf("round %d: frames from %d to %d", round, got[0].First, got[len(got)-1].Last())
		}
		if _, err := l.NewReader(start.LSN - 1); start.LSN > 0 && !errors.Is(err, ErrTrimmed) {
			t.Fatalf("reader below the start: %v", err)
		}
		if _, err := l.FrameAt(start.LSN); start.LSN > 0 && !errors.Is(err, ErrTrimmed) {
			t.Fatalf("FrameAt below the start: %v", err)
		}
		if round%3 == 2 { // not closed in order, so that recovery has to look behind the end
			clone := fs.CrashClone(vfs.CrashCloneCfg{})
			co := o
			co.FS = clone
			cl, rec := testOpen(t, co)
			if rec.Start != start || rec.End != l.End() || rec.Doubt || rec.Cut != nil {
				t.Fatalf("round %d: %+v, want %v to %v", round, rec, start, l.End())
			}
			sameFrames(t, readAll(t, cl, start.LSN), got)
		}
	}
	names, err := listDir(fs, "wal")
	if err != nil {
		t.Fatal(err)
	}
	if len(names.spares)+len(names.segments) > len(l.Segments())+3 {
		t.Fatalf("files pile up: %+v", names)
	}
}

func TestTruncateTail(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	for _, keep := range []int{0, 1, 17, 59, 60} {
		o.Dir = "wal" + string(rune('a'+keep%26))
		l, _ := testOpen(t, o)
		frames := chain(t, Position{}, 60, 2, 400, FrameOptions{})
		mustAppend(t, l, frames...)
		to := Position{}
		if keep > 0 {
			to = frames[keep-1].End()
		}
		d, err := l.TruncateTail(to, SaveOptions{Dir: o.Dir + "-diverged", Reason: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if l.End() != to || l.Durable() != to {
			t.Fatalf("end %v, want %v", l.End(), to)
		}
		checkSaved(t, fs, o.Dir+"-diverged", d, frames[keep:])
		sameFrames(t, readAll(t, l, 0), frames[:keep])
		if _, err := l.TruncateTail(to, SaveOptions{Dir: o.Dir + "-diverged"}); err != nil {
			t.Fatalf("cut twice: %v", err)
		}
		other := chain(t, to, 40, 2, 333, FrameOptions{Epoch: 2})
		mustAppend(t, l, other...)
		want := append(append([]*Frame(nil), frames[:keep]...), other...)
		sameFrames(t, readAll(t, l, 0), want)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, rec := testOpen(t, o)
		if !rec.Clean || rec.End != l.End() {
			t.Fatalf("%+v", rec)
		}
		sameFrames(t, readAll(t, l, 0), want)
	}
}

// checkSaved checks that a suffix was saved byte for byte (R9).
func checkSaved(t *testing.T, fs vfs.FS, dir string, d Diverged, want []*Frame) {
	t.Helper()
	list, err := ListDiverged(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) == 0 {
		if d.Path != "" || len(list) != 0 {
			t.Fatalf("nothing to save, but: %+v, %+v", d, list)
		}
		return
	}
	if len(list) != 1 || list[0].Path != d.Path || list[0].Frames != uint64(len(want)) || list[0].To != want[len(want)-1].End() || list[0].Reason != "test" {
		t.Fatalf("listed %+v", list)
	}
	r, err := OpenDiverged(fs, d.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []*Frame
	for range want {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	sameFrames(t, got, want)
}

// R9: when a cut has returned, the suffix that it saved survives a power cut that loses everything which was not synced: content and name.
func TestSavedSuffixIsDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	frames := chain(t, Position{}, 20, 2, 400, FrameOptions{})
	mustAppend(t, l, frames...)
	d, err := l.TruncateTail(frames[9].End(), SaveOptions{Dir: "diverged", Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
	checkSaved(t, left, "diverged", d, frames[10:])
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTruncateTailRefuses(t *testing.T) {
	l, _ := testOpen(t, testOptions(vfs.NewMem()))
	frames := chain(t, Position{}, 3, 2, 10, FrameOptions{})
	mustAppend(t, l, frames...)
	wrong := frames[0].End()
	wrong.Hash++
	for name, c := range map[string]struct {
		to   Position
		want error
	}{
		"inside a frame": {Position{Epoch: 1, LSN: 3}, ErrGap},
		"other history":  {wrong, ErrDiverged},
		"behind the end": {Position{Epoch: 1, LSN: 99}, ErrGap},
	} {
		if _, err := l.TruncateTail(c.to, SaveOptions{Dir: "d"}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := l.TruncateTail(frames[0].End(), SaveOptions{}); err == nil {
		t.Error("cut without a place to save the suffix (R9)")
	}
	if l.End() != frames[2].End() {
		t.Errorf("end %v", l.End())
	}
}

// A snapshot below what both histories share: the records in between are in the new history, and only those behind are saved.
func TestResetBelowKnown(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := testOpen(t, testOptions(fs))
	mustAppend(t, l, chain(t, Position{}, 50, 2, 500, FrameOptions{})...)
	if err := l.Reset(Position{}, SaveOptions{Dir: "diverged", Reason: "test", Known: 60}); err != nil {
		t.Fatal(err)
	}
	list, err := ListDiverged(fs, "diverged")
	if err != nil || len(list) != 1 || list[0].From.LSN != 60 || list[0].To.LSN != 100 {
		t.Fatalf("saved %+v, %v", list, err)
	}
}

func TestReset(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	frames := chain(t, Position{}, 50, 2, 500, FrameOptions{})
	mustAppend(t, l, frames...)
	r, err := l.NewReader(10)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	to := Position{Epoch: 4, LSN: 1000, Hash: 77}
	for range 2 {
		if err := l.Reset(to, SaveOptions{Dir: "diverged", Reason: "test", Known: 60}); err != nil {
			t.Fatal(err)
		}
		if l.Start() != to || l.End() != to || l.Durable() != to || len(l.Segments()) != 1 {
			t.Fatalf("%v to %v", l.Start(), l.End())
		}
	}
	if _, err := r.TryNext(); !errors.Is(err, ErrDiverged) {
		t.Fatalf("reader of the old log: %v", err)
	}
	list, err := ListDiverged(fs, "diverged")
	if err != nil || len(list) != 1 || list[0].From.LSN != 60 || list[0].To.LSN != 100 {
		t.Fatalf("saved %+v, %v", list, err)
	}
	appendChain(t, l, 3, 10)
	if err := l.Reset(to, SaveOptions{}); err != nil { // a snapshot is installed again
		t.Fatal(err)
	}
	appendChain(t, l, 40, 1000)
	end := l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, rec := testOpen(t, o)
	if rec.Start != to || rec.End != end || !rec.Clean {
		t.Fatalf("%+v", rec)
	}
}

func TestOptions(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"directory": func(o *Options) { o.Dir = "" },
		"cluster":   func(o *Options) { o.Identity.Cluster = "" },
		"group":     func(o *Options) { o.Identity.Group = string(make([]byte, 73)) },
		"segment":   func(o *Options) { o.SegmentBytes = 100 },
		"frame":     func(o *Options) { o.MaxFrameBytes = 2 << 30 },
		"memory":    func(o *Options) { o.MemoryBytes = -1 },
	} {
		o := testOptions(vfs.NewMem())
		change(&o)
		if _, _, err := Open(o); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func TestOneWriter(t *testing.T) {
	l, _ := testOpen(t, testOptions(vfs.NewMem()))
	mustAppend(t, l, chain(t, Position{}, 1, 1, 1, FrameOptions{Epoch: 3})...)
	if _, err := l.NewWriter(WriterOptions{Epoch: 2}); !errors.Is(err, ErrStaleEpoch) {
		t.Fatalf("writer of a lower epoch: %v", err)
	}
	w, err := l.NewWriter(WriterOptions{Epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := l.NewWriter(WriterOptions{Epoch: 3})
	_, err2 := l.AppendFrames(chain(t, l.End(), 1, 1, 1, FrameOptions{Epoch: 3}))
	_, err3 := l.TruncateTail(Position{}, SaveOptions{Dir: "d"})
	err4 := l.Reset(Position{}, SaveOptions{})
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, ErrWriterOpen) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, chain(t, l.End(), 1, 1, 1, FrameOptions{Epoch: 3})...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendFrames(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed log: %v", err)
	}
	if _, err := l.NewWriter(WriterOptions{Epoch: 9}); !errors.Is(err, ErrClosed) {
		t.Errorf("writer on a closed log: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close twice: %v", err)
	}
}

func TestStats(t *testing.T) {
	l, _ := testOpen(t, testOptions(vfs.NewMem()))
	frames := chain(t, Position{}, 30, 2, 500, FrameOptions{})
	mustAppend(t, l, frames[:10]...)
	mustAppend(t, l, frames[10])
	mustAppend(t, l, frames[11:]...)
	s, segs := l.Stats(), l.Segments()
	if s.Frames != 30 || s.Records != 60 || s.Rotations != uint64(len(segs)-1) || s.Syncs < 3 || s.Writes < 3 || s.Bytes < 30*1000 {
		t.Fatalf("%+v", s)
	}
	var size, used int64
	for i, seg := range segs {
		size, used = size+seg.Size, used+seg.Bytes
		if i > 0 && seg.First != segs[i-1].Last+1 {
			t.Fatalf("segments %+v", segs)
		}
	}
	if l.Bytes() != size || used < int64(s.Bytes) {
		t.Fatalf("%d bytes in files, %d used", l.Bytes(), used)
	}
}

// TestAhead: a later epoch is more advanced than any LSN of an earlier one (R5).
func TestAhead(t *testing.T) {
	for _, c := range []struct {
		p, q Position
		want bool
	}{
		{Position{2, 1, 0}, Position{1, 9, 0}, true}, {Position{1, 9, 0}, Position{2, 1, 0}, false},
		{Position{2, 3, 0}, Position{2, 2, 0}, true}, {Position{2, 2, 0}, Position{2, 2, 1}, false},
	} {
		if got := c.p.Ahead(c.q); got != c.want {
			t.Errorf("%v ahead of %v: %v", c.p, c.q, got)
		}
	}
	set := SyncSet{Members: []string{"b", "c"}, K: 1}
	if !set.Has("c") || set.Has("a") || set.String() != "1 of [b c]" {
		t.Errorf("%v", set)
	}
}
