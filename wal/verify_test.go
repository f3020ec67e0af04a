package wal

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestVerify(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	for i := range 5 {
		mustAppend(t, l, chain(t, l.End(), 10, 2, 400, FrameOptions{Epoch: Epoch(1 + i)})...)
	}
	if _, err := l.TruncateHead(20); err != nil {
		t.Fatal(err)
	}
	start, end, segs := l.Start(), l.End(), l.Segments()
	check := func(tail string) {
		t.Helper()
		seen, steps := start.LSN, 0
		id := testIdentity()
		rep, err := Verify(fs, o.Dir, VerifyOptions{Identity: &id,
			Progress: func(done, total int64) {
				if steps++; done > total {
					t.Errorf("progress %d of %d", done, total)
				}
			},
			OnFrame: func(f *Frame) error {
				if f.First != seen+1 {
					return fmt.Errorf("frame of LSN %d after %d", f.First, seen)
				}
				seen = f.Last()
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Start != start || rep.End != end || rep.Tail != tail || seen != end.LSN || rep.Records != uint64(end.LSN-start.LSN) || steps == 0 || rep.Identity != id {
			t.Fatalf("report %+v", rep)
		}
		rows := rep.Segments
		if len(rows) < len(segs) || rows[0].First != segs[0].First || rows[0].Bytes != segs[0].Bytes || rows[len(segs)-1].LastEpoch != 5 || rows[len(segs)-1].State != "ok" {
			t.Fatalf("rows %+v", rows)
		}
	}
	check(TailOpen)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(TailClean)
	stop := errors.New("stop")
	if _, err := Verify(fs, o.Dir, VerifyOptions{OnFrame: func(*Frame) error { return stop }}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if rep, err := Verify(fs, "nowhere", VerifyOptions{}); err == nil {
		t.Fatalf("missing directory: %+v", rep)
	}
}

// TestVerifyFinds: damage is named with its file and place, and the other segments are still looked at.
func TestVerifyFinds(t *testing.T) {
	other := testIdentity()
	other.Group = "other"
	for name, c := range map[string]struct {
		damage   func(t *testing.T, fs vfs.FS, segs []SegmentInfo)
		identity *Identity
		want     error
		state    string
		tail     string
	}{
		"flip in the first": {func(t *testing.T, fs vfs.FS, s []SegmentInfo) { flip(t, fs, s[0].Path, 1000) }, nil, ErrCorrupt, "damaged", TailOpen},
		"flip in the last":  {func(t *testing.T, fs vfs.FS, s []SegmentInfo) { flip(t, fs, s[2].Path, 300) }, nil, ErrCorrupt, "damaged", TailDamaged},
		"torn tail":         {func(t *testing.T, fs vfs.FS, s []SegmentInfo) { flip(t, fs, s[2].Path, s[2].Bytes+3) }, nil, nil, "ok", TailLive},
		"header":            {func(t *testing.T, fs vfs.FS, s []SegmentInfo) { flip(t, fs, s[1].Path, 9) }, nil, ErrCorrupt, "", ""},
		"missing":           {func(t *testing.T, fs vfs.FS, s []SegmentInfo) { _ = fs.Remove(s[1].Path) }, nil, ErrCorrupt, "", ""},
		"foreign":           {func(*testing.T, vfs.FS, []SegmentInfo) {}, &other, ErrForeign, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			l, _ := testOpen(t, testOptions(mem))
			appendChain(t, l, 40, 900)
			fs := mem.CrashClone(vfs.CrashCloneCfg{})
			c.damage(t, fs, l.Segments())
			rep, err := Verify(fs, "wal", VerifyOptions{Identity: c.identity})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want != nil && len(rep.Problems) != 1 {
				t.Fatalf("problems %v", rep.Problems)
			}
			found := c.state == ""
			for _, row := range rep.Segments {
				found = found || row.State == c.state
			}
			if !found || rep.Tail != c.tail {
				t.Fatalf("tail %q, rows %+v", rep.Tail, rep.Segments)
			}
		})
	}
}

func flip(t *testing.T, fs vfs.FS, path string, off int64) {
	t.Helper()
	b := readRaw(t, fs, path)
	b[off] ^= 4
	writeRaw(t, fs, path, b)
}

// TestVerifyLive: Verify beside a daemon that writes, rotates and trims finds no problems that are none.
func TestVerifyLive(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	w, err := l.NewWriter(WriterOptions{Epoch: 1, FrameBytes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	payload := randomBytes(seed(t), 300)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := w.Admit(t.Context()); err != nil {
				t.Error(err)
				return
			}
			lsn, err := w.Append(KindEffects, payload)
			if err != nil {
				t.Error(err)
				return
			}
			if lsn%100 == 0 {
				if _, err := l.TruncateHead(max(lsn, 300) - 300); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for range 100 {
		before := l.Durable()
		rep, err := Verify(fs, o.Dir, VerifyOptions{})
		if err != nil {
			t.Fatalf("%v\n%+v", err, rep)
		}
		if rep.End.LSN < before.LSN {
			t.Fatalf("saw LSN %d, %d was durable", rep.End.LSN, before.LSN)
		}
	}
	close(stop)
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
