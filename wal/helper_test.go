package wal

import (
	"context"
	"encoding/binary"
	"fmt"
	"github.com/cespare/xxhash/v2"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"repld/internal/durable"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testIdentity is the identity of every log in these tests.
func testIdentity() Identity {
	return Identity{Cluster: "test", Group: "default", Incarnation: [16]byte{1, 2, 3}}
}

// testOptions are those of a small log in memory.
func testOptions(fs vfs.FS) Options {
	return Options{FS: fs, Dir: "wal", Identity: testIdentity(), SegmentBytes: 16 << 10}
}

// testOpen opens the log and closes it at the end of the test.
func testOpen(t testing.TB, o Options) (*Log, Recovery) {
	t.Helper()
	l, rec, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() }) // closed already, or failed on purpose
	return l, rec
}

// chain builds n frames of count records each behind prev. Payloads are random, so that no two frames are alike, and size
// bytes long.
func chain(t testing.TB, prev Position, n, count, size int, o FrameOptions) []*Frame {
	t.Helper()
	if o.Epoch == 0 {
		o.Epoch = max(prev.Epoch, 1)
	}
	rng := rand.New(rand.NewPCG(uint64(prev.LSN), uint64(o.Epoch)))
	frames := make([]*Frame, n)
	for i := range frames {
		var recs []Record
		for range count {
			recs = append(recs, Record{Kind: KindEffects, Payload: randomBytes(rng, size)})
		}
		f, err := EncodeFrame(prev, o, recs)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		frames[i], prev = f, f.End()
	}
	return frames
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// appendChain appends frames of one record, each with a sync of its own.
func appendChain(t testing.TB, l *Log, n, size int) []*Frame {
	t.Helper()
	frames := chain(t, l.End(), n, 1, size, FrameOptions{})
	for _, f := range frames {
		mustAppend(t, l, f)
	}
	return frames
}

func mustAppend(t testing.TB, l *Log, frames ...*Frame) {
	t.Helper()
	if _, err := l.AppendFrames(frames); err != nil {
		t.Fatalf("append: %v", err)
	}
}

// readAll reads every frame behind the LSN that is there.
func readAll(t testing.TB, l *Log, after LSN) []*Frame {
	t.Helper()
	r, err := l.NewReader(after)
	if err != nil {
		t.Fatalf("reader: %v", err)
	}
	defer r.Close()
	var out []*Frame
	for {
		f, err := r.TryNext()
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if f == nil {
			return out
		}
		out = append(out, f)
	}
}

// sameFrames checks that two runs of frames are the same bytes.
func sameFrames(t testing.TB, got, want []*Frame) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if string(got[i].Bytes) != string(want[i].Bytes) {
			t.Fatalf("frame %d differs: LSN %d to %d, want %d to %d", i, got[i].First, got[i].Last(), want[i].First, want[i].Last())
		}
	}
}

// testContext ends when the test hangs.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// seed returns a seed that a failing test prints; WAL_SEED replays one.
func seed(t testing.TB) *rand.Rand {
	s := rand.Uint64()
	if v := os.Getenv("WAL_SEED"); v != "" {
		if _, err := fmt.Sscan(v, &s); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay with WAL_SEED=%d go test -run '%s' ./wal", s, t.Name())
		}
	})
	return rand.New(rand.NewPCG(s, 1))
}

// readRaw and writeRaw change bytes of a stopped log.
func readRaw(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	b, err := durable.ReadFile(fs, path, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeRaw(t testing.TB, fs vfs.FS, path string, b []byte) {
	t.Helper()
	if err := durable.WriteFile(fs, path, slices.Clone(b)); err != nil {
		t.Fatal(err)
	}
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

// reseal changes a segment header and gives it a good checksum again.
func reseal(b []byte, change func(b []byte)) {
	change(b)
	binary.LittleEndian.PutUint64(b[248:], xxhash.Sum64(b[:248]))
}
