package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"repld/internal/durable"
)

// whole is a closed log of several segments; some of its writes hold several frames, one segment was recycled.
func whole(t *testing.T) (fs *vfs.MemFS, o Options, frames []*Frame, segments []SegmentInfo) {
	t.Helper()
	fs = vfs.NewCrashableMem()
	o = testOptions(fs)
	o.SegmentBytes = 8 << 10
	l, _ := testOpen(t, o)
	for i := range 12 {
		mustAppend(t, l, chain(t, l.End(), 1+i%5, 1+i%2, 200+61*i, FrameOptions{Epoch: Epoch(1 + i/4)})...)
	}
	mustAppend(t, l, chain(t, l.End(), 3, 1, 150, FrameOptions{})...)
	mustAppend(t, l, chain(t, l.End(), 1, 1, 150, FrameOptions{})...)
	frames, segments = readAll(t, l, 0), l.Segments()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	return fs, o, frames, segments
}

// peerOf serves what a hole lacks, as a peer with the same history would.
func peerOf(frames []*Frame, h Hole) io.Reader {
	var b bytes.Buffer
	for _, f := range frames {
		if f.First > h.From.LSN && f.Last() <= h.To.LSN {
			b.Write(f.Bytes)
		}
	}
	return &b
}

// repaired opens a damaged log, filling the holes that it is refused for. known is what the state says.
func repaired(t *testing.T, o Options, known Position, frames []*Frame) (*Log, Recovery, int) {
	t.Helper()
	o.KnownDurable = known.LSN
	for n := 0; ; n++ {
		l, rec, err := Open(o)
		if err == nil {
			return l, rec, n
		}
		h, holeErr := FindHole(o, known)
		if holeErr != nil || n > 10 {
			t.Fatalf("after %d repairs: open: %v; find: %v", n, err, holeErr)
		}
		fillFrom(t, o, h, frames, func(h Hole, r io.Reader) error { return Fill(o, h, r, "diverged") })
	}
}

// fillFrom fills a hole, or the one that takes in the frame behind it.
func fillFrom(t *testing.T, o Options, h Hole, frames []*Frame, fill func(Hole, io.Reader) error) {
	t.Helper()
	err := fill(h, peerOf(frames, h))
	for errors.Is(err, ErrRoom) {
		if h, err = h.Beyond(o); err == nil {
			err = fill(h, peerOf(frames, h))
		}
	}
	if err != nil {
		t.Fatalf("fill %v: %v", h, err)
	}
}

// TestFill: whatever is done to the files of a closed log, frames of a peer make it what it was: the same bytes, no doubt, no
// record less (R8).
// Faults: D8, D12 (bits flipped, bytes overwritten, zeroed, and moved in a closed log); D13, D14 (a frame over another, a write that never happened); D19 (segments removed)
func TestFill(t *testing.T) {
	mem, o, frames, segments := whole(t)
	rng := seed(t)
	n := 400
	if testing.Short() {
		n = 80
	}
	for i := range n {
		fs := mem.CrashClone(vfs.CrashCloneCfg{})
		o.FS = fs
		what := harm(t, fs, segments, rng, i)
		l, rec, repairs := repaired(t, o, Position{}, frames)
		if rec.End != frames[len(frames)-1].End() || rec.Doubt {
			t.Fatalf("%s: log ends at %v with doubt %v after %d repairs", what, rec.End, rec.Doubt, repairs)
		}
		sameFrames(t, readAll(t, l, 0), frames)
		mustAppend(t, l, chain(t, l.End(), 3, 1, 900, FrameOptions{})...)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		// A join mark of which a reader needs no more is not mended, only told of.
		if _, err := Verify(fs, o.Dir, VerifyOptions{}); err != nil && !strings.Contains(err.Error(), "no record is missing") {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// harm damages the log in one of several ways. Only the first file is never removed: a log without it is a shorter one.
func harm(t *testing.T, fs vfs.FS, segments []SegmentInfo, rng *rand.Rand, kind int) string {
	s := segments[rng.IntN(len(segments))]
	b := readRaw(t, fs, s.Path)
	off := rng.Int64N(s.Bytes)
	n := min(1+rng.Int64N(1500), s.Bytes-off)
	what := ""
	switch kind % 6 {
	case 0:
		b[off] ^= 1 << rng.IntN(8)
		what = fmt.Sprintf("bit at %d", off)
	case 1:
		copy(b[off:off+n], randomBytes(rng, int(n)))
		what = fmt.Sprintf("%d random bytes at %d", n, off)
	case 2:
		clear(b[off : off+n])
		what = fmt.Sprintf("%d zeros at %d", n, off)
	case 3:
		copy(b[off:off+n], b[segmentHeader:])
		what = fmt.Sprintf("%d bytes of the beginning at %d", n, off)
	case 4:
		b = b[:off]
		what = fmt.Sprintf("cut at %d", off)
	case 5:
		if s.Seq != segments[0].Seq {
			if err := fs.Remove(s.Path); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("segment %d removed", s.Seq)
		}
	}
	writeRaw(t, fs, s.Path, b)
	return fmt.Sprintf("segment %d: %s", s.Seq, what)
}

// TestFillKnown: damage behind the last sound frame is repaired up to what the state proves; what may have followed stays in doubt.
// Faults: D9 (the last acked frames overwritten, the state proves one of them)
func TestFillKnown(t *testing.T) {
	mem, o, frames, segments := whole(t)
	o.FS = mem
	last := segments[len(segments)-1]
	if last.Last-last.First < 2 {
		t.Fatalf("%+v", last)
	}
	if err := mem.Remove(mem.PathJoin(o.Dir, noteClean)); err != nil {
		t.Fatal(err)
	}
	b := readRaw(t, mem, last.Path)
	copy(b[segmentHeader:last.Bytes], randomBytes(seed(t), int(last.Bytes-segmentHeader)))
	writeRaw(t, mem, last.Path, b)
	known := frames[len(frames)-2].End()
	l, rec, n := repaired(t, o, known, frames)
	if n != 1 || rec.End != known || !rec.Doubt {
		t.Fatalf("%d repairs, end %v, want %v; doubt %v", n, rec.End, known, rec.Doubt)
	}
	sameFrames(t, readAll(t, l, 0), frames[:len(frames)-1])
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFillForeign: frames of another history, or too few, change nothing.
func TestFillForeign(t *testing.T) {
	mem, o, frames, segments := whole(t)
	o.FS = mem
	flip(t, mem, segments[1].Path, segmentHeader+HeaderSize+3)
	before := readRaw(t, mem, segments[1].Path)
	_, _, err := Open(o)
	if !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	h, err := FindHole(o, Position{})
	if err != nil {
		t.Fatal(err)
	}
	other := chain(t, h.From, int(h.To.LSN-h.From.LSN), 1, 300, FrameOptions{Epoch: 9})
	for name, r := range map[string]io.Reader{"other history": peerOf(other, h), "nothing": &bytes.Buffer{}, "garbage": bytes.NewReader(randomBytes(seed(t), 500))} {
		if err := Fill(o, h, r, "diverged"); err == nil {
			t.Fatalf("%s was taken", name)
		}
		if !bytes.Equal(before, readRaw(t, mem, segments[1].Path)) {
			t.Fatalf("%s changed the log", name)
		}
	}
	l, _, _ := repaired(t, o, Position{}, frames)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFillCrash cuts the power before each operation of a repair: it is done again, or goes on, and ends with the same log.
// Faults: D8, D19 (bytes overwritten, a segment removed), P2 (a power cut before each operation of the repair)
func TestFillCrash(t *testing.T) {
	mem, o, frames, segments := whole(t)
	rng := seed(t)
	for _, kind := range []string{"middle", "missing", "header", "tail"} {
		t.Run(kind, func(t *testing.T) {
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			known := Position{}
			switch s := segments[1]; kind {
			case "middle":
				b := readRaw(t, fs, s.Path)
				copy(b[segmentHeader+200:s.Bytes-100], randomBytes(rng, int(s.Bytes)))
				writeRaw(t, fs, s.Path, b)
			case "missing":
				if err := fs.Remove(s.Path); err != nil {
					t.Fatal(err)
				}
			case "header":
				flip(t, fs, s.Path, 30)
			case "tail":
				last := segments[len(segments)-1]
				b := readRaw(t, fs, last.Path)
				copy(b[segmentHeader:], randomBytes(rng, int(last.Bytes-segmentHeader)))
				writeRaw(t, fs, last.Path, b)
			}
			syncAll(t, fs, o.Dir)
			crash := fillCrasher{t: t, fs: fs, o: o, rng: rng, frames: frames, known: known}
			crash.run()
		})
	}
}

// fillCrasher is a repair with a power cut before each of its operations.
type fillCrasher struct {
	t      *testing.T
	fs     *vfs.MemFS
	o      Options
	rng    *rand.Rand
	frames []*Frame
	known  Position
	points int
}

func (c *fillCrasher) run() {
	o := c.o
	o.FS = c.fs
	if _, _, err := Open(o); !errors.Is(err, ErrCorrupt) {
		c.t.Fatalf("open: %v", err)
	}
	h, err := FindHole(o, c.known)
	if err != nil {
		c.t.Fatal(err)
	}
	o.FS = errorfs.Wrap(c.fs, errorfs.InjectorFunc(c.before))
	if err := Fill(o, h, peerOf(c.frames, h), "diverged"); err != nil {
		c.t.Fatal(err)
	}
	c.check(c.fs, "at the end")
	if c.points < 8 {
		c.t.Errorf("%d crash points", c.points)
	}
}

func (c *fillCrasher) before(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
		return nil
	}
	c.points++
	for _, percent := range []int{0, 100, 50, 30} {
		c.check(c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng}), fmt.Sprintf("%d%% kept before %v of %s", percent, op.Kind, op.Path))
	}
	return nil
}

func (c *fillCrasher) check(fs *vfs.MemFS, when string) {
	o := c.o
	o.FS = fs
	l, rec, _ := repaired(c.t, o, c.known, c.frames)
	defer l.Close()
	if rec.End != c.frames[len(c.frames)-1].End() || rec.Doubt {
		c.t.Fatalf("%s: end %v, doubt %v", when, rec.End, rec.Doubt)
	}
	sameFrames(c.t, readAll(c.t, l, 0), c.frames)
}

// syncAll makes changed files durable.
func syncAll(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := fs.OpenReadWrite(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.SyncDir(fs, dir); err != nil {
		t.Fatal(err)
	}
}

// TestScrub: damage in an open log is found and repaired while readers and a writer work: nobody sees anything else than the right frames afterwards.
// Faults: D25 (bytes changed under an open log)
func TestScrub(t *testing.T) {
	mem, o, frames, segments := whole(t)
	rng := seed(t)
	for i := range 120 {
		fs := mem.CrashClone(vfs.CrashCloneCfg{})
		o.FS, o.MemoryBytes = fs, 1
		l, _ := testOpen(t, o)
		what := ""
		for what == "" || bytes.Contains([]byte(what), []byte("removed")) || bytes.Contains([]byte(what), []byte("cut")) {
			what = inPlace(t, fs, segments, rng)
		}
		holes := scrubAll(t, l, frames)
		sameFrames(t, readAll(t, l, 0), frames)
		more := chain(t, l.End(), 2, 1, 700, FrameOptions{})
		mustAppend(t, l, more...)
		if again := scrubAll(t, l, frames); again > 0 {
			t.Fatalf("%s: %d holes after %d were filled", what, again, holes)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l2, rec := testOpen(t, o)
		if rec.Doubt || !rec.Clean {
			t.Fatalf("%s: %+v", what, rec)
		}
		sameFrames(t, readAll(t, l2, 0), append(frames[:len(frames):len(frames)], more...))
		if i%10 == 0 && i > 0 && testing.Short() {
			return
		}
	}
}

// TestScrubTail: what was well at the last look is not read again, everything newer is.
func TestScrubTail(t *testing.T) {
	o := testOptions(vfs.NewMem())
	o.SegmentBytes, o.MemoryBytes = 8<<20, 1
	l, _ := testOpen(t, o)
	appendChain(t, l, 20, indexEvery/4)
	path := l.Segments()[0].Path
	look := func(bytes int64, since LSN) (LSN, bool) {
		t.Helper()
		well, hole, err := l.ScrubTail(testContext(t), bytes, since)
		if err != nil {
			t.Fatal(err)
		}
		return well, hole != nil
	}
	middle, bad := look(1<<30, 0)
	if bad || middle != l.End().LSN {
		t.Fatalf("well up to %d of %d, damage %t", middle, l.End().LSN, bad)
	}
	newer := appendChain(t, l, 20, indexEvery/4)
	flip(t, o.FS, path, segmentHeader+1000) // long before
	if well, bad := look(1<<30, 0); !bad || well != 0 {
		t.Fatalf("damage at the start of a whole look: well up to %d, %t", well, bad)
	}
	if well, bad := look(indexEvery, 0); bad || well != l.End().LSN {
		t.Fatalf("the tail alone: well up to %d of %d, damage %t", well, l.End().LSN, bad)
	}
	if well, bad := look(1<<30, middle); bad || well != l.End().LSN {
		t.Fatalf("behind the last look: well up to %d of %d, damage %t", well, l.End().LSN, bad)
	}
	flip(t, o.FS, path, l.Segments()[0].Bytes-newer[0].Size()*20+1000) // right behind the last look
	if well, bad := look(1<<30, middle); !bad || well != 0 {
		t.Fatalf("damage behind the last look: well up to %d, %t", well, bad)
	}
}

// inPlace damages bytes of an open log in place: the file stays the same one.
func inPlace(t *testing.T, fs vfs.FS, segments []SegmentInfo, rng *rand.Rand) string {
	s := segments[rng.IntN(len(segments))]
	off := rng.Int64N(s.Bytes)
	b := randomBytes(rng, 1+rng.IntN(900))
	b = b[:min(int64(len(b)), s.Bytes-off)]
	f, err := fs.OpenReadWrite(s.Path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	what := fmt.Sprintf("%d random bytes at %d of segment %d", len(b), off, s.Seq)
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return what
}

// scrubAll scrubs all segments, filling what it finds, and returns how many holes there were.
func scrubAll(t *testing.T, l *Log, frames []*Frame) (holes int) {
	t.Helper()
	pace := func(context.Context, int) error { return nil }
	for _, s := range l.Segments() {
		for {
			h, err := l.Scrub(testContext(t), s.Seq, pace)
			if err != nil {
				t.Fatal(err)
			}
			if h == nil {
				break
			}
			if holes++; holes > 20 {
				t.Fatalf("%v again and again", h)
			}
			fillFrom(t, l.o, *h, frames, func(h Hole, r io.Reader) error { return l.Fill(h, r, "diverged") })
		}
	}
	return holes
}

// TestSpread: what join marks took can be parted among join marks again.
func TestSpread(t *testing.T) {
	rng := seed(t)
	for range 20000 {
		slots := make([]int64, 1+rng.IntN(6))
		room := int64(0)
		for range len(slots) {
			switch rng.IntN(3) {
			case 0:
				room += HeaderSize
			case 1:
				room += 2*HeaderSize + rng.Int64N(sector)
			}
		}
		want := room
		if !spread(room, slots) {
			continue // a peer's frames then do not fill the hole; told, and nothing is changed
		}
		for _, s := range slots {
			want -= s
			if s != 0 {
				if _, ok := decodeJoin(joinMark{size: s, begin: 1, next: 2}.append(nil)); !ok {
					t.Fatalf("a mark of %d bytes", s)
				}
			}
		}
		if want != 0 {
			t.Fatalf("%d bytes parted into %v", room, slots)
		}
	}
}
