package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
	"repld/wal"
)

// fakeBackend is a group of one node without a log: a submission is applied to a real state in memory before Submit
// returns, and done comes in order from another goroutine.
type fakeBackend struct {
	store   *kv.Store
	watches Watches
	done    chan func()
	stale   atomic.Bool // Release says no

	mu struct { // the sequencer lock
		sync.Mutex
		seq     *kv.Sequencer
		end     wal.Position
		records []wal.Record
	}

	knobs struct {
		sync.Mutex
		status  Status
		refuse  error // Submit, before fn runs
		result  error // Submit, after fn ran; nothing is applied
		viewErr error
		acked   func(ctx context.Context, lsn wal.LSN, n int) int
		handed  []string // Switchover
	}
}

func newFake(t testing.TB) *fakeBackend {
	t.Helper()
	store, err := kv.Open(kv.Options{FS: vfs.NewMem(), Dir: "state", OnFatal: func(err error) { t.Errorf("state: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBackend{store: store, done: make(chan func(), 4096)}
	f.mu.seq = store.NewSequencer()
	f.mu.seq.Touched(f.watches.Touch)
	f.knobs.status = Status{
		Cluster: "c", Group: "default", Node: "a", Incarnation: "i", Version: "test", Role: RoleActive, Epoch: 7, Active: "a",
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for fn := range f.done {
			fn()
		}
	}()
	t.Cleanup(func() {
		close(f.done)
		<-stopped
		if err := store.Close(); err != nil {
			t.Errorf("close state: %v", err)
		}
	})
	return f
}

func (f *fakeBackend) View(now time.Time) (View, error) {
	f.knobs.Lock()
	err := f.knobs.viewErr
	f.knobs.Unlock()
	if err != nil {
		return nil, err
	}
	return f.store.View(now), nil
}

func (f *fakeBackend) Submit(_ context.Context, fn func(Sequence) error, done func(wal.LSN, error)) {
	f.knobs.Lock()
	refuse, result := f.knobs.refuse, f.knobs.result
	f.knobs.Unlock()
	if refuse != nil {
		done(0, refuse)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := fn(fakeSequence{f, result != nil})
	if err == nil {
		err = result
	}
	if len(f.mu.records) > 0 {
		err = errors.Join(err, f.applyLocked())
	}
	lsn := f.mu.end.LSN
	f.done <- func() { done(lsn, err) }
}

func (f *fakeBackend) applyLocked() error {
	frame, err := wal.EncodeFrame(f.mu.end, wal.FrameOptions{Epoch: 7, Codec: wal.CodecNone, Time: time.Now()}, f.mu.records)
	if err != nil {
		return err
	}
	f.mu.records = f.mu.records[:0]
	if err := f.store.Apply([]*wal.Frame{frame}); err != nil {
		return err
	}
	f.mu.end = frame.End()
	f.mu.seq.Applied(f.mu.end.LSN)
	return nil
}

// Release implements Backend.
func (f *fakeBackend) Release() bool { return !f.stale.Load() }

// Ready implements Backend.
func (f *fakeBackend) Ready() bool { return true }

func (f *fakeBackend) Unwatch(w *Watcher) { f.watches.Remove(w) }

func (f *fakeBackend) WaitAcked(ctx context.Context, lsn wal.LSN, n int) int {
	f.knobs.Lock()
	fn := f.knobs.acked
	f.knobs.Unlock()
	if fn != nil {
		return fn(ctx, lsn, n)
	}
	<-ctx.Done()
	return 0
}

func (f *fakeBackend) Status() Status {
	f.knobs.Lock()
	defer f.knobs.Unlock()
	return f.knobs.status
}

func (f *fakeBackend) Switchover(_ context.Context, to string) error {
	f.knobs.Lock()
	defer f.knobs.Unlock()
	f.knobs.handed = append(f.knobs.handed, to)
	return nil
}

func (f *fakeBackend) set(fn func(f *fakeBackend)) {
	f.knobs.Lock()
	defer f.knobs.Unlock()
	fn(f)
}

type fakeSequence struct {
	f       *fakeBackend
	discard bool // lose the effects, as a refused log would
}

func (q fakeSequence) Record(now time.Time, fn func(t *kv.Txn) error) error {
	txn := q.f.mu.seq.Begin(now)
	defer txn.Abort()
	if err := fn(txn); err != nil {
		return err
	}
	effects := txn.Effects()
	if effects == nil || q.discard {
		return nil
	}
	lsn := q.f.mu.end.LSN + wal.LSN(len(q.f.mu.records)) + 1
	q.f.mu.records = append(q.f.mu.records, wal.Record{LSN: lsn, Kind: wal.KindEffects, Payload: slices.Clone(effects)})
	txn.Commit(lsn)
	return nil
}

func (q fakeSequence) Watch(keys [][]byte, w *Watcher) { q.f.watches.Add(keys, w) }
