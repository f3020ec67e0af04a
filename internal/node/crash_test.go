package node

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// cuts takes what a power cut before each operation that makes something durable would leave of a disk.
type cuts struct {
	vfs.FS
	mem *vfs.MemFS

	mu  sync.Mutex
	on  bool
	all []cut
}

type cut struct {
	before string
	left   *vfs.MemFS
}

func newCuts() *cuts {
	c := &cuts{mem: vfs.NewCrashableMem()}
	c.FS = errorfs.Wrap(c.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpRename, errorfs.OpRemove, errorfs.OpRemoveAll:
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.on && len(c.all) < 400 {
				c.takeLocked(fmt.Sprintf("operation %d on %s", op.Kind, op.Path))
			}
		}
		return nil
	}))
	return c
}

// Lock implements vfs.FS. Not while a copy is taken: vfs.MemFS.Lock holds for reading a lock that it takes for reading once more, and a copy that asks for it in between
// leaves both waiting (Pebble v2.1.7).
func (c *cuts) Lock(name string) (io.Closer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.FS.Lock(name)
}

func (c *cuts) takeLocked(before string) {
	for _, percent := range []int{0, 100} { // a file system that keeps part of it keeps directories in the order in which they were changed
		c.all = append(c.all, cut{fmt.Sprintf("%s, %d%% of what was not synced is left", before, percent), c.mem.CrashClone(crash(percent, uint64(len(c.all))))})
	}
}

func (c *cuts) take(before string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeLocked(before)
}

func (c *cuts) switched(on bool) []cut {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = on
	return c.all
}

// A node whose power fails at any moment of its very first start takes over when it is started again, without consent, and has the first write if that was acked:
// directories are durable before what is in them (R1, R11; FAULTS D21).
func TestFirstStartCrash(t *testing.T) {
	t.Parallel()
	disk := newCuts()
	disk.switched(true)
	c := newCluster(t, 0, nil, "a")
	c.disks["a"] = disk
	c.start()
	c.nodes["a"].mustSet("acked")
	unacked := len(disk.switched(false))
	disk.take("anything after the ack")
	c.stop("a")
	all := disk.switched(false)
	if unacked < 20 {
		t.Fatalf("only %d moments", unacked)
	}
	for i, at := range all {
		again := newCluster(t, 0, nil, "a")
		again.disks["a"] = at.left
		again.start()
		a := again.nodes["a"]
		until(t, func() error {
			if !a.group.active() {
				return fmt.Errorf("power cut before %s: %s", at.before, again)
			}
			return nil
		})
		if got := a.get("acked"); got != "acked" && i >= unacked {
			t.Errorf("power cut before %s: the acked write is gone", at.before)
		}
		again.stop("a")
	}
}

// A standby whose power fails at any moment of its re-seeding opens again, and one of them is followed to the end (R11, R15; FAULTS D22).
// Faults: D22 (a power cut at any moment of a re-seeding)
func TestInstallCrash(t *testing.T) {
	t.Parallel()
	disk := newCuts()
	c := newCluster(t, 0, small(256<<10), "a", "b")
	c.disks["b"] = disk
	c.start()
	c.promote("a")
	c.nodes["a"].mustSet("first")
	c.settled("a")
	c.stop("b")
	a := c.nodes["a"]
	at := a.group.log.End().LSN
	a.fill(1 << 20)
	until(t, func() error {
		if a.group.log.Start().LSN <= at {
			return errors.New("b can still follow from the log")
		}
		return nil
	})
	disk.switched(true)
	c.start("b")
	c.settled("a")
	c.stop("b")
	installs := 0
	for _, at := range disk.switched(false) {
		c.disks["b"] = at.left
		n, err := Open(c.options("b"))
		if err != nil {
			t.Errorf("power cut before %s: %v", at.before, err)
			continue
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(at.before, "state.new") {
			installs++
			c.start("b")
			c.settled("a")
			c.stop("b")
		}
	}
	if installs == 0 {
		t.Errorf("no cut falls into the install, of %d", len(disk.all))
	}
}
