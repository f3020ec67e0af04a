package snapshot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// build makes a snapshot and tells everybody who waits for it.
func (m *Manager) build(b *build) {
	defer m.work.Done()
	s, err := m.create(b)

	m.mu.Lock()
	defer m.mu.Unlock()
	b.s, b.err = s, err
	m.mu.building = nil
	if s != nil {
		m.mu.kept = append(m.mu.kept, s)
		s.refs = b.waiters
		if s.refs == 0 {
			m.expireLocked(s)
		}
	}
	close(b.done)
}

func (m *Manager) create(b *build) (*stored, error) {
	start := time.Now()
	if err := m.sweep(); err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("make snapshot: %w", err)
	}
	dir := m.o.FS.PathJoin(m.o.Dir, id)
	pos, err := m.o.Source.Checkpoint(dir)
	m.mu.Lock()
	b.pos = pos.LSN
	m.mu.Unlock()
	if err == nil && pos.LSN < m.o.LogStart() {
		err = fmt.Errorf("position %s is below the log's start at %d", pos, m.o.LogStart())
	}
	var s *stored
	if err == nil {
		s, err = m.describe(id, dir, pos, start)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make snapshot: %w", err), m.o.FS.RemoveAll(dir))
	}
	m.o.Logger.Info("snapshot made", "id", id, "position", pos.String(), "files", len(s.m.Files),
		"bytes", s.m.Bytes(), "duration", time.Since(start))
	return s, nil
}

func newID() (string, error) {
	var nonce [8]byte
	_, err := rand.Read(nonce[:])
	return hex.EncodeToString(nonce[:]), err
}

// sweep removes, once, what an earlier process left: nobody knows what is complete there.
func (m *Manager) sweep() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.swept {
		return nil
	}
	if err := m.o.FS.RemoveAll(m.o.Dir); err != nil {
		return fmt.Errorf("empty staging directory: %w", err)
	}
	if err := m.o.FS.MkdirAll(m.o.Dir, 0o700); err != nil {
		return fmt.Errorf("make staging directory: %w", err)
	}
	m.mu.swept = true
	return nil
}

// describe hashes the files of a checkpoint into its manifest.
func (m *Manager) describe(id, dir string, pos wal.Position, created time.Time) (*stored, error) {
	files, total, err := listFiles(m.o.FS, dir)
	if err != nil {
		return nil, err
	}
	p := Progress{ID: id, Total: total}
	for i := range files {
		f := &files[i]
		f.Size, f.Hash, err = hashFile(m.ctx, m.o.FS, m.o.FS.PathJoin(dir, f.Name), func(n int) {
			p.Done += int64(n)
			m.o.OnProgress(p)
		})
		if err != nil {
			return nil, fmt.Errorf("hash %s: %w", f.Name, err)
		}
	}
	man := Manifest{
		Format: Format, Cluster: m.o.Cluster, Group: m.o.Group, ID: id,
		Position: pos, Created: created.UTC().Round(0), Files: files,
	}
	if err := man.validate(); err != nil {
		return nil, err
	}
	return &stored{m: man, dir: dir}, nil
}

func listFiles(fs vfs.FS, dir string) (files []File, total int64, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(names)
	for _, name := range names {
		if name == lockName {
			continue
		}
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return nil, 0, err
		}
		files = append(files, File{Name: name, Size: info.Size()})
		total += info.Size()
	}
	return files, total, nil
}

// Snapshot is a snapshot on disk that its holder may read until Release.
type Snapshot struct {
	manager *Manager
	stored  *stored
	done    bool
}

// Manifest describes the snapshot. The caller must not change its Files.
func (s *Snapshot) Manifest() Manifest { return s.stored.m }

// Dir is where the files lie. They must not be changed, and are gone after Release.
func (s *Snapshot) Dir() string { return s.stored.dir }

// Open opens one of the manifest's files for reading.
func (s *Snapshot) Open(name string) (vfs.File, error) {
	if s.done {
		return nil, fmt.Errorf("snapshot file %q: %w", name, ErrClosed)
	}
	if _, err := s.stored.m.file(name); err != nil {
		return nil, err
	}
	fs := s.manager.o.FS
	return fs.Open(fs.PathJoin(s.stored.dir, name), vfs.SequentialReadsOption)
}

// Release gives the snapshot back. It is kept for a while, for a receiver that resumes. A second call does nothing.
func (s *Snapshot) Release() {
	if s.done {
		return
	}
	s.done = true
	s.manager.release(s.stored)
}
