package faultfs

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// diskFile is an open file or directory of a Disk.
type diskFile struct {
	disk     *Disk
	node     *inode
	name     string
	pos      int64
	writable bool
	closed   bool
}

// Read implements vfs.File.
func (f *diskFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements vfs.File.
func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.check("read"); err != nil {
		return 0, err
	}
	return readAt(f.node.data, p, off)
}

func readAt(data, p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) check(op string) error {
	switch {
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case f.node.dir:
		return pathError(op, f.name, syscall.EISDIR)
	case op == "write" && !f.writable:
		return pathError(op, f.name, fs.ErrPermission)
	}
	return nil
}

// Write implements vfs.File.
func (f *diskFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements vfs.File.
func (f *diskFile) WriteAt(p []byte, off int64) (n int, err error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := f.check("write"); err != nil {
		return 0, err
	}
	if grow := off + int64(len(p)) - int64(len(f.node.data)); grow > 0 && f.node.links > 0 {
		if over := d.mu.used + grow - d.mu.capacity; d.mu.capacity > 0 && over > 0 {
			p = p[:max(0, int64(len(p))-over)]
			err = pathError("write", f.name, syscall.ENOSPC)
		}
	}
	if len(p) == 0 {
		return 0, err
	}
	before := len(f.node.data)
	f.node.write(off, p)
	if f.node.links > 0 {
		d.mu.used += int64(len(f.node.data) - before)
	}
	at := d.record(effect{Op: Op{Kind: OpWrite, Path: f.name, Offset: off, Length: len(p)}, node: f.node, data: bytes.Clone(p)})
	f.node.writes = append(f.node.writes, at)
	return len(p), err
}

// Sync implements vfs.File: all that was written, or for a directory all its names, is durable on return.
func (f *diskFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return pathError("sync", f.name, fs.ErrClosed)
	}
	i := f.disk.record(effect{Op: Op{Kind: OpSync, Path: f.name}, node: f.node})
	f.node.synced = append(f.node.synced, f.disk.mu.effects[i].Index)
	return nil
}

// SyncData implements vfs.File.
func (f *diskFile) SyncData() error { return f.Sync() }

// SyncTo implements vfs.File. It promises nothing, and does nothing.
func (f *diskFile) SyncTo(int64) (bool, error) { return false, nil }

// DropUnsynced is what a kernel does when a sync fails: what was written since the last one is forgotten, what is read from now on is the older content,
// and the next sync succeeds.
func (f *diskFile) DropUnsynced() {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	drop := d.mu.effects[d.record(effect{Op: Op{Kind: OpDrop, Path: f.name}, node: f.node})].Index
	before := len(f.node.data)
	f.node.data, f.node.shared = d.content(f.node, func(e *effect) bool { return e.durable(drop) }), false
	still := f.node.writes[:0]
	for _, w := range f.node.writes {
		if e := &d.mu.effects[w]; e.durable(drop) {
			still = append(still, w)
		} else {
			e.gone = drop
		}
	}
	f.node.writes = still
	if f.node.links > 0 {
		d.mu.used += int64(len(f.node.data) - before)
	}
}

// ReadStale reads what was there before the last write to any of these bytes: the disk answers with an old block.
func (f *diskFile) ReadStale(p []byte, off int64) (int, error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	last := -1
	for _, w := range f.node.writes {
		if e := &d.mu.effects[w]; e.Offset < off+int64(len(p)) && off < e.Offset+int64(len(e.data)) {
			last = e.Index
		}
	}
	old := d.content(f.node, func(e *effect) bool { return e.Index != last })
	if short := len(f.node.data) - len(old); short > 0 {
		old = append(old, make([]byte, short)...)
	}
	return readAt(old, p, off)
}

// content builds a file's content from those of its writes that are kept. The caller holds the lock.
func (d *Disk) content(n *inode, keep func(*effect) bool) []byte {
	tmp := inode{data: n.base, shared: true}
	for _, w := range n.writes {
		if e := &d.mu.effects[w]; keep(e) {
			tmp.write(e.Offset, e.data)
		}
	}
	if tmp.shared {
		return bytes.Clone(tmp.data)
	}
	return tmp.data
}

// Stat implements vfs.File.
func (f *diskFile) Stat() (vfs.FileInfo, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return statOf(f.node, f.name), nil
}

// Close implements vfs.File. It makes nothing durable.
func (f *diskFile) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

// Preallocate implements vfs.File: room is not content.
func (f *diskFile) Preallocate(int64, int64) error { return nil }

// Prefetch implements vfs.File.
func (f *diskFile) Prefetch(int64, int64) error { return nil }

// Fd implements vfs.File.
func (f *diskFile) Fd() uintptr { return vfs.InvalidFd }

type diskInfo struct {
	name string
	size int64
	dir  bool
}

func statOf(n *inode, name string) diskInfo {
	return diskInfo{name: path.Base(name), size: int64(len(n.data)), dir: n.dir}
}

func (i diskInfo) Name() string           { return i.name }
func (i diskInfo) Size() int64            { return i.size }
func (i diskInfo) ModTime() time.Time     { return time.Time{} }
func (i diskInfo) IsDir() bool            { return i.dir }
func (i diskInfo) Sys() any               { return nil }
func (i diskInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
func (i diskInfo) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o700
	}
	return 0o600
}
