package lossyfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// FS is one mounted file system.
type FS struct {
	Below string // the directory that is the disk
	Mount string

	server *fuse.Server

	mu    sync.Mutex
	files map[uint64]*file // by inode below; those that were ever open
	fail  string           // the next sync of a path with this in it fails; "" for none
	slow  time.Duration    // how long a sync lasts
	stats Stats
}

// Stats count what happened.
type Stats struct{ Syncs, Failed, Lost, Kept int }

// file is what is known of one inode below. FS.mu guards it: one lock is enough for a test, and a cut is one moment.
type file struct {
	fd      int // of the file below, for reading and writing; stays open as long as the FS is mounted, as pages of a closed file stay in the cache
	size    int64
	pending []write // not synced, in order
}

type write struct {
	off  int64
	data []byte
}

// New mounts a file system.
func New(below, mount string) (*FS, error) {
	f := &FS{Below: below, Mount: mount, files: map[uint64]*file{}}
	for _, d := range []string{below, mount} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(below, &st); err != nil {
		return nil, err
	}
	root := &fs.LoopbackRoot{Path: below, Dev: uint64(st.Dev)}
	first := &node{LoopbackNode: &fs.LoopbackNode{RootData: root}, f: f}
	root.RootNode = first
	var now time.Duration
	var err error
	f.server, err = fs.Mount(mount, first, &fs.Options{AttrTimeout: &now, EntryTimeout: &now,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "repld-lossy", MaxWrite: 1 << 20}})
	if err != nil {
		return nil, fmt.Errorf("mount a fuse file system: %w", err)
	}
	return f, nil
}

// Close unmounts. What was not synced is lost.
func (f *FS) Close() (err error) {
	for range 200 { // a process that was killed may need a moment to let go of its files
		if err = f.server.Unmount(); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.files {
		_ = syscall.Close(x.fd)
	}
	f.files = map[uint64]*file{}
	return err
}

// Available says why no such file system can be mounted here, "" if it can: tried once.
var Available = sync.OnceValue(func() string {
	if os.Geteuid() != 0 {
		return "it takes root"
	}
	dir, err := os.MkdirTemp("", "rtfuse")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	f, err := New(dir+"/below", dir+"/mnt")
	if err != nil {
		return err.Error()
	}
	if err := f.Close(); err != nil {
		return "a fuse file system cannot be unmounted: " + err.Error()
	}
	return ""
})

// Cut is a power cut: of the writes that were not synced, none or some are on the disk, in any order, the last one in any of its sectors.
func (f *FS) Cut(rnd *rand.Rand) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	some := rnd.IntN(2) == 0
	for ino, x := range f.files {
		rnd.Shuffle(len(x.pending), func(i, j int) { x.pending[i], x.pending[j] = x.pending[j], x.pending[i] })
		for _, w := range x.pending {
			if !some || rnd.IntN(2) == 0 {
				f.stats.Lost++
				continue
			}
			f.stats.Kept++
			if rnd.IntN(4) == 0 {
				w.data = w.data[:len(w.data)&^511*rnd.IntN(8)/8&^511]
			}
			if _, err := syscall.Pwrite(x.fd, w.data, w.off); err != nil {
				return fmt.Errorf("write below: %w", err)
			}
		}
		if err := syscall.Close(x.fd); err != nil {
			return err
		}
		x.fd, x.pending = -1, nil // handles of before the cut reach nothing
		delete(f.files, ino)      // the machine starts anew: nothing is in its memory
	}
	f.fail, f.slow = "", 0
	return nil
}

// FailSync has the next sync of a file fail whose path has part in it.
func (f *FS) FailSync(part string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = part
}

// SlowSync makes each sync last so long, until it is called with 0.
func (f *FS) SlowSync(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = d
}

// Stats returns the counts.
func (f *FS) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// of returns the file of an inode, opened at path below if it was not yet. fresh says that the inode was made just now: what is known of one with its number is of a file that is gone.
func (f *FS) of(path string, fresh bool) (*file, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.files[st.Ino]; x != nil {
		if !fresh {
			return x, syscall.Close(fd)
		}
		_ = syscall.Close(x.fd)
	}
	x := &file{fd: fd, size: st.Size}
	f.files[st.Ino] = x
	return x, nil
}

// size is how long a file is for who uses it.
func (f *FS) size(ino uint64, below uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.files[ino]; x != nil {
		return uint64(x.size)
	}
	return below
}

func (f *FS) truncated(ino uint64, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.files[ino]
	if x == nil {
		return
	}
	x.size = size
	var keep []write
	for _, w := range x.pending {
		if w.off < size {
			w.data = w.data[:min(int64(len(w.data)), size-w.off)]
			keep = append(keep, w)
		}
	}
	x.pending = keep
}

func (f *FS) write(x *file, data []byte, off int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x.pending = append(x.pending, write{off, append([]byte(nil), data...)})
	x.size = max(x.size, off+int64(len(data)))
}

func (f *FS) read(x *file, into []byte, off int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(int64(len(into)), x.size-off)
	if n <= 0 {
		return nil, nil
	}
	b := into[:n]
	clear(b)
	if _, err := syscall.Pread(x.fd, b, off); err != nil {
		return nil, err
	}
	for _, w := range x.pending {
		lo, hi := max(w.off, off), min(w.off+int64(len(w.data)), off+n)
		if lo < hi {
			copy(b[lo-off:hi-off], w.data[lo-w.off:hi-w.off])
		}
	}
	return b, nil
}

func (f *FS) sync(x *file, path string) error {
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	time.Sleep(slow)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Syncs++
	pending := x.pending
	x.pending = nil
	if f.fail != "" && strings.Contains(path, f.fail) {
		f.fail = ""
		f.stats.Failed++
		f.stats.Lost += len(pending)
		return syscall.EIO
	}
	for _, w := range pending {
		if _, err := syscall.Pwrite(x.fd, w.data, w.off); err != nil {
			return err
		}
	}
	return nil
}
