package snapshot

import (
	"context"
	"fmt"
	"sync"
	"time"

	"repld/wal"
)

// Manager makes snapshots of one group's state, hands them out to senders, and removes them.
type Manager struct {
	o      ManagerOptions
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // builds

	mu struct {
		sync.Mutex
		err      error // bad options
		kept     []*stored
		building *build
		changed  chan struct{} // closed and replaced when a stored one is released or removed
		swept    bool
		closed   bool
	}
}

// stored is a snapshot on disk; its fields but the first are guarded by the Manager's mutex.
type stored struct {
	m       Manifest
	dir     string
	refs    int
	expires *time.Timer // runs while nobody uses it
}

// build is a snapshot being made. Its fields but done are guarded by the Manager's mutex.
type build struct {
	done    chan struct{} // closed when s or err is set
	waiters int           // each gets a reference to s
	pos     wal.LSN       // once the checkpoint is made
	s       *stored
	err     error
}

// NewManager returns a Manager. It touches the disk at the first Acquire, which also reports bad options.
func NewManager(o ManagerOptions) *Manager {
	o.EnsureDefaults()
	m := &Manager{o: o}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.mu.err = o.Validate()
	m.mu.changed = make(chan struct{})
	return m
}

// Acquire returns a fresh snapshot, making one if there is none. It may take as long as reading the whole state; ctx bounds the
// wait, and the work goes on for the next caller. The snapshot must be released.
func (m *Manager) Acquire(ctx context.Context) (*Snapshot, error) { return m.AcquireID(ctx, "") }

// AcquireID is Acquire for a receiver that resumes: if the snapshot called id is still here and of use, whatever its age, it is
// returned, otherwise a fresh one.
func (m *Manager) AcquireID(ctx context.Context, id string) (*Snapshot, error) {
	return m.acquire(ctx, func() *stored { return m.chooseLocked(id) })
}

// AcquireNew is Acquire of a snapshot that did not exist before the call, though it may have been in the making.
func (m *Manager) AcquireNew(ctx context.Context) (*Snapshot, error) {
	return m.acquire(ctx, func() *stored { return nil })
}

func (m *Manager) acquire(ctx context.Context, choose func() *stored) (*Snapshot, error) {
	for {
		s, room, b, err := m.take(choose)
		switch {
		case s != nil || err != nil:
			return s, err
		case b != nil:
			return m.await(ctx, b)
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, fmt.Errorf("acquire snapshot: %w", ctx.Err())
		}
	}
}

// take returns a snapshot; or a build to wait for, which it has started or found; or what is closed when there may be room for one.
func (m *Manager) take(choose func() *stored) (*Snapshot, <-chan struct{}, *build, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.mu.err != nil:
		return nil, nil, nil, m.mu.err
	case m.mu.closed:
		return nil, nil, nil, fmt.Errorf("acquire snapshot: %w", ErrClosed)
	}
	if s := choose(); s != nil {
		m.refLocked(s)
		return &Snapshot{manager: m, stored: s}, nil, nil, nil
	}
	b := m.mu.building
	if b == nil {
		if !m.roomLocked() {
			return nil, m.mu.changed, nil, nil
		}
		b = &build{done: make(chan struct{})}
		m.mu.building = b
		m.work.Add(1)
		go m.build(b)
	}
	b.waiters++
	return nil, nil, b, nil
}

// await returns the outcome of a build that take has entered the caller for.
func (m *Manager) await(ctx context.Context, b *build) (*Snapshot, error) {
	select {
	case <-b.done:
	case <-ctx.Done():
		m.mu.Lock()
		b.waiters--
		s := b.s
		m.mu.Unlock()
		if s != nil {
			m.release(s) // finished at the same moment, with a reference for us
		}
		return nil, fmt.Errorf("acquire snapshot: %w", ctx.Err())
	}
	if b.err != nil {
		return nil, fmt.Errorf("acquire snapshot: %w", b.err)
	}
	return &Snapshot{manager: m, stored: b.s}, nil
}

// chooseLocked returns the snapshot called id, or else the newest that is fresh.
func (m *Manager) chooseLocked(id string) *stored {
	start := m.o.LogStart()
	var best *stored
	for _, s := range m.mu.kept {
		if s.m.Position.LSN < start {
			continue
		}
		if id != "" && s.m.ID == id {
			return s
		}
		if time.Since(s.m.Created) <= m.o.Fresh {
			best = s
		}
	}
	return best
}

// roomLocked makes room for one more by removing the oldest that nobody uses.
func (m *Manager) roomLocked() bool {
	if len(m.mu.kept) < m.o.MaxKept {
		return true
	}
	for _, s := range m.mu.kept {
		if s.refs == 0 {
			m.removeLocked(s)
			return true
		}
	}
	return false
}

func (m *Manager) refLocked(s *stored) {
	s.refs++
	if s.expires != nil {
		s.expires.Stop()
		s.expires = nil
	}
}

func (m *Manager) release(s *stored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.refs--
	if s.refs > 0 {
		return
	}
	if m.mu.closed {
		m.removeLocked(s)
		return
	}
	m.expireLocked(s)
	m.changedLocked()
}

func (m *Manager) expireLocked(s *stored) {
	s.expires = time.AfterFunc(m.o.Keep, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if s.refs == 0 && !m.mu.closed {
			m.removeLocked(s)
		}
	})
}

// removeLocked forgets a snapshot and removes its files: links, so this does not take long.
func (m *Manager) removeLocked(s *stored) {
	for i, k := range m.mu.kept {
		if k == s {
			m.mu.kept = append(m.mu.kept[:i], m.mu.kept[i+1:]...)
			break
		}
	}
	if s.expires != nil {
		s.expires.Stop()
	}
	if err := m.o.FS.RemoveAll(s.dir); err != nil {
		m.o.Logger.Warn("snapshot not removed", "id", s.m.ID, "error", err)
	}
	m.changedLocked()
}

func (m *Manager) changedLocked() {
	close(m.mu.changed)
	m.mu.changed = make(chan struct{})
}

// Oldest is the lowest position of the snapshots in use or being made: the log must be kept from there, or their receivers could not go on by
// streaming. False when none is in use.
func (m *Manager) Oldest() (wal.LSN, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var low wal.LSN
	found := false
	if b := m.mu.building; b != nil && b.pos > 0 {
		low, found = b.pos, true
	}
	for _, s := range m.mu.kept {
		if s.refs > 0 && (!found || s.m.Position.LSN < low) {
			low, found = s.m.Position.LSN, true
		}
	}
	return low, found
}

// Close ends the work in progress and removes the snapshots that nobody uses; the others go with their Release.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.mu.closed = true
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range append([]*stored(nil), m.mu.kept...) {
		if s.refs == 0 {
			m.removeLocked(s)
		}
	}
	return nil
}
