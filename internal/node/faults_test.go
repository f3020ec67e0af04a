package node

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"repld/wal"
)

// fault is a file system whose operations of one kind, once it is on, wait until it is lifted, or fail.
type fault struct {
	vfs.FS
	on   atomic.Bool
	met  chan struct{} // closed by the first operation that meets it
	over chan struct{} // closed by lift
	once sync.Once
}

// newFault wraps fs. With an error the operations fail with it, otherwise they wait.
func newFault(t *testing.T, fs vfs.FS, err error, match func(errorfs.Op) bool) *fault {
	f := &fault{met: make(chan struct{}), over: make(chan struct{})}
	f.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !f.on.Load() || !match(op) {
			return nil
		}
		f.once.Do(func() { close(f.met) })
		if err == nil {
			<-f.over
		}
		return err
	}))
	t.Cleanup(f.lift)
	return f
}

// lift ends the fault. It may be called again.
func (f *fault) lift() {
	if f.on.Swap(false) {
		close(f.over)
	}
}

// A disk that hangs or is full ends Run with the reason, within a bound, and what was acked is there when the node is started again (R1, R10, R12; FAULTS D5, D16, D17).
// Faults: D5, D16, D17 (a disk that hangs or is full)
func TestDiskFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		err   error
		match func(errorfs.Op) bool
		want  string
	}{
		{"log sync hangs", nil, func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileSyncData && strings.Contains(op.Path, "/wal/")
		}, "log write has been running"},
		{"segment preparation hangs", nil, func(op errorfs.Op) bool {
			return strings.Contains(op.Path, "/wal/") && strings.HasSuffix(op.Path, ".tmp")
		}, "log write has been running"},
		{"no space for a flush of the state", syscall.ENOSPC, func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst")
		}, "state has failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newCluster(t, 0, func(_ string, o *Options) {
				o.StallLimit, o.CommitTimeout, o.MemTableBytes, o.Codec = 500*time.Millisecond, 300*time.Millisecond, 256<<10, wal.CodecNone
			}, "a")
			disk := newFault(t, l.disks["a"], c.err, c.match)
			l.disks["a"] = disk
			l.start()
			l.nodes["a"].mustSet("acked")
			disk.on.Store(true)
			a := l.forget("a")
			value := strings.Repeat("x", 32<<10)
			written := make(chan struct{})
			go func() {
				defer close(written)
				for a.group.active() {
					_ = a.set("k", value) // refused or unknown from some write on
				}
			}()
			began := time.Now()
			err := soon(t, a.ended, "the end of Run")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("run ended after %s with %v, want %q", time.Since(began), err, c.want)
			}
			soon(t, written, "the last answer to a client")
			disk.lift()
			until(t, func() error { // what hung comes to its end and gives the directory free
				n, err := Open(l.options("a"))
				if err != nil {
					return err
				}
				return n.Close()
			})
			l.start()
			l.nodes["a"].mustSet("after")
			if got := l.nodes["a"].get("acked"); got != "acked" {
				t.Errorf("an acked write is gone: %q", got)
			}
		})
	}
}

// crash describes what a power cut leaves: percent of what was not synced, at random.
func crash(percent int, seed uint64) vfs.CrashCloneCfg {
	return vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 1))}
}
