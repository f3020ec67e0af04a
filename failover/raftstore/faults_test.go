package raftstore

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/failover/tokentest"
)

// world is a cluster of voters.
type world struct {
	c   *cluster
	rng *rand.Rand

	mu     sync.Mutex
	cuts   int
	frozen []string
	cutOff []string
}

// TestFaults runs the conformance suite's faults: voters cut off with and without being told, all killed with the loss of what was not synced.
func TestFaults(t *testing.T) {
	t.Parallel()
	tokentest.RunFaults(t, func(t *testing.T, n int) tokentest.World {
		c := newCluster(t, voterNames(n)...)
		for _, name := range c.names {
			c.disks[name] = newCrashDisk(t)
		}
		c.start(c.names...)
		c.leader()
		w := &world{c: c, rng: rand.New(rand.NewPCG(4, 0))}
		t.Cleanup(w.Heal)
		return w
	})
}

func newCrashDisk(t *testing.T) *vfs.MemFS {
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("raft", 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := fs.OpenDir("")
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func (w *world) Store(i int) failover.Store {
	if v := w.c.get(w.c.names[i]); v != nil {
		return v.Store
	}
	return nil
}

// Cut freezes a voter, or cuts it off with its connections broken, in turn.
func (w *world) Cut(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := w.c.names[i]
	w.cuts++
	if w.cuts%2 == 1 {
		w.c.isolate(name)
		w.cutOff = append(w.cutOff, name)
	} else {
		w.c.freeze(name)
		w.frozen = append(w.frozen, name)
	}
}

func (w *world) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.cutOff {
		w.c.heal(name)
	}
	for _, name := range w.frozen {
		w.c.thaw(name)
	}
	w.cutOff, w.frozen = nil, nil
}

func (w *world) Crash() {
	for _, name := range w.c.names {
		w.c.kill(name)
	}
	for _, name := range w.c.names {
		w.c.disks[name] = w.c.disks[name].(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: w.rng})
	}
	w.c.start(w.c.names...)
}
