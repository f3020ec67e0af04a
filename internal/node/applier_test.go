package node

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
	"repld/wal"
)

// A state that was put back behind a cut of the log, and one word about what is committed: that is enough for the applier to go on, whatever it had read ahead of the cut (R7, R12).
func TestApplierAfterCut(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	log, _, err := wal.Open(wal.Options{FS: disk, Dir: "wal", Identity: wal.Identity{Cluster: "shop", Group: "default", Incarnation: [16]byte{1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	st := &state{drain: time.Second, options: kv.Options{FS: disk, Dir: "state"}}
	if err := st.open("state.new", nil); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.shut(); err != nil {
			t.Error(err)
		}
	}()
	write := func(epoch wal.Epoch) {
		t.Helper()
		store, err := st.acquire()
		if err != nil {
			t.Fatal(err)
		}
		defer st.release()
		x := store.NewSequencer().Begin(time.UnixMilli(1))
		if err := x.Set([]byte("key"), []byte{byte(epoch)}, 0); err != nil {
			t.Fatal(err)
		}
		w, err := log.NewWriter(wal.WriterOptions{Epoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Append(wal.KindEffects, x.Effects())
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	limit := wal.LSN(0)
	a := newApplier(log, st, 0)
	a.limit, a.applied, a.applies = func() wal.LSN { return limit }, func(wal.Position) {}, func(wal.Position, []*wal.Frame) {}
	defer a.drop()
	step := func(to wal.LSN) {
		t.Helper()
		limit = to
		for {
			n, _, err := a.once(nil)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
		if at := st.applied().LSN; at != to {
			t.Fatalf("applied up to LSN %d, want %d", at, to)
		}
	}
	write(1)
	step(1)
	store, err := st.acquire()
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Checkpoint("checkpoint")
	st.release()
	if err != nil {
		t.Fatal(err)
	}
	write(1)
	keep := log.End()
	write(1)
	step(3)
	if err := st.replace("checkpoint", func(wal.Position) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := log.TruncateTail(keep, wal.SaveOptions{Dir: "diverged", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	write(2)
	step(3)
}
