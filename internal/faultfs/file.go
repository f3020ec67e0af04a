package faultfs

import (
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file is an open file of an FS. It keeps its own position, so that a write which a fault swallowed or sent elsewhere moves it as a real one does.
type file struct {
	vfs.File
	fs   *FS
	name string
	pos  int64
}

// Read implements vfs.File.
func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt implements vfs.File.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.fs.call(Op{Kind: OpRead, Path: f.name, Offset: off, Length: len(p)}, &Call{fs: f.fs, file: f.File, Data: p,
		do: func(p []byte) (int, error) { return f.File.ReadAt(p, off) }})
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.fs.call(Op{Kind: OpWrite, Path: f.name, Offset: off, Length: len(p)}, &Call{fs: f.fs, file: f.File, Data: p,
		do: func(p []byte) (int, error) { return f.File.WriteAt(p, off) }})
}

// simple is an operation on the file that moves no bytes.
func (f *file) simple(o Op, do func() error) error {
	_, err := f.fs.call(o, &Call{fs: f.fs, file: f.File, do: func([]byte) (int, error) { return 0, do() }})
	return err
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.simple(Op{Kind: OpSync, Path: f.name}, f.File.Sync) }

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.simple(Op{Kind: OpSync, Path: f.name}, f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (full bool, err error) {
	err = f.simple(Op{Kind: OpSyncTo, Path: f.name}, func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// Close implements vfs.File.
func (f *file) Close() error { return f.simple(Op{Kind: OpClose, Path: f.name}, f.File.Close) }

// Stat implements vfs.File.
func (f *file) Stat() (info vfs.FileInfo, err error) {
	err = f.simple(Op{Kind: OpStat, Path: f.name}, func() (err error) {
		info, err = f.File.Stat()
		return err
	})
	return info, err
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(off, length int64) error {
	return f.simple(Op{Kind: OpAllocate, Path: f.name}, func() error { return f.File.Preallocate(off, length) })
}
