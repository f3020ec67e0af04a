package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/faultfs"
	"repld/internal/kv"
	"repld/snapshot"
)

// checkpoint has a node make one.
func (m *member) checkpoint(t *testing.T) admin.Checkpoint {
	t.Helper()
	r, err := m.api().Checkpoints(t.Context(), admin.CheckpointsRequest{Create: true}, ignore)
	if err != nil || len(r.Checkpoints) == 0 {
		t.Fatalf("checkpoints %+v: %v", r, err)
	}
	return r.Checkpoints[0]
}

// parted makes a cluster of a and b in which a has applied what b, by consent the active of a newer epoch, does not have. Nothing connects them.
func parted(t *testing.T, disk vfs.FS) *cluster {
	t.Helper()
	c := newCluster(t, 0, nil, "a", "b")
	if disk != nil {
		c.disks["a"] = disk
	}
	c.start()
	c.promote("a")
	a := c.nodes["a"]
	a.mustSet("one", "two")
	c.settled("a")
	if cp := a.checkpoint(t); !cp.Rewind || cp.Digest == 0 || cp.Keys != 2 {
		t.Fatalf("checkpoint %+v", cp)
	}
	a.mustPut(t, "two", "changed")
	a.mustSet("three")
	c.settled("a")
	c.wire.partition()
	a.mustPut(t, "one", "alone")
	a.mustSet("alone")
	a.checkpoint(t) // of a history that is given up
	if _, err := c.nodes["b"].promote(admin.PromoteRequest{AllowDataLoss: true}); err != nil {
		t.Fatal(err)
	}
	c.nodes["b"].mustSet("four")
	return c
}

// sound waits until b is followed by a with the same state.
func (c *cluster) sound(t *testing.T) {
	t.Helper()
	c.settled("b")
	until(t, func() error {
		a, b := c.nodes["a"].digestHere(t), c.nodes["b"].digestHere(t)
		if a != b {
			return fmt.Errorf("a has %+v, b has %+v: %s", a, b, c)
		}
		return nil
	})
	for key, want := range map[string]string{"one": "one", "two": "changed", "three": "three", "four": "four", "alone": ""} {
		if got := c.nodes["a"].get(key); got != want {
			t.Errorf("%s is %q on a, want %q", key, got, want)
		}
	}
}

// digestHere digests a node's own state as it is.
func (m *member) digestHere(t *testing.T) kv.Digest {
	t.Helper()
	st, err := m.group.state.acquire()
	if err != nil {
		return kv.Digest{} // being replaced
	}
	defer m.group.state.release()
	sn, err := st.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	d, err := sn.Digest(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// An old active whose state went past the history is rewound to a checkpoint of its own and applies what is between; its log stays, and nothing is sent to it but what it lacks. What it had
// alone is set aside (R9, R15).
func TestRewindToCheckpoint(t *testing.T) {
	t.Parallel()
	c := parted(t, nil)
	a := c.nodes["a"].group
	c.wire.heal()
	c.sound(t)
	if a.log.Start().LSN != 0 {
		t.Errorf("a was seeded: its log begins at %s", a.log.Start())
	}
	if n := a.nodeStatus().Diverged; n != 1 {
		t.Errorf("%d suffixes set aside", n)
	}
	for _, cp := range a.ring.List() {
		if !a.ours(cp.Position) {
			t.Errorf("a checkpoint of the history that was given up is kept: %s", cp.Position)
		}
	}
	if !a.fence.Voter() {
		t.Error("a has no vote")
	}
	c.nodes["a"].checkpoint(t)
	c.stop("a")
	c.start("a")
	c.sound(t)
}

// A checkpoint that is damaged, or that the log does not reach back to, is not used: the node is seeded by its peer as before.
func TestRewindImpossible(t *testing.T) {
	t.Parallel()
	c := parted(t, nil)
	a := c.nodes["a"].group
	for _, cp := range a.ring.List() {
		table := slices.MaxFunc(cp.Files, func(x, y snapshot.File) int { return cmp.Compare(x.Size, y.Size) })
		f, err := a.o.FS.Create(a.o.FS.PathJoin(cp.Dir, table.Name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, table.Size)); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	c.wire.heal()
	c.sound(t)
	if a.log.Start().LSN == 0 {
		t.Error("a was not seeded")
	}
}

// A power cut at any moment of the rewinding leaves a node that opens, and that becomes a sound standby (R15; FAULTS D22).
func TestRewindCrash(t *testing.T) {
	t.Parallel()
	disk := newCuts()
	c := parted(t, disk)
	disk.switched(true)
	c.wire.heal()
	c.sound(t)
	c.stop("a")
	followed := 0
	for i, at := range disk.switched(false) {
		c.disks["a"] = at.left
		n, err := Open(c.options("a"))
		if err != nil {
			t.Errorf("power cut before %s: %v", at.before, err)
			continue
		}
		if exists(at.left, n.group.path(backName)) {
			t.Errorf("power cut before %s: %s is left", at.before, backName)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if strings.Contains(at.before, backName) || i%40 == 0 {
			followed++
			c.start("a")
			c.sound(t)
			c.stop("a")
		}
	}
	if followed < 5 {
		t.Errorf("only %d cuts were followed, of %d", followed, len(disk.all))
	}
}

// Checkpoints are made by themselves, are shown, and are the first to go when the disk is short.
func TestCheckpointsGoFirst(t *testing.T) {
	t.Parallel()
	disk := faultfs.NewDisk()
	disk.SetCapacity(1 << 30)
	c := newCluster(t, 0, func(name string, o *Options) {
		tiny(name, o)
		o.DiskReserve = 4 << 20
		o.Checkpoints = CheckpointOptions{Every: 20 * time.Millisecond, Count: 2}
	}, "a")
	c.disks["a"] = disk
	c.start()
	a := c.nodes["a"]
	until(t, func() error {
		a.mustSet(fmt.Sprint(time.Now().UnixNano()))
		if s := a.group.nodeStatus().Checkpoints; s == nil || s.Count != 2 || s.Newest.LSN == 0 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	until(t, func() error { // short, but not so short that writes are refused; the node itself takes space, too
		disk.SetCapacity(disk.Used() + 3<<20)
		if n := len(a.group.ring.List()); n > 0 {
			return fmt.Errorf("%d checkpoints are kept on a disk that is short", n)
		}
		if !a.group.tight.Load() {
			return errors.New("not noticed")
		}
		return nil
	})
	disk.SetCapacity(1 << 30)
	a.mustSet("goes on")
	until(t, func() error {
		if len(a.group.ring.List()) == 0 {
			return errors.New("no checkpoint after there was room again")
		}
		return nil
	})
}

// A checkpoint off the log's history, as a crash may leave it, is dropped when the node opens.
func TestRingOfAnotherHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, nil, "a")
	c.start()
	a := c.nodes["a"]
	a.mustSet("one")
	good := a.checkpoint(t)
	a.mustSet("two")
	other := a.checkpoint(t)
	c.stop("a")
	fs := c.disks["a"]
	m, err := snapshot.ReadManifest(fs, other.Dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Position.Hash ^= 1
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(fs, fs.PathJoin(other.Dir, snapshot.ManifestName), b); err != nil {
		t.Fatal(err)
	}
	c.start()
	if all := c.nodes["a"].group.ring.List(); len(all) != 1 || all[0].ID != good.ID {
		t.Fatalf("kept %+v", all)
	}
}
