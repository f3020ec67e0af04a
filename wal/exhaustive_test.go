package wal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// small is a log of a few frames that was not stopped in order, one of its writes holding several frames.
func small(t *testing.T) (fs *vfs.MemFS, o Options, frames []*Frame, end int) {
	fs = vfs.NewCrashableMem()
	o = testOptions(fs)
	o.SegmentBytes = 4 << 10
	l, _ := testOpen(t, o)
	frames = chain(t, Position{}, 6, 1, 12, FrameOptions{})
	mustAppend(t, l, frames[0])
	mustAppend(t, l, frames[1:4]...)
	mustAppend(t, l, frames[4])
	mustAppend(t, l, frames[5])
	end = int(l.Segments()[0].Bytes)
	return fs.CrashClone(vfs.CrashCloneCfg{}), o, frames, end
}

// reopen opens a changed copy of the log's only segment and checks that what is in it is a prefix of the frames.
func reopen(t *testing.T, b []byte, o Options, frames []*Frame) (Recovery, error) {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeRaw(t, fs, fs.PathJoin(o.Dir, segmentName(1)), b)
	o.FS = fs
	l, rec, err := Open(o)
	if err != nil {
		return rec, err
	}
	defer l.Close()
	got := readAll(t, l, 0)
	if len(got) > len(frames) {
		t.Fatalf("%d frames out of %d", len(got), len(frames))
	}
	sameFrames(t, got, frames[:len(got)])
	return rec, nil
}

// TestEveryCut: the file ends, or turns to zeros, at each byte. What is whole before stays; what is lost is told, except zeros
// from a frame's end on, which only other records can tell from a shorter log (D1, D24; R8).
// Faults: D1 (the file cut, or zeros, at each byte)
func TestEveryCut(t *testing.T) {
	fs, o, frames, end := small(t)
	whole := readRaw(t, fs, o.Dir+"/"+segmentName(1))
	ends := frameEnds(t, whole, len(frames))
	for n := segmentHeader; n <= end; n++ {
		zeroed := make([]byte, len(whole))
		copy(zeroed, whole[:n])
		for name, b := range map[string][]byte{"shortened": whole[:n], "zeroed": zeroed} {
			rec, err := reopen(t, b, o, frames)
			if err != nil {
				t.Fatalf("%s to %d bytes: %v", name, n, err)
			}
			if trace := len(b) < len(whole) || !allZero(b[ends[rec.End.LSN]:]); trace && rec.Cut == nil {
				t.Fatalf("%s to %d bytes: silently ends at LSN %d", name, n, rec.End.LSN)
			}
			if rec.End.LSN < 6 {
				known := o
				known.KnownDurable = 6
				if _, err := reopen(t, b, known, frames); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("%s to %d bytes although LSN 6 was durable: %v", name, n, err)
				}
			}
		}
	}
}

// frameEnds returns the offsets at which the first 0 to n frames end.
func frameEnds(t *testing.T, b []byte, n int) []int64 {
	t.Helper()
	w := newWalker(bytes.NewReader(b), int64(len(b)), segmentHeader, Position{}, MaxFrameBytes)
	ends := []int64{w.off}
	for range n {
		st, err := w.look()
		if err != nil || st.found != foundFrame {
			t.Fatalf("%+v, %v", st, err)
		}
		w.accept(st)
		ends = append(ends, w.off)
	}
	return ends
}

// TestEveryFlip: each bit of the file flips. The log is refused, or complete, or its last write is cut in doubt; if this
// node knows that all was durable, or stopped in order, it is refused or complete (D8, D9, D12, D13; R8).
// Faults: D8, D9, D12 (every bit of a log flipped, header and frames)
func TestEveryFlip(t *testing.T) {
	fs, o, frames, end := small(t)
	path := o.Dir + "/" + segmentName(1)
	whole := readRaw(t, fs, path)
	known := o
	known.KnownDurable = 6
	refused, cut, complete := 0, 0, 0
	for bit := range (end + HeaderSize) * 8 {
		b := append([]byte(nil), whole...)
		b[bit/8] ^= 1 << (bit % 8)
		rec, err := reopen(t, b, o, frames)
		switch {
		case err != nil:
			if !errors.As(err, new(*CorruptError)) {
				t.Fatalf("flip of bit %d of byte %d: %v", bit%8, bit/8, err)
			}
			refused++
		case rec.End.LSN == 6:
			complete++
		case rec.End.LSN == 5 && rec.Cut != nil && rec.Doubt:
			cut++
		default:
			t.Fatalf("flip of bit %d of byte %d: %+v", bit%8, bit/8, rec)
		}
		if err == nil && rec.End.LSN != 6 {
			if _, err := reopen(t, b, known, frames); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("flip of bit %d of byte %d although LSN 6 was durable: %v", bit%8, bit/8, err)
			}
		}
	}
	if refused == 0 || cut == 0 || complete == 0 {
		t.Fatalf("refused %d, cut %d, complete %d", refused, cut, complete)
	}
}
