package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// Source makes checkpoints: a directory with the state at one exact position. internal/kv implements it.
type Source interface {
	// Checkpoint writes into dir, which does not exist yet, and returns the position of what it wrote.
	Checkpoint(dir string) (wal.Position, error)
}

// Progress tells how far the hashing of a new snapshot is.
type Progress struct {
	ID          string
	Done, Total int64 // bytes
}

// ManagerOptions configure a Manager.
type ManagerOptions struct {
	// FS is the file system; default vfs.Default.
	FS vfs.FS
	// Dir is the staging directory, on the file system of the state. It belongs to the Manager, which empties it.
	Dir string
	// Cluster and Group are written into the manifests.
	Cluster, Group string
	// Source makes the checkpoints.
	Source Source
	// LogStart is the LSN just before the first record of the log. A snapshot below it is of no use to a receiver, because streaming
	// could not go on from there; it is not handed out again. Nil: all are of use.
	LogStart func() wal.LSN
	// Keep is for how long an unused snapshot stays, for a receiver to resume; default 10 min.
	Keep time.Duration
	// MaxKept bounds the snapshots on disk; when all of them are in use, Acquire of another waits. Default 2.
	MaxKept int
	// Fresh is up to which age a snapshot is handed out to a receiver that did not ask for it; default 2 min.
	Fresh time.Duration
	// OnProgress, if set, is called while a snapshot is made, about once a MiB, from its goroutine.
	OnProgress func(Progress)
	// Logger defaults to discard.
	Logger *slog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *ManagerOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.LogStart == nil {
		o.LogStart = func() wal.LSN { return 0 }
	}
	if o.Keep == 0 {
		o.Keep = 10 * time.Minute
	}
	if o.MaxKept == 0 {
		o.MaxKept = 2
	}
	if o.Fresh == 0 {
		o.Fresh = 2 * time.Minute
	}
	if o.OnProgress == nil {
		o.OnProgress = func(Progress) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot be.
func (o *ManagerOptions) Validate() error {
	switch {
	case o.Dir == "" || o.Source == nil:
		return errors.New("snapshot options: dir and source are required")
	case o.Cluster == "" || o.Group == "":
		return errors.New("snapshot options: cluster and group are required")
	case o.Keep < 0 || o.MaxKept < 1 || o.Fresh < 0:
		return fmt.Errorf("snapshot options: keep %v, at most %d, fresh %v", o.Keep, o.MaxKept, o.Fresh)
	}
	return nil
}

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
	for {
		s, room, b, err := m.take(id)
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
func (m *Manager) take(id string) (*Snapshot, <-chan struct{}, *build, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.mu.err != nil:
		return nil, nil, nil, m.mu.err
	case m.mu.closed:
		return nil, nil, nil, fmt.Errorf("acquire snapshot: %w", ErrClosed)
	}
	if s := m.chooseLocked(id); s != nil {
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
