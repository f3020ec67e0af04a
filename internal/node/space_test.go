package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"repld/internal/faultfs"
	"repld/internal/server"
)

// room is a disk that can be filled and emptied by others.
type room struct {
	fs      vfs.FS
	dir     string
	fill    func(t *testing.T)
	release func(t *testing.T)
}

// tmpfs mounts a small file system of the kernel's.
func tmpfs(t *testing.T) room {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("repld-test", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skipf("a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	return room{
		fs: vfs.Default, dir: filepath.Join(dir, "data"),
		fill: func(t *testing.T) {
			f, err := os.Create(ballast)
			errorless(t, err)
			var free unix.Statfs_t // nearly all at once: the node gives its reserve back before the last byte is taken, and this must not take that, too
			errorless(t, unix.Statfs(dir, &free))
			errorless(t, unix.Fallocate(int(f.Fd()), 0, 0, int64(free.Bavail)*free.Bsize-256<<10))
			_, err = f.Seek(0, io.SeekEnd)
			buf := make([]byte, 64<<10)
			for err == nil {
				_, err = f.Write(buf)
			}
			if err := errors.Join(f.Close()); err != nil || !errors.Is(errOf(ballast, buf), syscall.ENOSPC) {
				t.Fatalf("not filled: %v", err)
			}
		},
		release: func(t *testing.T) { errorless(t, os.Remove(ballast)) },
	}
}

// errOf appends to a file and returns how that failed.
func errOf(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// TestDiskFull: a disk that others fill makes a node refuse writes with -OOM while it answers reads; it can be stopped and started like that, and takes writes again by itself when there is
// room (R12, R13).
// Faults: D5 (a tmpfs that is filled to its last byte), D6
func TestDiskFull(t *testing.T) {
	r := tmpfs(t)
	c := newCluster(t, 0, func(_ string, o *Options) {
		o.FS, o.Dir, o.DiskReserve = r.fs, r.dir, 8<<20
		o.SegmentBytes, o.MemTableBytes, o.LogBudget = 1<<20, 512<<10, 8<<20
	}, "a")
	c.start()
	a := c.nodes["a"]
	a.mustSet("before")
	a.fillKeys(0, 300)
	reserve := filepath.Join(r.dir, spaceFile)
	until(t, func() error { _, err := os.Stat(reserve); return err })
	r.fill(t)
	until(t, func() error {
		var refused *server.Error
		if err := a.set("more", "x"); !errors.As(err, &refused) || !strings.HasPrefix(refused.Error(), "OOM") {
			return fmt.Errorf("a write was answered %v", err)
		}
		return nil
	})
	if got := a.get("before"); got != "before" {
		t.Fatalf("read %q", got)
	}
	if a.group.alarms.get(alarmSpace) == "" {
		t.Error("no alarm")
	}
	c.stop("a") // cleanly: the reserve was given back
	c.start()
	a = c.nodes["a"]
	until(t, func() error {
		if err := a.set("more", "x"); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
			return fmt.Errorf("after a start on the full disk a write was answered %v", err)
		}
		return nil
	})
	r.release(t)
	a.mustSet("after")
	until(t, func() error {
		if text := a.group.alarms.get(alarmSpace); text != "" {
			return fmt.Errorf("the alarm stays: %s", text) // it goes a moment after writes are taken again
		}
		return nil
	})
	if _, err := os.Stat(reserve); err != nil {
		t.Error(err)
	}
	if got := a.get("key-00017"); got == "" {
		t.Error("an acked write is gone")
	}
}

// TestDiskFullStandby: a standby whose disk is nearly full takes no more of the log, says so, and catches up when there is room.
// Faults: D5 (a disk of limited size under a standby)
func TestDiskFullStandby(t *testing.T) {
	disk := faultfs.NewDisk()
	disk.SetCapacity(1 << 30)
	c := newCluster(t, 0, func(name string, o *Options) {
		tiny(name, o)
		if name == "b" {
			o.DiskReserve = 4 << 20
		}
	}, "a", "b")
	c.disks["b"] = disk
	c.start()
	c.promote("a")
	c.settled("a")
	disk.SetCapacity(disk.Used() + 100<<10)
	b := c.nodes["b"].group
	until(t, func() error {
		if b.alarms.get(alarmSpace) == "" || b.receiver.Status().Running {
			return errors.New("b takes the log")
		}
		return nil
	})
	c.nodes["a"].fillKeys(0, 400) // more than there is room for
	disk.SetCapacity(1 << 30)
	c.settled("a")
	c.sameState("a")
}
