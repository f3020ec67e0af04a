package faultfs

import (
	"io"
	"math/rand/v2"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS passes operations on to another file system, except those that a rule gives a fault.
type FS struct {
	base vfs.FS

	mu struct {
		sync.Mutex
		rng   *rand.Rand
		rules []*Active
		next  int  // index of the next operation
		trace []Op // while tracing, all operations
		keep  bool
		hits  []Op // those that met a fault
	}
}

var _ vfs.FS = (*FS)(nil)

// New wraps base. The seed decides rules that go by chance.
func New(base vfs.FS, seed uint64) *FS {
	f := &FS{base: base}
	f.mu.rng = rand.New(rand.NewPCG(seed, 0xfa17f5))
	return f
}

// Add puts a rule to work. The first rule that an operation meets decides.
func (f *FS) Add(r Rule) *Active {
	if r.Fault == nil {
		panic("faultfs: a rule without a fault")
	}
	a := &Active{rule: r, fs: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = append(f.mu.rules, a)
	return a
}

// Record keeps a trace of all operations from now on, reads included.
func (f *FS) Record() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.keep = true
}

// Trace returns the operations since Record.
func (f *FS) Trace() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.mu.trace...)
}

// Hits returns the operations that met a fault.
func (f *FS) Hits() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.mu.hits...)
}

// call does one operation, or what a fault makes of it.
func (f *FS) call(o Op, c *Call) (int, error) {
	fault := f.meet(&o)
	c.Op = o
	if fault == nil {
		return c.do(c.Data)
	}
	return fault(c)
}

func (f *FS) meet(o *Op) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.Index = f.mu.next
	f.mu.next++
	if f.mu.keep {
		f.mu.trace = append(f.mu.trace, *o)
	}
	for _, r := range f.mu.rules {
		if r.meets(*o, f.mu.rng) {
			f.mu.hits = append(f.mu.hits, *o)
			return r.rule.Fault
		}
	}
	return nil
}

// simple is an operation that moves no bytes.
func (f *FS) simple(o Op, do func() error) error {
	_, err := f.call(o, &Call{fs: f, do: func([]byte) (int, error) { return 0, do() }})
	return err
}

// open is an operation that yields a file.
func (f *FS) open(o Op, do func() (vfs.File, error)) (vfs.File, error) {
	var inner vfs.File
	err := f.simple(o, func() (err error) {
		inner, err = do()
		return err
	})
	if err != nil || inner == nil {
		return nil, err
	}
	name := o.Path
	if o.To != "" {
		name = o.To
	}
	return &file{File: inner, fs: f, name: name}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(Op{Kind: OpCreate, Path: name}, func() (vfs.File, error) { return f.base.Create(name, c) })
}

// Open implements vfs.FS.
func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(Op{Kind: OpOpen, Path: name}, func() (vfs.File, error) { return f.base.Open(name, opts...) })
}

// OpenReadWrite implements vfs.FS.
func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(Op{Kind: OpOpenWrite, Path: name}, func() (vfs.File, error) { return f.base.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	return f.open(Op{Kind: OpOpenDir, Path: name}, func() (vfs.File, error) { return f.base.OpenDir(name) })
}

// ReuseForWrite implements vfs.FS.
func (f *FS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(Op{Kind: OpReuse, Path: oldname, To: newname}, func() (vfs.File, error) { return f.base.ReuseForWrite(oldname, newname, c) })
}

// Link implements vfs.FS.
func (f *FS) Link(oldname, newname string) error {
	return f.simple(Op{Kind: OpLink, Path: oldname, To: newname}, func() error { return f.base.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	return f.simple(Op{Kind: OpRemove, Path: name}, func() error { return f.base.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f *FS) RemoveAll(name string) error {
	return f.simple(Op{Kind: OpRemoveAll, Path: name}, func() error { return f.base.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *FS) Rename(oldname, newname string) error {
	return f.simple(Op{Kind: OpRename, Path: oldname, To: newname}, func() error { return f.base.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(name string, perm os.FileMode) error {
	return f.simple(Op{Kind: OpMkdir, Path: name}, func() error { return f.base.MkdirAll(name, perm) })
}

// Lock implements vfs.FS.
func (f *FS) Lock(name string) (c io.Closer, err error) {
	err = f.simple(Op{Kind: OpLock, Path: name}, func() (err error) {
		c, err = f.base.Lock(name)
		return err
	})
	return c, err
}

// List implements vfs.FS.
func (f *FS) List(name string) (names []string, err error) {
	err = f.simple(Op{Kind: OpList, Path: name}, func() (err error) {
		names, err = f.base.List(name)
		return err
	})
	return names, err
}

// Stat implements vfs.FS.
func (f *FS) Stat(name string) (info vfs.FileInfo, err error) {
	err = f.simple(Op{Kind: OpStat, Path: name}, func() (err error) {
		info, err = f.base.Stat(name)
		return err
	})
	return info, err
}

// GetDiskUsage implements vfs.FS.
func (f *FS) GetDiskUsage(name string) (u vfs.DiskUsage, err error) {
	err = f.simple(Op{Kind: OpDiskUsage, Path: name}, func() (err error) {
		u, err = f.base.GetDiskUsage(name)
		return err
	})
	return u, err
}

// PathBase implements vfs.FS.
func (f *FS) PathBase(p string) string { return f.base.PathBase(p) }

// PathJoin implements vfs.FS.
func (f *FS) PathJoin(elem ...string) string { return f.base.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (f *FS) PathDir(p string) string { return f.base.PathDir(p) }

// Unwrap implements vfs.FS.
func (f *FS) Unwrap() vfs.FS { return f.base }
