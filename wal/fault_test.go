package wal

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faultyFS fails the operations of one kind while on.
type faultyFS struct {
	*errorfs.FS
	mem  *vfs.MemFS
	kind atomic.Int32
	err  error
	on   atomic.Bool
	hits atomic.Int32
}

func newFaultyFS(err error) *faultyFS {
	f := &faultyFS{mem: vfs.NewCrashableMem(), err: err}
	f.FS = errorfs.Wrap(f.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.on.Load() && int32(op.Kind) == f.kind.Load() {
			f.hits.Add(1)
			return f.err
		}
		return nil
	}))
	return f
}

func (f *faultyFS) fail(kind errorfs.OpKind) {
	f.kind.Store(int32(kind))
	f.on.Store(true)
}

// TestFailedSync: after one failed sync nothing more is acked, the sync is not retried, OnError is called once, and a restart
// recovers everything that was acked (R10, D4, D18).
// Faults: D4 (one sync that fails)
func TestFailedSync(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileSyncData, errorfs.OpFileWriteAt} {
		fs := newFaultyFS(syscall.EIO)
		o := testOptions(fs)
		l, _ := testOpen(t, o)
		var durable atomic.Uint64
		var failures atomic.Int32
		moved := make(chan struct{}, 100)
		w, err := l.NewWriter(WriterOptions{Epoch: 1,
			OnDurable: func(p Position) { durable.Store(uint64(p.LSN)); moved <- struct{}{} },
			OnError:   func(error) { failures.Add(1); moved <- struct{}{} }})
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, w, 3)
		for durable.Load() < 3 {
			<-moved
		}
		fs.fail(kind)
		mustWrite(t, w, 1)
		for failures.Load() == 0 {
			<-moved
		}
		fs.on.Store(false) // the disk works again: that changes nothing
		_, err1 := w.Append(KindEffects, nil)
		err2 := w.Admit(t.Context())
		err3 := w.Close()
		_, err4 := l.AppendFrames(chain(t, l.End(), 1, 1, 1, FrameOptions{}))
		_, err5 := l.NewWriter(WriterOptions{Epoch: 2})
		_, err6 := l.TruncateTail(Position{}, SaveOptions{Dir: "d"})
		err7 := l.Reset(Position{}, SaveOptions{})
		for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, l.Failed()} {
			if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Errorf("%v, call %d: %v", kind, i+1, err)
			}
		}
		if durable.Load() != 3 || l.Durable().LSN != 3 || failures.Load() != 1 || fs.hits.Load() != 1 {
			t.Errorf("%v: durable %d and %v, %d failures told, %d operations failed", kind, durable.Load(), l.Durable(), failures.Load(), fs.hits.Load())
		}
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("%v: close: %v", kind, err)
		}
		for _, left := range []vfs.FS{fs, fs.mem.CrashClone(vfs.CrashCloneCfg{})} {
			o.FS = left
			again, rec := testOpen(t, o)
			if rec.Clean || rec.End.LSN < 3 || rec.End.LSN > 4 {
				t.Errorf("%v: recovered %+v", kind, rec)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func mustWrite(t *testing.T, w *Writer, n int) {
	t.Helper()
	for range n {
		if _, err := w.Append(KindEffects, []byte("record")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecoveryRewritesTail: after a failed sync the page cache may hold what the disk does not. Recovery writes the last write
// again before it calls it durable (R10).
func TestRecoveryRewritesTail(t *testing.T) {
	fs := newFaultyFS(syscall.EIO)
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	appendChain(t, l, 2, 100)
	fs.fail(errorfs.OpFileSyncData)
	frames := chain(t, l.End(), 3, 1, 100, FrameOptions{})
	if _, err := l.AppendFrames(frames); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	_ = l.Close() // failed
	fs.on.Store(false)
	written := map[int64]bool{}
	o.FS = errorfs.Wrap(fs.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt {
			written[op.Offset] = true
		}
		return nil
	}))
	begin := l.Segments()[0].Bytes - 3*164 - 2*HeaderSize // three frames, two join marks; the first stands where the write began
	l, rec := testOpen(t, o)
	if rec.End.LSN != 5 || rec.Doubt {
		t.Fatalf("%+v", rec)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	found := false
	for off := range written {
		found = found || off > segmentHeader && off <= begin+64
	}
	if !found {
		t.Fatalf("last write began at about %d, written at recovery: %v", begin, written)
	}
}

// TestNoSpace: a full disk does not matter within prepared segments; then the log fails with the reason, and opens again (D5).
// Faults: D5 (an ENOSPC of the file system under the log)
func TestNoSpace(t *testing.T) {
	fs := newFaultyFS(syscall.ENOSPC)
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	fs.fail(errorfs.OpFileSync) // no new files; within a segment only its data is synced
	var err error
	for err == nil {
		_, err = l.AppendFrames(chain(t, l.End(), 1, 1, 1000, FrameOptions{}))
	}
	if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	durable := l.Durable()
	if durable.LSN < 10 || l.End() != durable {
		t.Fatalf("durable %v, end %v", durable, l.End())
	}
	_ = l.Close() // failed
	fs.on.Store(false)
	l, rec := testOpen(t, o)
	if rec.End != durable || rec.Cut != nil {
		t.Fatalf("%+v", rec)
	}
	appendChain(t, l, 30, 1000)
}

// TestPrepareRetries: a failure in the background is tried again when the segment is needed.
func TestPrepareRetries(t *testing.T) {
	fs := newFaultyFS(syscall.EIO)
	l, _ := testOpen(t, testOptions(fs))
	fs.fail(errorfs.OpFileSync)
	appendChain(t, l, 8, 1000)
	l.prep.mu.Lock()
	for l.prep.mu.err == nil {
		l.prep.cond.Wait()
	}
	l.prep.mu.Unlock()
	fs.on.Store(false)
	appendChain(t, l, 30, 1000)
	if len(l.Segments()) < 2 {
		t.Fatal("no rotation")
	}
}

// shortFS writes one byte too few, once, and does not say so.
type shortFS struct {
	vfs.FS
	armed atomic.Bool
}

type shortFile struct {
	vfs.File
	fs *shortFS
}

func (s *shortFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, o...)
	return &shortFile{f, s}, err
}

func (f *shortFile) WriteAt(b []byte, off int64) (int, error) {
	if f.fs.armed.CompareAndSwap(true, false) {
		return f.File.WriteAt(b[:len(b)/2], off)
	}
	return f.File.WriteAt(b, off)
}

// TestShortWrite: a write that wrote less fails the log; the half-written frame is cut at the next start (D3).
// Faults: D3 (a write that wrote less)
func TestShortWrite(t *testing.T) {
	fs := &shortFS{FS: vfs.NewMem()}
	o := testOptions(fs)
	l, _ := testOpen(t, o)
	appendChain(t, l, 3, 500)
	fs.armed.Store(true)
	if _, err := l.AppendFrames(chain(t, l.End(), 1, 1, 500, FrameOptions{})); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if l.End().LSN != 3 {
		t.Fatalf("published %v", l.End())
	}
	_ = l.Close() // failed
	l, rec := testOpen(t, o)
	if rec.End.LSN != 3 || rec.Cut == nil {
		t.Fatalf("%+v", rec)
	}
	appendChain(t, l, 3, 500)
}

// stuckFS holds syncs until released.
type stuckFS struct {
	vfs.FS
	stuck   atomic.Bool
	entered chan struct{}
	release chan struct{}
}

type stuckFile struct {
	vfs.File
	fs *stuckFS
}

func (s *stuckFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, o...)
	return &stuckFile{f, s}, err
}

func (f *stuckFile) SyncData() error {
	if f.fs.stuck.Load() {
		f.fs.entered <- struct{}{}
		<-f.fs.release
	}
	return f.File.SyncData()
}

// TestStuckSync: a watchdog sees the stuck sync and fails the log; callers are told at once, and the late completion is not
// acked (D17, R10, R12).
// Faults: D17 (a sync that does not return)
func TestStuckSync(t *testing.T) {
	fs := &stuckFS{FS: vfs.NewMem(), entered: make(chan struct{}, 1), release: make(chan struct{})}
	l, _ := testOpen(t, testOptions(fs))
	told := make(chan error, 10)
	w, err := l.NewWriter(WriterOptions{Epoch: 1, OnDurable: func(Position) { told <- nil }, OnError: func(err error) { told <- err }})
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, w, 1)
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	if l.Busy() != 0 {
		t.Fatal("busy while idle")
	}
	fs.stuck.Store(true)
	mustWrite(t, w, 1)
	<-fs.entered
	if l.Busy() == 0 {
		t.Fatal("not busy during a sync")
	}
	r, err := l.NewReader(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if f, err := r.TryNext(); err != nil || f.First != 2 {
		t.Fatalf("not published before the sync: %v, %v", f, err)
	}
	stuck := errors.New("sync takes too long")
	l.Fail(stuck)
	if err := <-told; !errors.Is(err, stuck) || !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if _, err := w.Append(KindEffects, nil); !errors.Is(err, stuck) {
		t.Fatal(err)
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, stuck) {
		t.Fatalf("reader at the end of a failed log: %v", err)
	}
	if err := w.Close(); !errors.Is(err, stuck) {
		t.Fatal(err)
	}
	close(fs.release)
	<-w.done
	if l.Durable().LSN != 1 || len(told) != 0 {
		t.Fatalf("durable %v, told %d times more", l.Durable(), len(told))
	}
}

// TestOpenFailsWithIO: an I/O error while opening is an error, not a shorter log (D16, D18).
// Faults: D16, D18 (I/O errors while opening)
func TestOpenFailsWithIO(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileReadAt, errorfs.OpFileSync, errorfs.OpOpen, errorfs.OpList, errorfs.OpFileStat} {
		fs := newFaultyFS(syscall.EIO)
		o := testOptions(fs)
		l, _ := testOpen(t, o)
		appendChain(t, l, 3, 100)
		want := l.End()
		o.FS = fs.mem.CrashClone(vfs.CrashCloneCfg{})
		broken := newFaultyFS(syscall.EIO)
		broken.FS = errorfs.Wrap(o.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		}))
		bo := o
		bo.FS = broken
		if _, _, err := Open(bo); !errors.Is(err, syscall.EIO) {
			t.Errorf("kind %d: %v", kind, err)
		}
		_, rec := testOpen(t, o)
		if rec.End != want {
			t.Errorf("kind %d: %+v", kind, rec)
		}
	}
}
