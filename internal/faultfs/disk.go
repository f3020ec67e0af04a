package faultfs

import (
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is a file system in memory that remembers every change. All methods may be called at the same time. Names are separated by slashes; they need not
// begin with one.
type Disk struct {
	clock *Clock

	mu struct {
		sync.Mutex
		root     *inode
		effects  []effect
		locks    map[string]bool
		used     int64 // bytes in files that have a name
		capacity int64 // 0 = no limit
	}
}

var _ vfs.FS = (*Disk)(nil)

// NewDisk returns an empty disk with a clock of its own.
func NewDisk() *Disk { return NewDiskOn(&Clock{}) }

// NewDiskOn returns an empty disk whose operations are numbered together with those of other disks.
func NewDiskOn(c *Clock) *Disk {
	d := &Disk{clock: c}
	d.mu.root, d.mu.locks = newInode(true), map[string]bool{}
	return d
}

// Clock returns the clock that numbers the operations.
func (d *Disk) Clock() *Clock { return d.clock }

// SetCapacity limits the bytes in files, 0 = no limit. A write beyond it is done as far as there is room and reports ENOSPC; removing a file gives its
// room back.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.capacity = bytes
}

// Used returns the bytes in files.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.used
}

// record numbers an effect and remembers it. The caller holds the lock.
func (d *Disk) record(e effect) int {
	e.Index = d.clock.tick()
	d.mu.effects = append(d.mu.effects, e)
	return len(d.mu.effects) - 1
}

// find returns the directory that holds the last part of name, and that part. The root is ("", itself).
func (d *Disk) find(op, name string) (dir *inode, last string, err error) {
	dir = d.mu.root
	parts := split(name)
	if len(parts) == 0 {
		return dir, "", nil
	}
	for _, p := range parts[:len(parts)-1] {
		next := dir.names[p]
		switch {
		case next == nil:
			return nil, "", pathError(op, name, fs.ErrNotExist)
		case !next.dir:
			return nil, "", pathError(op, name, syscall.ENOTDIR)
		}
		dir = next
	}
	return dir, parts[len(parts)-1], nil
}

// lookup returns what has the name.
func (d *Disk) lookup(op, name string) (*inode, error) {
	dir, last, err := d.find(op, name)
	if err != nil || last == "" {
		return dir, err
	}
	if n := dir.names[last]; n != nil {
		return n, nil
	}
	return nil, pathError(op, name, fs.ErrNotExist)
}

func split(name string) []string {
	return slices.DeleteFunc(strings.Split(path.Clean(name), "/"), func(s string) bool { return s == "" || s == "." })
}

func pathError(op, name string, err error) error { return &os.PathError{Op: op, Path: name, Err: err} }

// Create implements vfs.FS.
func (d *Disk) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, last, err := d.find("create", name)
	if err != nil {
		return nil, err
	}
	if old := dir.names[last]; last == "" || old != nil && old.dir {
		return nil, pathError("create", name, syscall.EISDIR)
	} else if old != nil {
		d.unlink(dir, last, name)
	}
	return d.create(dir, last, name), nil
}

func (d *Disk) create(dir *inode, last, name string) *diskFile {
	n := newInode(false)
	n.links = 1
	dir.names[last] = n
	d.record(effect{Op: Op{Kind: OpCreate, Path: name}, node: n, from: dir, old: last})
	return &diskFile{disk: d, node: n, name: name, writable: true}
}

// Open implements vfs.FS.
func (d *Disk) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup("open", name)
	if err != nil {
		return nil, err
	}
	return opened(&diskFile{disk: d, node: n, name: name}, opts), nil
}

// OpenReadWrite implements vfs.FS.
func (d *Disk) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, last, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	n := dir.names[last]
	if n == nil {
		return opened(d.create(dir, last, name), opts), nil
	}
	if n.dir {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return opened(&diskFile{disk: d, node: n, name: name, writable: true}, opts), nil
}

func opened(f *diskFile, opts []vfs.OpenOption) vfs.File {
	for _, o := range opts {
		o.Apply(f)
	}
	return f
}

// OpenDir implements vfs.FS.
func (d *Disk) OpenDir(name string) (vfs.File, error) { return d.Open(name) }

// Lock implements vfs.FS. A crash frees all locks.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.locks[name] {
		return nil, pathError("lock", name, syscall.EAGAIN)
	}
	dir, last, err := d.find("lock", name)
	if err != nil {
		return nil, err
	}
	if dir.names[last] == nil {
		d.create(dir, last, name)
	}
	d.mu.locks[name] = true
	return diskLock{d, name}, nil
}

type diskLock struct {
	d    *Disk
	name string
}

// Close releases the lock.
func (l diskLock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	delete(l.d.mu.locks, l.name)
	return nil
}

// List implements vfs.FS. Names come sorted.
func (d *Disk) List(name string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup("list", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, pathError("list", name, syscall.ENOTDIR)
	}
	return sorted(n.names), nil
}

func sorted(names map[string]*inode) []string {
	all := make([]string, 0, len(names))
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Stat implements vfs.FS.
func (d *Disk) Stat(name string) (vfs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	return statOf(n, name), nil
}

// PathBase implements vfs.FS.
func (d *Disk) PathBase(p string) string { return path.Base(p) }

// PathJoin implements vfs.FS.
func (d *Disk) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir implements vfs.FS.
func (d *Disk) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage implements vfs.FS.
func (d *Disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.capacity == 0 {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	used := uint64(d.mu.used)
	total := max(used, uint64(d.mu.capacity))
	return vfs.DiskUsage{AvailBytes: total - used, TotalBytes: total, UsedBytes: used}, nil
}

// Unwrap implements vfs.FS.
func (d *Disk) Unwrap() vfs.FS { return nil }
