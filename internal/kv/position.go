package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// DurablyApplied is a position that survives any crash from now on: the log below it is not needed to recover this
// state. It is at or below Applied and only rises.
func (s *Store) DurablyApplied() (wal.Position, error) {
	var pos wal.Position
	if err := s.enter(); err != nil {
		return pos, fmt.Errorf("durably applied position: %w", err)
	}
	defer s.gate.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{
		OnlyReadGuaranteedDurable: true,
		LowerBound:                []byte(positionRow),
		UpperBound:                []byte(positionRow + "\x00"),
	})
	if err != nil {
		return pos, readError("durably applied position", err)
	}
	defer it.Close()
	if !it.First() {
		if err := it.Error(); err != nil {
			return pos, readError("durably applied position", err)
		}
		return pos, nil
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return pos, readError("durably applied position", err)
	}
	return decodePosition(v)
}

// Flush makes everything applied so far durable. It fails, rather than waits, once the state has failed.
func (s *Store) Flush() error {
	if err := s.enter(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	defer s.gate.leave()
	t := s.health.guard("flush", s.o.StallLimit)
	defer t.Stop()
	if err := s.flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// flush ends the memtable between two commits and waits until it is in a file. A memtable must never be ended within a commit: what a
// commit has put there is invisible until Pebble publishes it, but a flush keeps of each key the newest version only (and those that
// snapshots need), so until then readers would find neither the new version nor the one before it, but an older one (R14).
// RocksDB had the same: github.com/facebook/rocksdb/pull/14681.
func (s *Store) flush() error {
	s.apply.Lock()
	flushed, err := s.db.AsyncFlush()
	s.apply.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-s.health.dead: // Pebble tries for ever on a disk that stays full
		return s.health.err()
	}
}

// Checkpoint writes a copy of the state into dir, which must not exist and should be on the same file system (files are
// linked, not copied). It is synced on return, except dir's entry in its parent. It returns the exact position of the
// copy, which is at or above Applied at the time of the call. Applying goes on meanwhile.
func (s *Store) Checkpoint(dir string) (wal.Position, error) {
	if err := s.enter(); err != nil {
		return wal.Position{}, fmt.Errorf("checkpoint: %w", err)
	}
	defer s.gate.leave()
	t := s.health.guard("checkpoint", 4*s.o.StallLimit)
	defer t.Stop()
	if err := s.flush(); err != nil {
		return wal.Position{}, fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.db.Checkpoint(dir); err != nil {
		return wal.Position{}, fmt.Errorf("checkpoint: %w", err)
	}
	pos, err := ReadPosition(s.o.FS, dir)
	if err != nil {
		return pos, fmt.Errorf("checkpoint: %w", err)
	}
	return pos, nil
}

// ReadPosition reads the applied position of a state directory that nobody has open. It is ErrNotExist when there is no state,
// ErrInUse when somebody has it open, ErrCorrupt when it is damaged. It leaves nothing behind.
func ReadPosition(fs vfs.FS, dir string) (wal.Position, error) {
	db, closeDB, err := openReadOnly(fs, dir)
	if err != nil {
		return wal.Position{}, err
	}
	pos, _, err := readSystem(db)
	return pos, errors.Join(err, closeDB())
}

// openReadOnly opens a directory that is not in use; the function it returns closes it.
func openReadOnly(fsys vfs.FS, dir string) (*pebble.DB, func() error, error) {
	lockFile := fsys.PathJoin(dir, "LOCK")
	_, statErr := fsys.Stat(lockFile)
	lock, err := pebble.LockDirectory(dir, fsys)
	if err != nil {
		return nil, nil, openError(fsys, dir, err)
	}
	unlock := func() error {
		err := lock.Close()
		if errors.Is(statErr, fs.ErrNotExist) {
			err = errors.Join(err, fsys.Remove(lockFile))
		}
		return err
	}
	o := Options{FS: fsys, Dir: dir, CacheBytes: 8 << 20, MemTableBytes: 1 << 20} // nothing is written; Pebble's cache is as large as both
	o.EnsureDefaults()
	h := newHealth(o)
	p := pebbleOptions(o, h)
	p.ReadOnly = true
	p.ErrorIfNotExists = true
	p.DisableAutomaticCompactions = true
	p.Lock = lock
	db, err := pebble.Open(dir, p)
	if err != nil {
		h.close()
		return nil, nil, errors.Join(openError(fsys, dir, err), unlock())
	}
	return db, func() error {
		err := db.Close()
		h.close()
		return errors.Join(err, unlock())
	}, nil
}

// openError tells apart what a person must do: look elsewhere, wait, or replace the files.
func openError(fsys vfs.FS, dir string, err error) error {
	var kind error
	switch {
	case errors.Is(err, pebble.ErrDBDoesNotExist):
		kind = ErrNotExist
	case errors.Is(err, fs.ErrNotExist):
		kind = ErrCorrupt // a file that the state consists of
		if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			kind = ErrNotExist
		}
	case errors.Is(err, syscall.EAGAIN), strings.Contains(err.Error(), "lock held by current process"):
		kind = ErrInUse
	case pebble.IsCorruptionError(err):
		kind = ErrCorrupt
	default:
		return fmt.Errorf("open state %s: %w", dir, err)
	}
	return fmt.Errorf("open state %s: %w: %w", dir, kind, err)
}
