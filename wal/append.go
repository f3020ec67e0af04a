package wal

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/failpoint"
)

// groupBytes bounds what AppendFrames writes with one system call.
const groupBytes = 4 << 20

// AppendFrames appends frames as another node wrote them, in order, with one sync; they are durable on return. Readers see
// them before the sync. Nothing is appended if one of them does not fit: ErrGap (not the next LSN), ErrDiverged (another history),
// ErrStaleEpoch, ErrTooLarge, ErrCorrupt. After an I/O error the log has failed (ErrFailed, R10). It returns the durable end.
func (l *Log) AppendFrames(frames []*Frame) (Position, error) {
	l.app.Lock()
	defer l.app.Unlock()
	if err := l.usable(false); err != nil {
		return Position{}, err
	}
	if err := l.admissible(frames); err != nil {
		return Position{}, err
	}
	if err := l.put(frames); err != nil {
		return Position{}, err
	}
	return l.sync()
}

// admissible checks that frames continue the log. app is held.
func (l *Log) admissible(frames []*Frame) error {
	end := l.End()
	for _, f := range frames {
		if err := f.check(l.o.MaxFrameBytes); err != nil {
			return err
		}
		switch {
		case f.First != end.LSN+1:
			return fmt.Errorf("%w: frame of LSN %d to %d after LSN %d", ErrGap, f.First, f.Last(), end.LSN)
		case f.Prev != end.Hash:
			return fmt.Errorf("%w: frame at LSN %d follows hash %v, the log has %v", ErrDiverged, f.First, f.Prev, end.Hash)
		case f.Epoch < end.Epoch:
			return fmt.Errorf("%w: frame at LSN %d in epoch %d, the log is in epoch %d", ErrStaleEpoch, f.First, f.Epoch, end.Epoch)
		}
		end = f.End()
	}
	return nil
}

// put writes frames behind the end, each write with a zero terminator, and publishes them. It syncs only when a segment is
// full. app is held; the frames are admissible.
func (l *Log) put(frames []*Frame) error {
	for len(frames) > 0 {
		failpoint.Hit(failpoint.WALBeforeWrite)
		n, err := l.putGroup(frames)
		if err != nil {
			return l.fail(err)
		}
		l.stats.writes.Add(1)
		failpoint.Hit(failpoint.WALAfterWrite)
		l.publish(frames[:n])
		frames = frames[n:]
	}
	l.askNext()
	return nil
}

// putGroup writes as many frames as go into one write: they fit in the segment and in groupBytes. l.app.offs gets where each
// of them begins, and where the last one ends.
func (l *Log) putGroup(frames []*Frame) (int, error) {
	if !l.fits(frames[0]) {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	a := &l.app
	l.busy.Store(time.Now().UnixNano())
	defer l.busy.Store(0)
	if f := frames[0]; a.unsynced == 0 && f.padded != nil && (len(frames) == 1 || len(f.padded) > groupBytes || !l.fitsAt(frames[1], a.off+f.Size())) {
		a.unsynced = f.First
		a.offs = append(a.offs[:0], a.off, a.off+f.Size())
		if err := writeAt(a.file, f.padded, a.off); err != nil {
			return 0, fmt.Errorf("write segment %s at offset %d: %w", a.seg.path, a.off, err)
		}
		a.off += f.Size()
		return 1, nil
	}
	return l.putCopies(frames)
}

// putCopies is putGroup for frames that have to be copied together.
func (l *Log) putCopies(frames []*Frame) (int, error) {
	a := &l.app
	b, n, off := a.scratch[:0], 0, a.off
	a.offs = a.offs[:0]
	for _, f := range frames {
		if n > 0 && (int64(len(b))+f.Size() > groupBytes || !l.fitsAt(f, off)) {
			break
		}
		a.offs = append(a.offs, off)
		if a.unsynced == 0 {
			a.unsynced = f.First
		} else {
			b = joinMark{size: joinSize(off), begin: a.unsynced, next: f.First}.append(b)
		}
		b = append(b, f.Bytes...)
		off = a.off + int64(len(b))
		n++
	}
	a.offs = append(a.offs, off)
	b = append(b, make([]byte, HeaderSize)...)
	if err := writeAt(a.file, b, a.off); err != nil {
		return 0, fmt.Errorf("write segment %s at offset %d: %w", a.seg.path, a.off, err)
	}
	if a.off = off; cap(b) <= 2*groupBytes {
		a.scratch = b
	}
	return n, nil
}

// fits reports whether the next write may begin with f. A frame larger than a segment gets a segment of its own, which grows.
func (l *Log) fits(f *Frame) bool { return l.app.off == segmentHeader || l.fitsAt(f, l.app.off) }

func (l *Log) fitsAt(f *Frame, off int64) bool {
	return off+joinSize(off)+f.Size()+HeaderSize <= l.app.size
}

// publish lets readers see frames that are written. app is held.
func (l *Log) publish(frames []*Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.app.seg
	for i, f := range frames {
		s.add(f.Header, l.app.offs[i], l.app.offs[i+1])
		l.mu.tail.push(f)
		l.stats.records.Add(uint64(f.Count))
		l.stats.bytes.Add(uint64(f.Size()))
	}
	l.stats.frames.Add(uint64(len(frames)))
	s.size = max(s.size, s.end+HeaderSize)
	l.app.size = s.size
	l.mu.end = s.last
	l.wakeReaders()
}

// sync makes everything written durable. The error is the sticky one. app is held.
func (l *Log) sync() (Position, error) {
	end := l.End()
	if l.app.unsynced != 0 {
		failpoint.Hit(failpoint.WALBeforeSync)
		begin := time.Now()
		outer := l.busy.Swap(begin.UnixNano())
		err := l.app.file.SyncData()
		l.busy.Store(outer)
		if err != nil {
			return Position{}, l.fail(fmt.Errorf("sync segment %s: %w", l.app.seg.path, err))
		}
		l.stats.syncs.Add(1)
		l.stats.syncTime.Add(uint64(time.Since(begin)))
		failpoint.Hit(failpoint.WALAfterSync)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failed != nil {
		return Position{}, l.mu.failed // by Fail, while the sync ran: not acked (R10)
	}
	l.app.unsynced = 0
	l.mu.durable = end
	return end, nil
}

// rotate begins the next segment. What is in the present one is made durable before: the header of a segment proves that.
// app is held.
func (l *Log) rotate() error {
	// A disk that hangs while the next segment is prepared is as bad as one that hangs in a write (D17).
	l.busy.Store(time.Now().UnixNano())
	defer l.busy.Store(0)
	if _, err := l.sync(); err != nil {
		return err
	}
	seq := l.app.seg.seq + 1
	if err := l.prep.take(seq); err != nil {
		return fmt.Errorf("next segment: %w", err)
	}
	path := l.dir.join(segmentName(seq))
	f, err := l.o.FS.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", path, err)
	}
	failpoint.Hit(failpoint.WALRotate)
	old, end := l.app.file, l.End()
	l.app.file, l.app.off, l.app.asked = f, segmentHeader, false
	if err := old.Close(); err != nil {
		return fmt.Errorf("close segment %s: %w", l.app.seg.path, err)
	}
	if l.app.size, err = fileSize(f); err != nil {
		return fmt.Errorf("stat segment %s: %w", path, err)
	}
	s := &segment{seq: seq, path: path, prev: end, created: time.Now(), last: end, end: segmentHeader, size: l.app.size}
	if err := beginSegment(f, segmentHead{Identity: l.o.Identity, Seq: seq, Prev: end, Created: s.created}); err != nil {
		return fmt.Errorf("segment %s: %w", path, err)
	}
	l.app.seg = s
	l.stats.rotations.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.segs = append(l.mu.segs, s)
	return nil
}

// askNext asks for the next segment once a quarter of the present one is used. app is held.
func (l *Log) askNext() {
	if !l.app.asked && l.app.off >= l.app.size/4 {
		l.app.asked = true
		l.prep.request(l.app.seg.seq + 1)
	}
}
