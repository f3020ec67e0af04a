package wal

import (
	"fmt"
	"sort"
	"time"
)

// PositionAt returns the greatest frame end at or below lsn; the start and the end of the log count. Errors: ErrTrimmed below
// the start.
func (l *Log) PositionAt(lsn LSN) (Position, error) {
	l.mu.Lock()
	start, end := l.mu.segs[0].prev, l.mu.end
	f := l.mu.tail.holding(lsn)
	l.mu.Unlock()
	switch {
	case lsn < start.LSN:
		return Position{}, trimmed(lsn, start)
	case lsn == start.LSN:
		return start, nil
	case lsn >= end.LSN:
		return end, nil
	case f != nil && f.Last() == lsn:
		return f.End(), nil
	}
	pos := start
	err := l.scan(lsn, func(w *walker, st step) bool {
		if pos = w.pos; st.found != foundFrame {
			return true // the end of the segment
		}
		return st.head.Last() > lsn
	})
	return pos, err
}

// FrameAt returns the frame that contains the record. Errors: ErrTrimmed, ErrGap behind the end.
func (l *Log) FrameAt(lsn LSN) (f *Frame, err error) {
	if f, err = l.inMemory(lsn); f != nil || err != nil {
		return f, err
	}
	err = l.scan(lsn-1, func(_ *walker, st step) bool {
		if st.found != foundFrame || st.head.Last() < lsn {
			return false
		}
		f = st.copyFrame(&l.dec)
		return true
	})
	return f, err
}

// TimeOf returns the wall-clock time of the frame that contains the record. Errors as FrameAt.
func (l *Log) TimeOf(lsn LSN) (time.Time, error) {
	f, err := l.FrameAt(lsn)
	if err != nil {
		return time.Time{}, err
	}
	return f.Time, nil
}

// inMemory returns the frame that contains the record if it is in memory, nil if it is only on disk.
func (l *Log) inMemory(lsn LSN) (*Frame, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if start := l.mu.segs[0].prev; lsn <= start.LSN {
		return nil, trimmed(lsn, start)
	}
	if lsn > l.mu.end.LSN {
		return nil, fmt.Errorf("%w: LSN %d is behind the end %d", ErrGap, lsn, l.mu.end.LSN)
	}
	return l.mu.tail.holding(lsn), nil
}

func trimmed(lsn LSN, start Position) error {
	return fmt.Errorf("%w: LSN %d, the log begins at %d", ErrTrimmed, lsn, start.LSN+1)
}

// segmentOf returns the segment that holds the record, else the last one. Log.mu is held.
func (l *Log) segmentOf(lsn LSN) *segment {
	i := sort.Search(len(l.mu.segs), func(i int) bool { return l.mu.segs[i].last.LSN >= lsn })
	return l.mu.segs[min(i, len(l.mu.segs)-1)]
}

// scan walks through the segment of the record behind lsn until stop, from some frame at or before it. Behind the last frame
// of the segment stop sees a step that is no frame. It starts again if the log was cut or trimmed meanwhile.
func (l *Log) scan(lsn LSN, stop func(*walker, step) bool) error {
	for {
		l.mu.Lock()
		if start := l.mu.segs[0].prev; lsn < start.LSN {
			l.mu.Unlock()
			return trimmed(lsn, start)
		}
		if lsn >= l.mu.end.LSN {
			l.mu.Unlock()
			return fmt.Errorf("%w: LSN %d is behind the end", ErrGap, lsn+1)
		}
		s, cuts := l.segmentOf(lsn+1), l.mu.cuts
		s.refs++
		e, end := s.seek(lsn), s.end
		l.mu.Unlock()
		err := l.scanSegment(s.path, e, end, stop)
		l.mu.Lock()
		s.refs--
		again := cuts != l.mu.cuts || err != nil && s.seq < l.mu.segs[0].seq
		l.mu.Unlock()
		if !again {
			return err
		}
	}
}

func (l *Log) scanSegment(path string, e indexEntry, end int64, stop func(*walker, step) bool) error {
	f, err := l.o.FS.Open(path)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", path, err)
	}
	defer f.Close()
	w := newWalker(f, end, e.off, e.prev, MaxFrameBytes)
	for {
		st, err := w.look()
		if err != nil {
			return fmt.Errorf("read segment %s at offset %d: %w", path, w.off, err)
		}
		if st.found != foundFrame && w.off < end {
			return damage(path, w, st, fmt.Sprintf("the log was written up to offset %d", end))
		}
		if stop(w, st) {
			return nil
		}
		if st.found != foundFrame {
			return damage(path, w, st, "the record has to be in this segment")
		}
		w.accept(st)
	}
}
