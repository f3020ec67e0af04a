package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// disk is an ext4 in a file, on a loop device, whose power can be cut.
type disk struct {
	image string
	mount string
}

// diskBytes is the size of the sparse image.
const diskBytes = 512 << 20

// newDisk makes a file system and mounts it.
func newDisk(dir, name string, size int64) (*disk, error) {
	d := &disk{image: filepath.Join(dir, name+".img"), mount: filepath.Join(dir, name+".mnt")}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	if err := tool("mkfs.ext4", "-q", "-F", d.image); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.mount, 0o755); err != nil {
		return nil, err
	}
	return d, d.attach()
}

// attach mounts, and holds that it is a new mount: an old one that some mount namespace keeps alive is still shut down.
func (d *disk) attach() error {
	if err := tool("mount", "-o", "loop", d.image, d.mount); err != nil {
		return err
	}
	probe := filepath.Join(d.mount, ".writable")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("%s cannot be mounted anew, because another mount namespace (of ip netns exec, a container) holds it: %w", d.mount, err)
	}
	return os.Remove(probe)
}

// detach unmounts. A process that was killed may need a moment to let go of its files.
func (d *disk) detach() (err error) {
	for range 200 {
		if err = tool("umount", d.mount); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// ioctl numbers and flags of linux/fs.h and ext4: shut down without flushing the journal, as a power cut does.
const (
	fsIocShutdown = 0x8004587d // _IOR('X', 125, __u32)
	noLogFlush    = 2
)

// cut makes the file system as it is on the disk now: nothing more is written to it. No thread that uses it may run (a sync that runs meanwhile may report success).
func (d *disk) cut() error {
	f, err := os.Open(d.mount)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), fsIocShutdown, uintptr(unsafe.Pointer(&flags))); e != 0 {
		return fmt.Errorf("shut down file system %s: %w", d.mount, e)
	}
	return nil
}

// remove unmounts for good.
func (d *disk) remove() error { return errors.Join(d.detach(), os.Remove(d.image)) }

// tool runs a program of the system.
func tool(args ...string) error {
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// missing names the first tool that is not installed.
func missing(tools ...string) string {
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			return t + " is not installed"
		}
	}
	return ""
}

// noRoot says so.
func noRoot() string {
	if os.Geteuid() != 0 {
		return "it takes root"
	}
	return ""
}

// noDisk says why no disk whose power can be cut is to be had here: tried once.
var noDisk = sync.OnceValue(func() string {
	if why := noRoot(); why != "" {
		return why
	}
	if why := missing("mkfs.ext4", "mount", "umount"); why != "" {
		return why
	}
	dir, err := os.MkdirTemp("", "rtdisk")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	d, err := newDisk(dir, "probe", 16<<20)
	if err != nil {
		return "no ext4 on a loop device: " + err.Error()
	}
	err = d.cut()
	if err = errors.Join(err, d.remove()); err != nil {
		return "no FS_IOC_SHUTDOWN: " + err.Error()
	}
	return ""
})
