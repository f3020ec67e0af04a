package wal

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// noticed reports whether Verify says that a log is not what it was.
func noticed(t *testing.T, fs vfs.FS, want Position) bool {
	t.Helper()
	rep, err := Verify(fs, "wal", VerifyOptions{})
	return err != nil || len(rep.Problems) > 0 || rep.End != want
}

// flipped calls fn with the file changed in one bit of the byte at, and puts it back.
func flipped(t *testing.T, fs vfs.FS, path string, whole []byte, at int, fn func()) {
	t.Helper()
	b := append([]byte(nil), whole...)
	b[at] ^= 1 << (at % 8)
	writeRaw(t, fs, path, b)
	fn()
	writeRaw(t, fs, path, whole)
}

// Every byte of a small log, header and frames, is one that Verify misses when it is flipped.
func TestVerifyFindsEveryFlip(t *testing.T) {
	t.Parallel()
	crashed, o, frames, end := small(t)
	path := o.Dir + "/" + segmentName(1)
	whole := readRaw(t, crashed, path)
	fs := vfs.NewMem()
	if err := fs.MkdirAll(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeRaw(t, fs, path, whole)
	want := frames[len(frames)-1].End()
	if noticed(t, fs, want) {
		t.Fatal("the log is not sound")
	}
	for at := range end {
		flipped(t, fs, path, whole, at, func() {
			if !noticed(t, fs, want) {
				t.Errorf("a flipped bit in byte %d of %d is not found", at, end)
			}
		})
	}
}

// Sampled over a log of many segments.
func TestVerifyFindsFlipsInLargeLog(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := testOptions(fs)
	o.SegmentBytes = 256 << 10
	l, err := openLog(o)
	if err != nil {
		t.Fatal(err)
	}
	frames := chain(t, Position{}, 300, 4, 4<<10, FrameOptions{})
	mustAppend(t, l, frames...)
	segments := l.Segments()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := frames[len(frames)-1].End()
	if len(segments) < 8 || noticed(t, fs, want) {
		t.Fatalf("%d segments", len(segments))
	}
	names, err := fs.List(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for i, s := range segments {
		sizes[segmentName(uint64(i+1))] = s.Bytes
	}
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range rounds {
		name := segmentName(uint64(1 + rnd.IntN(len(segments))))
		path := o.Dir + "/" + name
		whole := readRaw(t, fs, path)
		at := rnd.IntN(int(sizes[name]))
		flipped(t, fs, path, whole, at, func() {
			if !noticed(t, fs, want) {
				t.Errorf("seed %d: a flipped bit in byte %d of %s, %d bytes, is not found (%v)", seed, at, name, sizes[name], names)
			}
		})
	}
}

func openLog(o Options) (*Log, error) {
	l, _, err := Open(o)
	return l, err
}
