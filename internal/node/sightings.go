package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/durable"
)

// sightings are how far this node saw the logs of its peers, by their heartbeats. A peer whose directory was put back from an older copy looks sound to itself: log, state and epoch file agree. Only
// others can know better, and the promotion rule asks them (failover.Answer.Seen; R11, fault row H2).
//
// It is kept in the file `seen`, replaced as a whole: every seenEvery while something changes, and at a clean stop. What was acked after the last write is not known to a node that lost power since; one that runs
// knows it to the last heartbeat. It is evidence and nothing else, so a file that cannot be read is none.
type sightings struct {
	mu struct {
		sync.Mutex
		by      map[string]failover.Sighting
		changed bool
	}
	fs     vfs.FS
	dir    string
	logger *slog.Logger
}

const (
	seenFile     = "seen"
	seenEvery    = 5 * time.Second
	maxSeenBytes = 64 << 10
)

// seenRecord is the file: a checksum of Peers' bytes, and they.
type seenRecord struct {
	Sum   uint32          `json:"crc32c"`
	Peers json.RawMessage `json:"peers"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// open reads what was seen before the start.
func (s *sightings) open(files vfs.FS, dir string, logger *slog.Logger) {
	s.fs, s.dir, s.logger = files, dir, logger
	by, err := readSeen(files, s.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Warn("what was seen of the peers is not known any more", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.by = by; by == nil {
		s.mu.by = map[string]failover.Sighting{}
	}
}

func (s *sightings) path() string { return s.fs.PathJoin(s.dir, seenFile) }

func readSeen(files vfs.FS, path string) (map[string]failover.Sighting, error) {
	b, err := durable.ReadFile(files, path, maxSeenBytes)
	if err != nil {
		return nil, err
	}
	var r seenRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if sum := crc32.Checksum(r.Peers, castagnoli); sum != r.Sum {
		return nil, fmt.Errorf("read %s: checksum %08x, not %08x as it says", path, sum, r.Sum)
	}
	var by map[string]failover.Sighting
	if err := json.Unmarshal(r.Peers, &by); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return by, nil
}

// heard takes note of a peer's word. Of one incarnation the most advanced position stays; a new incarnation has forgotten what the former one had.
func (s *sightings) heard(b failover.Beat) {
	if b.Inc == "" {
		return // of an older version
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.mu.by[b.Node]
	if was.Incarnation == b.Inc && !b.Position.Ahead(was.Position) {
		return
	}
	s.mu.by[b.Node] = failover.Sighting{Incarnation: b.Inc, Position: b.Position}
	s.mu.changed = true
}

func (s *sightings) all() map[string]failover.Sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.mu.by)
}

// run writes what changed until ctx ends, and then once more. A write that fails is tried again with the next.
func (s *sightings) run(ctx context.Context) error {
	t := time.NewTicker(seenEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			s.save()
			return nil
		}
		s.save()
	}
}

func (s *sightings) save() {
	s.mu.Lock()
	changed, by := s.mu.changed, maps.Clone(s.mu.by)
	s.mu.changed = false
	s.mu.Unlock()
	if !changed {
		return
	}
	if err := writeSeen(s.fs, s.dir, by); err != nil {
		s.logger.Warn("what was seen of the peers is not written", "error", err)
		s.mu.Lock()
		s.mu.changed = true
		s.mu.Unlock()
	}
}

// writeSeen makes the file durable, whole or not at all.
func writeSeen(files vfs.FS, dir string, by map[string]failover.Sighting) error {
	peers, err := json.Marshal(by)
	if err != nil {
		return err
	}
	b, err := json.Marshal(seenRecord{Sum: crc32.Checksum(peers, castagnoli), Peers: peers})
	if err != nil {
		return err
	}
	path := files.PathJoin(dir, seenFile)
	if err := durable.WriteFile(files, path+".new", b); err != nil {
		return err
	}
	if err := files.Rename(path+".new", path); err != nil {
		return fmt.Errorf("rename %s: %w", path, err)
	}
	return durable.SyncDir(files, dir)
}
