package node

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
	"repld/wal"
)

// errStateGone is what a reader meets while the state is being replaced or closed.
var errStateGone = errors.New("state is closed")

// state holds the group's Pebble store, which a snapshot install replaces. Users hold it by acquire and release, so that it is
// never closed under them.
type state struct {
	options kv.Options

	mu    sync.RWMutex // read-locked by users, locked by replace and close
	store *kv.Store    // nil while closed
}

// acquire returns the store; the caller calls release when it is done with all that it got from the store.
func (s *state) acquire() (*kv.Store, error) {
	s.mu.RLock()
	if s.store == nil {
		s.mu.RUnlock()
		return nil, errStateGone
	}
	return s.store, nil
}

func (s *state) release() { s.mu.RUnlock() }

// applied returns the applied position, zero while the state is closed.
func (s *state) applied() wal.Position {
	st, err := s.acquire()
	if err != nil {
		return wal.Position{}
	}
	defer s.release()
	return st.Applied()
}

// open opens the store, finishing an install that a crash interrupted: between closing the state and here, incoming is either complete
// under its final name or not there at all. prepare is called with the position of the new state before the old one is removed.
func (s *state) open(incoming string, prepare func(wal.Position) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openLocked(incoming, prepare)
}

func (s *state) openLocked(incoming string, prepare func(wal.Position) error) error {
	fs := s.options.FS
	if exists(fs, incoming) {
		at, err := kv.ReadPosition(fs, incoming)
		if err != nil {
			return fmt.Errorf("read position of snapshot %s: %w", incoming, err)
		}
		if err := prepare(at); err != nil {
			return err
		}
		if err := fs.RemoveAll(s.options.Dir); err != nil {
			return fmt.Errorf("remove old state: %w", err)
		}
		if err := fs.Rename(incoming, s.options.Dir); err != nil {
			return fmt.Errorf("install snapshot: %w", err)
		}
		if err := syncDir(fs, fs.PathDir(s.options.Dir)); err != nil {
			return err
		}
	}
	st, err := kv.Open(s.options)
	if err != nil {
		return fmt.Errorf("open state %s: %w", s.options.Dir, err)
	}
	s.store = st
	return nil
}

// replace closes the store, lets prepare make the log fit the complete snapshot in incoming, and opens that in its place. Each step can be
// repeated by open after a crash: the presence of incoming alone says that the install is to be finished.
func (s *state) replace(incoming string, prepare func(wal.Position) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			return fmt.Errorf("close state: %w", err)
		}
		s.store = nil
	}
	return s.openLocked(incoming, prepare)
}

func (s *state) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return nil
	}
	err := s.store.Close()
	s.store = nil
	return err
}

func exists(fs vfs.FS, path string) bool {
	_, err := fs.Stat(path)
	return err == nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	err = errors.Join(d.Sync(), d.Close())
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
