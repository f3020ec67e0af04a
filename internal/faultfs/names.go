package faultfs

import (
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Link implements vfs.FS.
func (d *Disk) Link(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup("link", oldname)
	if err != nil {
		return err
	}
	dir, last, err := d.find("link", newname)
	switch {
	case err != nil:
		return err
	case n.dir:
		return pathError("link", oldname, syscall.EPERM)
	case dir.names[last] != nil:
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: fs.ErrExist}
	}
	dir.names[last] = n
	n.links++
	d.record(effect{Op: Op{Kind: OpLink, Path: oldname, To: newname}, node: n, from: dir, old: last})
	return nil
}

// Remove implements vfs.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, last, err := d.find("remove", name)
	if err != nil {
		return err
	}
	n := dir.names[last]
	switch {
	case n == nil:
		return pathError("remove", name, fs.ErrNotExist)
	case len(n.names) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	d.unlink(dir, last, name)
	return nil
}

// RemoveAll implements vfs.FS.
func (d *Disk) RemoveAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, last, err := d.find("remove", name)
	if err != nil || dir.names[last] == nil {
		return nil
	}
	d.removeTree(dir, last, name)
	return nil
}

func (d *Disk) removeTree(dir *inode, last, name string) {
	n := dir.names[last]
	for _, child := range sorted(n.names) {
		d.removeTree(n, child, path.Join(name, child))
	}
	d.unlink(dir, last, name)
}

func (d *Disk) unlink(dir *inode, last, name string) {
	n := dir.names[last]
	delete(dir.names, last)
	d.forget(n)
	d.record(effect{Op: Op{Kind: OpRemove, Path: name}, node: n, from: dir, old: last})
}

// forget gives room back when the last name is gone.
func (d *Disk) forget(n *inode) {
	if n.links--; n.links == 0 && !n.dir {
		d.mu.used -= int64(len(n.data))
	}
}

// Rename implements vfs.FS.
func (d *Disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.rename(oldname, newname)
	return err
}

func (d *Disk) rename(oldname, newname string) (*inode, error) {
	from, old, err := d.find("rename", oldname)
	if err != nil {
		return nil, err
	}
	to, last, err := d.find("rename", newname)
	if err != nil {
		return nil, err
	}
	n, target := from.names[old], to.names[last]
	switch {
	case n == nil || last == "":
		return nil, pathError("rename", oldname, fs.ErrNotExist)
	case n == target:
		return n, nil
	case target != nil && target.dir != n.dir:
		return nil, pathError("rename", newname, syscall.EEXIST)
	case target != nil && len(target.names) > 0:
		return nil, pathError("rename", newname, syscall.ENOTEMPTY)
	case target != nil:
		d.forget(target)
	}
	delete(from.names, old)
	to.names[last] = n
	d.record(effect{Op: Op{Kind: OpRename, Path: oldname, To: newname}, node: n, from: from, to: to, old: old, new: last})
	return n, nil
}

// ReuseForWrite implements vfs.FS.
func (d *Disk) ReuseForWrite(oldname, newname string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.rename(oldname, newname)
	if err != nil {
		return nil, err
	}
	return &diskFile{disk: d, node: n, name: newname, writable: true}, nil
}

// MkdirAll implements vfs.FS.
func (d *Disk) MkdirAll(name string, _ os.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, at := d.mu.root, ""
	for _, p := range split(name) {
		at = path.Join(at, p)
		next := dir.names[p]
		if next == nil {
			next = newInode(true)
			next.links = 1
			dir.names[p] = next
			d.record(effect{Op: Op{Kind: OpMkdir, Path: at}, node: next, from: dir, old: p})
		}
		if !next.dir {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		dir = next
	}
	return nil
}
