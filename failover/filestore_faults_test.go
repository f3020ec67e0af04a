package failover_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"repld/failover"
	"repld/failover/tokentest"
)

// fileWorld is a directory on shared storage. Cut, a store's file operations stand still, as those of a network file system do whose server is not reached.
type fileWorld struct {
	t   *testing.T
	rng *rand.Rand

	mu     sync.Mutex
	disk   *vfs.MemFS // another one after each Crash
	stores []*failover.FileStore
	cut    []chan struct{} // closed by Heal; nil while it is not cut off
}

func TestFileStoreFaults(t *testing.T) {
	tokentest.RunFaults(t, func(t *testing.T, n int) tokentest.World {
		w := &fileWorld{t: t, rng: rand.New(rand.NewPCG(3, 0)), disk: newTokenFS(t), cut: make([]chan struct{}, n)}
		w.open()
		t.Cleanup(func() {
			w.Heal()
			w.close()
		})
		return w
	})
}

func (w *fileWorld) open() {
	var all []*failover.FileStore
	disk := w.disk
	for i := range w.cut {
		s, err := failover.OpenFileStore(failover.FileStoreOptions{FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(errorfs.Op) error {
			w.mu.Lock()
			gate := w.cut[i]
			w.mu.Unlock()
			if gate != nil {
				<-gate
			}
			w.mu.Lock()
			dead := w.disk != disk
			w.mu.Unlock()
			if dead {
				return errorfs.ErrInjected // nobody may be told of what was not on the disk that outlived the crash
			}
			return nil
		})), Dir: "tok", Shared: true, Poll: 5 * time.Millisecond, Keep: 4})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stores = all
}

func (w *fileWorld) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stores {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *fileWorld) Store(i int) failover.Store {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stores[i]
}

func (w *fileWorld) Cut(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[i] == nil {
		w.cut[i] = make(chan struct{})
	}
}

func (w *fileWorld) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, gate := range w.cut {
		if gate != nil {
			close(gate)
			w.cut[i] = nil
		}
	}
}

// Crash goes on with what the storage has synced, and half of what it has not.
func (w *fileWorld) Crash() {
	w.close()
	w.mu.Lock()
	old := w.disk
	w.disk = nil // ends what is under way, before it is decided what is left of it
	w.mu.Unlock()
	left := old.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: w.rng})
	w.mu.Lock()
	w.disk = left
	w.mu.Unlock()
	w.open()
}
