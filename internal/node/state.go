package node

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/internal/kv"
	"repld/wal"
)

// errStateGone is what a reader meets while the state is being replaced or closed.
var errStateGone = errors.New("state is closed")

// errStateBusy says that readers did not leave in time for the state to be replaced.
var errStateBusy = errors.New("state is still being read")

// state holds the group's Pebble store, which a snapshot install replaces. Users hold it by acquire and release, so that it is
// never closed under them. While it is being replaced, new users are refused at once and those inside are waited for, within a bound (R12).
type state struct {
	options kv.Options
	drain   time.Duration // how long replace and close wait for users

	now atomic.Pointer[kv.Store] // for applied, which never waits; stays while the store is closed

	mu struct {
		sync.Mutex
		store *kv.Store // nil while closed
		left  *kv.Store // refuses users and is not closed yet, because some did not leave in time
		lacks string    // why there is no state, until a snapshot is installed; "" if there is one
		users int
		idle  chan struct{} // closed when users falls to 0; nil if nobody waits
	}
}

// acquire returns the store; the caller calls release when it is done with all that it got from the store.
func (s *state) acquire() (*kv.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.store == nil {
		return nil, errStateGone
	}
	s.mu.users++
	return s.mu.store, nil
}

func (s *state) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.users--; s.mu.users == 0 && s.mu.idle != nil {
		close(s.mu.idle)
		s.mu.idle = nil
	}
}

// applied returns the applied position, without waiting for anything.
func (s *state) applied() wal.Position {
	if st := s.now.Load(); st != nil {
		return st.Applied()
	}
	return wal.Position{}
}

// shut refuses new users, waits for those inside, and closes the store. It may be called again: after errStateBusy it waits again.
func (s *state) shut() error {
	s.mu.Lock()
	if s.mu.store != nil {
		s.mu.store, s.mu.left = nil, s.mu.store
	}
	st := s.mu.left
	var idle chan struct{}
	if s.mu.users > 0 {
		if s.mu.idle == nil {
			s.mu.idle = make(chan struct{})
		}
		idle = s.mu.idle
	}
	s.mu.Unlock()
	if idle != nil {
		late := time.NewTimer(s.drain)
		defer late.Stop()
		select {
		case <-idle:
		case <-late.C:
			return errStateBusy
		}
	}
	if st == nil {
		return nil
	}
	if err := st.Close(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.left = nil
	return nil
}

// open opens the store, finishing an install that a crash interrupted: between closing the state and here, incoming is either complete
// under its final name or not there at all. prepare is called with the position of the new state before the old one is removed.
func (s *state) open(incoming string, prepare func(wal.Position) error) error {
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
		if err := durable.SyncDir(fs, fs.PathDir(s.options.Dir)); err != nil {
			return err
		}
	}
	st, err := kv.Open(s.options)
	if err != nil {
		return fmt.Errorf("open state %s: %w", s.options.Dir, err)
	}
	s.now.Store(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.store, s.mu.lacks = st, ""
	return nil
}

// lacking says why this node has no state, "" if it has one. A node without a state keeps its log, but serves nothing and may not become active.
func (s *state) lacking() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.lacks
}

// replace closes the store, lets prepare make the log fit the complete snapshot in incoming, and opens that in its place. Each step can be
// repeated by open after a crash: the presence of incoming alone says that the install is to be finished.
func (s *state) replace(incoming string, prepare func(wal.Position) error) error {
	if err := s.shut(); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return s.open(incoming, prepare)
}

func exists(fs vfs.FS, path string) bool {
	_, err := fs.Stat(path)
	return err == nil
}
