package wal

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRealFiles: the whole life of a log on the operating system's files.
func TestRealFiles(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: filepath.Join(dir, "groups", "default", "wal"), Identity: testIdentity(), SegmentBytes: 64 << 10, MemoryBytes: 1}
	l, _ := testOpen(t, o)
	for range 10 {
		mustAppend(t, l, chain(t, l.End(), 5, 2, 5000, FrameOptions{})...)
		if _, err := l.TruncateHead(max(l.End().LSN, 30) - 30); err != nil {
			t.Fatal(err)
		}
	}
	cutAt, err := l.PositionAt(91)
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "groups", "default", "diverged")
	if _, err := l.TruncateTail(cutAt, SaveOptions{Dir: saved}); err != nil {
		t.Fatal(err)
	}
	appendChain(t, l, 20, 4000)
	want, start, end := readAll(t, l, l.Start().LSN), l.Start(), l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(vfs.Default, o.Dir, VerifyOptions{})
	if err != nil || rep.End != end || rep.Tail != TailClean {
		t.Fatalf("%+v, %v", rep, err)
	}
	l, rec := testOpen(t, o)
	if rec.Start != start || rec.End != end || !rec.Clean {
		t.Fatalf("%+v", rec)
	}
	sameFrames(t, readAll(t, l, start.LSN), want)
	if list, err := ListDiverged(vfs.Default, saved); err != nil || len(list) != 1 || list[0].From != cutAt {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := l.Reset(Position{Epoch: 7, LSN: 1000, Hash: 1}, SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	appendChain(t, l, 3, 100)
}

// TestTailOfAnotherVersion: a sound frame of a newer format at the end is no torn tail (H5).
// Faults: H5 (a frame of a newer version)
func TestTailOfAnotherVersion(t *testing.T) {
	fs, o, frames, end := small(t)
	path := o.Dir + "/" + segmentName(1)
	b := readRaw(t, fs, path)
	next := chain(t, frames[5].End(), 1, 1, 30, FrameOptions{})[0].Bytes
	copy(b[end:], next)
	b[end+3] = '2'
	sum := headerCheck(b[end:])
	b[end+offCheck], b[end+offCheck+1] = byte(sum), byte(sum>>8)
	var e *CorruptError
	if _, err := reopen(t, b, o, frames); !errors.Is(err, ErrVersion) || !errors.As(err, &e) || e.Offset != int64(end) {
		t.Fatalf("%v", err)
	}
}

// TestFrameInsideAValue: a client may store the bytes of a frame as a value. When the frame around it is torn, that value is
// no proof of anything.
func TestFrameInsideAValue(t *testing.T) {
	fs, o, frames, end := small(t)
	b := readRaw(t, fs, o.Dir+"/"+segmentName(1))
	forged := chain(t, Position{Epoch: 1, LSN: 1 << 40, Hash: 5}, 1, 1, 30, FrameOptions{})[0].Bytes
	outer, err := EncodeFrame(frames[5].End(), FrameOptions{Epoch: 1, Codec: CodecNone}, []Record{{Kind: KindEffects, Payload: append([]byte("value "), forged...)}})
	if err != nil {
		t.Fatal(err)
	}
	copy(b[end:], outer.Bytes)
	b[end+HeaderSize+4] ^= 1
	rec, err := reopen(t, b, o, frames)
	if err != nil || rec.End.LSN != 6 || !rec.Doubt || rec.Cut.First != 7 {
		t.Fatalf("%+v, %v", rec, err)
	}
}
