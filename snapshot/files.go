package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// lockName is the file by which Pebble locks a directory; it is not part of a state.
const lockName = "LOCK"

// copyStep is the size of reads: large enough for a disk, small enough to be cancelled.
const copyStep = 1 << 20

// hashFile reads a whole file; step, if not nil, is called with the bytes of each read.
func hashFile(ctx context.Context, fs vfs.FS, path string, step func(n int)) (size int64, hash wal.Hash, err error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	h := xxhash.New()
	buf := make([]byte, min(copyStep, info.Size()+1))
	for {
		if err := ctx.Err(); err != nil {
			return size, 0, err
		}
		n, err := f.Read(buf)
		_, _ = h.Write(buf[:n]) // a hash does not fail
		size += int64(n)
		if step != nil {
			step(n)
		}
		if errors.Is(err, io.EOF) {
			return size, wal.Hash(h.Sum64()), nil
		}
		if err != nil {
			return size, 0, err
		}
	}
}

// checkFile compares a file with its entry, byte for byte.
func checkFile(ctx context.Context, fs vfs.FS, dir string, want File) error {
	size, hash, err := hashFile(ctx, fs, fs.PathJoin(dir, want.Name), nil)
	switch {
	case isNotExist(err):
		return fmt.Errorf("%w: file %s is missing", ErrIncomplete, want.Name)
	case err != nil:
		return fmt.Errorf("file %s: %w", want.Name, err)
	case size != want.Size || hash != want.Hash:
		return mismatch(want, size, hash)
	}
	return nil
}

func mismatch(want File, size int64, hash wal.Hash) error {
	return fmt.Errorf("%w: %s: expected %d bytes with hash %s, found %d with %s", ErrCorrupt, want.Name, want.Size, want.Hash, size, hash)
}

// Check compares a directory with a manifest: every file, byte for byte, and no other file (a manifest beside them and a
// lock file are ignored). It changes nothing. The errors are ErrCorrupt, ErrIncomplete and ErrUnknownFile, all of them joined.
func Check(fs vfs.FS, dir string, m Manifest) error {
	if err := m.validate(); err != nil {
		return err
	}
	errs := unknownFiles(fs, dir, m)
	for _, f := range m.Files {
		if err := checkFile(context.Background(), fs, dir, f); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("check snapshot %s in %s: %w", m.ID, dir, err)
	}
	return nil
}

func unknownFiles(fs vfs.FS, dir string, m Manifest) []error {
	names, err := fs.List(dir)
	if err != nil {
		return []error{err}
	}
	known := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		known[f.Name] = true
	}
	var errs []error
	for _, name := range names {
		if !known[name] && name != ManifestName && name != lockName {
			errs = append(errs, fmt.Errorf("%w: %q", ErrUnknownFile, name))
		}
	}
	return errs
}

// pacer keeps a reader to a rate of bytes a second, 0 = none.
type pacer struct {
	rate  int64
	start time.Time
	done  int64
}

// wait returns when n more bytes may have been read, or with ctx.
func (p *pacer) wait(ctx context.Context, n int) {
	if p.rate <= 0 {
		return
	}
	p.done += int64(n)
	due := time.Duration(float64(p.done) / float64(p.rate) * float64(time.Second))
	t := time.NewTimer(due - time.Since(p.start))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
