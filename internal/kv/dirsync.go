package kv

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// dirFS makes a failed sync of a directory what a failed write of the MANIFEST is: the end of the state (R10). Pebble itself panics then, in a goroutine of
// its own when it moves the marker of the MANIFEST, and takes the process with it, without a reason that a person could use; or it tries again, which after a
// failed sync proves nothing.
type dirFS struct {
	vfs.FS
	h *health
}

// OpenDir implements vfs.FS.
func (f dirFS) OpenDir(name string) (vfs.File, error) {
	d, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return syncedDir{File: d, name: name, h: f.h}, nil
}

// Unwrap implements vfs.FS.
func (f dirFS) Unwrap() vfs.FS { return f.FS }

// syncedDir is an open directory whose sync succeeds or does not return.
type syncedDir struct {
	vfs.File
	name string
	h    *health
}

// Sync implements vfs.File.
func (d syncedDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.h.park(fmt.Errorf("sync directory %s: %w", d.name, err))
	}
	return nil
}
