// Package durable writes and reads small files whole. A file that is created, renamed or removed is so for good only once its directory is synced too: [SyncDir].
package durable

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrTooLarge is wrapped by what [ReadFile] says of a file over its limit.
var ErrTooLarge = errors.New("file is too large")

// WriteFile creates a file with the bytes and syncs it. Its name is not durable yet, and a crash leaves any part of it: to replace a file, write another one and rename
// it. The bytes may be changed: a vfs.File is allowed to.
func WriteFile(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(fs vfs.FS, path string, limit int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: %w: want at most %d bytes", path, ErrTooLarge, limit)
	}
	return b, nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// MakeDir makes a directory and what lacks above it, each durable in its parent.
func MakeDir(fs vfs.FS, dir string) error {
	parent := fs.PathDir(dir)
	if parent != dir && parent != "." {
		if _, err := fs.Stat(parent); err != nil {
			if err := MakeDir(fs, parent); err != nil {
				return err
			}
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create directory %s: %w", dir, err)
	}
	return SyncDir(fs, parent)
}
