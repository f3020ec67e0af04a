package wal

import "time"

// Busy is for how long the present write or sync has been running, 0 if none is (D17).
func (l *Log) Busy() time.Duration {
	if since := l.busy.Load(); since != 0 {
		return time.Since(time.Unix(0, since))
	}
	return 0
}

// Stats are counters since Open.
type Stats struct {
	Frames, Records, Bytes uint64        // appended
	Writes, Syncs          uint64        // of segment files
	SyncTime               time.Duration // spent in syncs
	Rotations              uint64        // segments begun
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	return Stats{
		Frames: l.stats.frames.Load(), Records: l.stats.records.Load(), Bytes: l.stats.bytes.Load(),
		Writes: l.stats.writes.Load(), Syncs: l.stats.syncs.Load(),
		SyncTime: time.Duration(l.stats.syncTime.Load()), Rotations: l.stats.rotations.Load(),
	}
}

// SegmentInfo describes a segment.
type SegmentInfo struct {
	Seq     uint64
	Path    string
	First   LSN
	Last    LSN       // First-1 while empty
	Bytes   int64     // in use
	Size    int64     // of the file
	Created time.Time // when it was begun
}

// Segments lists the segments, the oldest first.
func (l *Log) Segments() []SegmentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]SegmentInfo, len(l.mu.segs))
	for i, s := range l.mu.segs {
		out[i] = SegmentInfo{Seq: s.seq, Path: s.path, First: s.prev.LSN + 1, Last: s.last.LSN, Bytes: s.end, Size: s.size, Created: s.created}
	}
	return out
}

// Bytes is the size of all segment files.
func (l *Log) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.mu.segs {
		n += s.size
	}
	return n
}
