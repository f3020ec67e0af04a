package wal

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
)

// directory is the log's directory, held open so that it can be synced.
type directory struct {
	fs   vfs.FS
	path string
	mu   struct {
		sync.Mutex // a vfs.File allows one sync at a time
		f          vfs.File
	}
}

// openDirectory creates the directory if it is missing and makes it durable in its parent.
func openDirectory(fs vfs.FS, path string) (*directory, error) {
	if _, err := fs.Stat(path); err != nil {
		if err := durable.MakeDir(fs, path); err != nil {
			return nil, err
		}
	}
	f, err := fs.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, err)
	}
	d := &directory{fs: fs, path: path}
	d.mu.f = f
	return d, nil
}

func (d *directory) join(name string) string { return d.fs.PathJoin(d.path, name) }

// sync makes created, renamed and removed names durable.
func (d *directory) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.mu.f.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", d.path, err)
	}
	return nil
}

func (d *directory) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.f.Close()
}

// remove removes a file and makes that durable.
func (d *directory) remove(name string) error {
	if err := d.fs.Remove(d.join(name)); err != nil {
		return fmt.Errorf("remove %s: %w", d.join(name), err)
	}
	return d.sync()
}

// listing is what is in the directory, by kind.
type listing struct {
	segments []uint64 // ascending
	spares   []uint64
	tmp      []string
}

func listDir(fs vfs.FS, path string) (listing, error) {
	names, err := fs.List(path)
	if err != nil {
		return listing{}, fmt.Errorf("list %s: %w", path, err)
	}
	var l listing
	for _, name := range names {
		if seq, ok := parseName(name, segmentSuffix); ok {
			l.segments = append(l.segments, seq)
		} else if seq, ok := parseName(name, spareSuffix); ok {
			l.spares = append(l.spares, seq)
		} else if strings.HasSuffix(name, tmpSuffix) {
			l.tmp = append(l.tmp, name)
		}
	}
	slices.Sort(l.segments)
	slices.Sort(l.spares)
	return l, nil
}

// fileSize returns the size of an open file.
func fileSize(f vfs.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// writeAt writes all of b, or fails: a short write is never continued (D3).
func writeAt(f io.WriterAt, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// zeroRange overwrites [from, to) with zeros; it does not sync.
func zeroRange(f io.WriterAt, from, to int64) error {
	zeros := make([]byte, min(max(to-from, 0), readChunk))
	for from < to {
		n := min(to-from, int64(len(zeros)))
		if err := writeAt(f, zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}
