package wal

import "fmt"

// TruncateHead removes the oldest segments whose records are all at or below keepAfter and durable; never the one that is
// appended to. Removed files are recycled up to Options.Spares. The log's start moves before the files go, one by one, the
// oldest first, each step durable: a crash leaves a shorter log, never a gap (D19). It returns how many segments went.
func (l *Log) TruncateHead(keepAfter LSN) (removed int, err error) {
	l.head.Lock()
	defer l.head.Unlock()
	for {
		s, busy := l.popHead(keepAfter)
		if s == nil {
			return removed, nil
		}
		if err := l.discard(s, busy); err != nil {
			return removed, fmt.Errorf("trim segment %s: %w", s.path, err)
		}
		removed++
	}
}

// popHead takes the oldest segment out of the log if it may go. busy tells that somebody reads its file.
func (l *Log) popHead(keepAfter LSN) (s *segment, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s = l.mu.segs[0]
	if l.mu.closed || len(l.mu.segs) == 1 || s.last.LSN > keepAfter || s.last.LSN > l.mu.durable.LSN {
		return nil, false
	}
	l.mu.segs = l.mu.segs[1:]
	l.wakeReaders()
	return s, s.refs > 0
}

// discard recycles or removes the file of a segment that left the log. A file that is being read is only removed: its bytes
// stay as they are until it is closed.
func (l *Log) discard(s *segment, busy bool) error {
	if busy || l.prep.spareCount() >= l.o.Spares {
		return l.dir.remove(segmentName(s.seq))
	}
	if err := l.o.FS.Rename(s.path, l.dir.join(spareName(s.seq))); err != nil {
		return err
	}
	if err := l.dir.sync(); err != nil {
		return err
	}
	l.prep.addSpare(s.seq)
	return nil
}
