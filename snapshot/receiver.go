package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/wal"
)

func isNotExist(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// Receiver gathers the files of a snapshot in the incoming directory. It is for one goroutine.
type Receiver struct {
	fs  vfs.FS
	dir string
	m   Manifest // of the transfer in progress
	set bool
}

// NewReceiver returns a receiver into dir, which belongs to it alone and is created when needed.
func NewReceiver(fs vfs.FS, dir string) *Receiver { return &Receiver{fs: fs, dir: dir} }

// Begin starts or resumes the transfer of a snapshot and returns the sizes of the files that are here already: complete,
// and with the manifest's hash. Everything else in the directory is removed.
func (r *Receiver) Begin(m Manifest) (have map[string]int64, err error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	r.set = false
	if err := r.fs.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("begin snapshot %s: %w", m.ID, err)
	}
	if err := r.fs.RemoveAll(r.replaced()); err != nil {
		return nil, fmt.Errorf("begin snapshot %s: %w", m.ID, err)
	}
	names, err := r.fs.List(r.dir)
	if err != nil {
		return nil, fmt.Errorf("begin snapshot %s: %w", m.ID, err)
	}
	have = make(map[string]int64)
	for _, name := range names {
		f, err := m.file(name)
		if err == nil {
			err = checkFile(context.Background(), r.fs, r.dir, f)
		}
		if err == nil {
			have[name] = f.Size
			continue
		}
		if err := r.fs.RemoveAll(r.fs.PathJoin(r.dir, name)); err != nil {
			return nil, fmt.Errorf("begin snapshot %s: %w", m.ID, err)
		}
	}
	r.m, r.set = m, true
	return have, nil
}

// replaced is where Complete puts a target that stood in its way.
func (r *Receiver) replaced() string { return r.dir + ".replaced" }

// File opens a file of the snapshot for writing. The content counts only if Close returns nil: then it had the manifest's
// size and hash, is synced and has its name. Writing more than the size fails at once. Unlike other writers, and as vfs.File,
// it may change the bytes that it was given.
func (r *Receiver) File(name string) (io.WriteCloser, error) {
	if !r.set {
		return nil, fmt.Errorf("snapshot file %q: %w", name, ErrClosed)
	}
	want, err := r.m.file(name)
	if err != nil {
		return nil, err
	}
	part := r.fs.PathJoin(r.dir, name+partSuffix)
	f, err := r.fs.Create(part, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("snapshot file %s: %w", name, err)
	}
	return &fileWriter{r: r, f: f, part: part, want: want, hash: xxhash.New()}, nil
}

type fileWriter struct {
	r    *Receiver
	f    vfs.File
	part string
	want File
	size int64
	hash *xxhash.Digest
	err  error
}

// Write implements io.Writer.
func (w *fileWriter) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.size+int64(len(b)) > w.want.Size {
		w.err = fmt.Errorf("%w: %s: more than the expected %d bytes", ErrCorrupt, w.want.Name, w.want.Size)
		return 0, w.err
	}
	_, _ = w.hash.Write(b) // before it is written: a vfs.File may change what it is given
	n, err := w.f.Write(b)
	w.size += int64(n)
	if err != nil {
		w.err = fmt.Errorf("snapshot file %s: %w", w.want.Name, err)
	}
	return n, w.err
}

// Close implements io.Closer.
func (w *fileWriter) Close() error {
	if w.f == nil {
		return w.err
	}
	err := w.err
	if found := wal.Hash(w.hash.Sum64()); err == nil && (w.size != w.want.Size || found != w.want.Hash) {
		err = mismatch(w.want, w.size, found)
	}
	if err == nil {
		err = w.f.Sync()
	}
	err = errors.Join(err, w.f.Close())
	w.f = nil
	if err == nil {
		err = w.r.fs.Rename(w.part, w.r.fs.PathJoin(w.r.dir, w.want.Name))
	} else {
		err = errors.Join(err, w.r.fs.Remove(w.part))
	}
	w.err = err
	if err == nil {
		w.err = fmt.Errorf("snapshot file %s: %w", w.want.Name, ErrClosed)
	}
	return err
}

// Complete reads every file back and compares it, makes all of it durable, and gives the directory its new name target,
// in place of a snapshot that was waiting there. A file that is damaged or missing is removed, so that Begin asks for it again; then
// the error is ErrCorrupt or ErrIncomplete. On return target holds the files and the manifest (ReadManifest), durably.
func (r *Receiver) Complete(target string) error {
	if !r.set {
		return fmt.Errorf("complete snapshot: %w", ErrClosed)
	}
	if err := r.complete(target); err != nil {
		return fmt.Errorf("complete snapshot %s: %w", r.m.ID, err)
	}
	r.set = false
	return nil
}

func (r *Receiver) complete(target string) error {
	if errs := unknownFiles(r.fs, r.dir, r.m); len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, f := range r.m.Files {
		if err := checkFile(context.Background(), r.fs, r.dir, f); err != nil {
			if errors.Is(err, ErrCorrupt) {
				err = errors.Join(err, r.fs.Remove(r.fs.PathJoin(r.dir, f.Name)))
			}
			return err
		}
	}
	b, err := r.m.Encode()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(r.fs, r.fs.PathJoin(r.dir, ManifestName), b); err != nil {
		return err
	}
	if err := durable.SyncDir(r.fs, r.dir); err != nil {
		return err
	}
	return r.install(target)
}

// install renames. A target in the way is renamed too before it is removed: half a directory of that name would be
// taken for a snapshot.
func (r *Receiver) install(target string) error {
	_, err := r.fs.Stat(target)
	switch {
	case err == nil:
		if err := r.fs.RemoveAll(r.replaced()); err != nil {
			return err
		}
		if err := r.fs.Rename(target, r.replaced()); err != nil {
			return err
		}
	case !isNotExist(err):
		return err
	}
	if err := r.fs.Rename(r.dir, target); err != nil {
		return err
	}
	for _, dir := range []string{r.fs.PathDir(target), r.fs.PathDir(r.dir)} {
		if err := durable.SyncDir(r.fs, dir); err != nil {
			return err
		}
	}
	return r.fs.RemoveAll(r.replaced())
}
