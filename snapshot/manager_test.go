package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/wal"
)

// source writes checkpoints of two files; the position rises with each.
type source struct {
	fs    vfs.FS
	made  atomic.Int64
	delay time.Duration
	fail  error
}

func (s *source) Checkpoint(dir string) (wal.Position, error) {
	n := s.made.Add(1)
	time.Sleep(s.delay) // of a bubble's clock
	if s.fail != nil {
		return wal.Position{}, s.fail
	}
	err := s.fs.MkdirAll(dir, 0o755)
	for _, name := range []string{"data", "LOCK", "more"} {
		err = errors.Join(err, durable.WriteFile(s.fs, s.fs.PathJoin(dir, name), fmt.Appendf(nil, "%s %d", name, n)))
	}
	return wal.Position{Epoch: 1, LSN: wal.LSN(n * 10), Hash: wal.Hash(n)}, err
}

func newManager(src *source, change func(o *ManagerOptions)) *Manager {
	o := ManagerOptions{FS: src.fs, Dir: "staging", Cluster: "c", Group: "g", Source: src}
	if change != nil {
		change(&o)
	}
	return NewManager(o)
}

func acquire(t *testing.T, m *Manager, id string) *Snapshot {
	t.Helper()
	s, err := m.AcquireID(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func staged(t *testing.T, fs vfs.FS) int {
	t.Helper()
	names, err := fs.List("staging")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestManager: snapshots are shared, found again by id, replaced when old, few, and removed when unused for long.
func TestManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{fs: vfs.NewMem(), delay: time.Second}
		if err := errors.Join(src.fs.MkdirAll("staging/left", 0o755)); err != nil {
			t.Fatal(err)
		}
		var progress atomic.Int64
		m := newManager(src, func(o *ManagerOptions) { o.OnProgress = func(p Progress) { progress.Store(p.Done*100 + p.Total) } })
		if _, ok := m.Oldest(); ok {
			t.Error("Oldest of nothing")
		}
		both := make(chan *Snapshot)
		for range 2 {
			go func() { both <- acquire(t, m, "") }()
		}
		a, b := <-both, <-both
		if a.stored != b.stored || src.made.Load() != 1 || staged(t, src.fs) != 1 {
			t.Fatalf("not shared: %d made, %d staged", src.made.Load(), staged(t, src.fs))
		}
		man := a.Manifest()
		if len(man.Files) != 2 || man.Bytes() != 12 || man.Position.LSN != 10 || progress.Load() != 1212 {
			t.Fatalf("manifest %+v, progress %d", man, progress.Load())
		}
		if lsn, ok := m.Oldest(); !ok || lsn != 10 {
			t.Errorf("Oldest = %d %v", lsn, ok)
		}
		f, err := a.Open("data")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != "data 1" || f.Close() != nil {
			t.Errorf("data: %q %v", got, err)
		}
		for _, name := range []string{"LOCK", "../left", "none"} {
			if _, err := a.Open(name); !errors.Is(err, ErrUnknownFile) {
				t.Errorf("Open(%q): %v, want ErrUnknownFile", name, err)
			}
		}
		a.Release()
		a.Release()
		b.Release()
		if _, err := b.Open("data"); !errors.Is(err, ErrClosed) {
			t.Errorf("Open after Release: %v", err)
		}

		time.Sleep(3 * time.Minute) // no longer fresh, but kept
		c := acquire(t, m, man.ID)
		if c.stored != a.stored {
			t.Error("not found by its id")
		}
		d := acquire(t, m, "")
		if d.Manifest().Position.LSN != 20 {
			t.Errorf("an old snapshot was handed out: %+v", d.Manifest())
		}
		time.Sleep(3 * time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if _, err := m.AcquireID(ctx, "unknown"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("third, while two are in use: %v", err)
		}
		c.Release()
		e := acquire(t, m, "unknown")
		if staged(t, src.fs) != 2 || e.Manifest().Position.LSN != 30 {
			t.Errorf("%d staged, position %s", staged(t, src.fs), e.Manifest().Position)
		}
		d.Release()
		time.Sleep(11 * time.Minute)
		if n := staged(t, src.fs); n != 1 {
			t.Errorf("%d staged after the time to keep", n)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Acquire(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("Acquire after Close: %v", err)
		}
		e.Release()
		if n := staged(t, src.fs); n != 0 {
			t.Errorf("%d staged at the end", n)
		}
	})
}

// TestManagerLogStart: a snapshot from which streaming could not go on is not handed out.
func TestManagerLogStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var start atomic.Uint64
		src := &source{fs: vfs.NewMem()}
		m := newManager(src, func(o *ManagerOptions) { o.LogStart = func() wal.LSN { return wal.LSN(start.Load()) } })
		defer m.Close()
		a := acquire(t, m, "")
		start.Store(11)
		b := acquire(t, m, a.Manifest().ID)
		if b.Manifest().Position.LSN != 20 {
			t.Errorf("position %s", b.Manifest().Position)
		}
		b.Release()
		a.Release()
		start.Store(100)
		if _, err := m.Acquire(context.Background()); err == nil || staged(t, src.fs) > 2 {
			t.Errorf("a checkpoint below the log's start: %v, %d staged", err, staged(t, src.fs))
		}
	})
}

func TestManagerFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{fs: vfs.NewMem(), fail: io.ErrUnexpectedEOF, delay: time.Second}
		m := newManager(src, nil)
		if _, err := m.Acquire(context.Background()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("failed checkpoint: %v", err)
		}
		src.fail = nil
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := m.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient caller: %v", err)
		}
		s := acquire(t, m, "") // the work went on
		if src.made.Load() != 2 {
			t.Errorf("%d made", src.made.Load())
		}
		s.Release()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := NewManager(ManagerOptions{}).Acquire(context.Background()); err == nil {
			t.Error("bad options were accepted")
		}
	})
}
