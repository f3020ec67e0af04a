package kv

import "repld/wal"

// Metrics are numbers for status and monitoring. Counters start at zero with Open.
type Metrics struct {
	Applied          wal.Position
	Keys             int64  // user keys, expired ones that are not yet deleted included
	Records          uint64 // applied
	Commits          uint64 // Pebble commits that applied them
	BackgroundErrors uint64
	DiskBytes        uint64 // files of the state
	MemTableBytes    uint64
	CacheBytes       int64
	CacheHits        int64
	CacheMisses      int64
	Flushes          int64
	Compactions      int64
	CompactionDebt   uint64 // estimated bytes that compactions have yet to write
	L0Sublevels      int32  // files that a read may have to look into above the sorted levels
	WriteStalls      uint64 // commits that had to wait for a flush
	Snapshots        int
}

// Metrics returns the current numbers; after Close, the last that are kept in memory.
func (s *Store) Metrics() Metrics {
	m := Metrics{Applied: s.Applied(), Keys: s.keys.Load(), BackgroundErrors: s.health.errors()}
	m.Records, m.Commits = s.records.Load(), s.commits.Load()
	m.WriteStalls = s.health.stalls.Load()
	if s.enter() != nil {
		return m
	}
	defer s.gate.leave()
	p := s.db.Metrics()
	m.DiskBytes = p.DiskSpaceUsage()
	m.MemTableBytes = p.MemTable.Size
	m.CacheBytes, m.CacheHits, m.CacheMisses = p.BlockCache.Size, p.BlockCache.Hits, p.BlockCache.Misses
	m.Flushes, m.Compactions = p.Flush.Count, p.Compact.Count
	m.CompactionDebt = p.Compact.EstimatedDebt
	m.L0Sublevels = p.Levels[0].Sublevels
	m.Snapshots = p.Snapshots.Count
	return m
}
