package wal

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Reader follows the log from one position on: from memory what is still there, else from disk. A frame is delivered as soon
// as it is written, which may be before it is durable. One goroutine uses a Reader at a time; Close may come from any.
type Reader struct {
	l      *Log
	notify chan struct{}

	disk diskReader // owned by the goroutine that reads, or under Log.mu while reading is false

	// Written by the goroutine that reads, under Log.mu.
	pos Position // end of the last frame delivered

	// Guarded by Log.mu.
	err     error // why nothing more is delivered
	reading bool  // disk is in use outside the lock
}

// diskReader is a Reader's place in a segment file.
type diskReader struct {
	seg  *segment // nil when no file is open; counted in seg.refs
	file vfs.File
	walk *walker
	cuts uint64 // Log.mu.cuts when the walk began
}

// NewReader returns a reader of the frames behind the LSN, which has to be a frame's end (or the log's start). Errors: ErrTrimmed
// below the start, ErrGap if it is no frame's end or beyond the log, ErrClosed.
func (l *Log) NewReader(after LSN) (*Reader, error) {
	pos, err := l.PositionAt(after)
	if err != nil {
		return nil, err
	}
	if pos.LSN != after {
		return nil, fmt.Errorf("%w: LSN %d is not the end of a frame, the one before ends at %d", ErrGap, after, pos.LSN)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil, ErrClosed
	}
	if l.mu.end.LSN < after {
		return nil, fmt.Errorf("%w: LSN %d is behind the end %d", ErrGap, after, l.mu.end.LSN)
	}
	r := &Reader{l: l, notify: make(chan struct{}, 1), pos: pos}
	l.mu.readers[r] = struct{}{}
	return r, nil
}

// Position is the end of the last frame delivered, or where the reader began.
func (r *Reader) Position() Position { return r.pos }

// Notify returns a channel that gets a value when TryNext may have something new to say: a frame, a cut, a failure, the
// close. It holds one value at most, so call TryNext until it returns nil before waiting on it.
func (r *Reader) Notify() <-chan struct{} { return r.notify }

// Next returns the next frame and waits for it if need be. Errors: those of TryNext, and the context's.
func (r *Reader) Next(ctx context.Context) (*Frame, error) {
	for {
		f, err := r.TryNext()
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-r.notify:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// TryNext returns the next frame, or nil if there is none yet. Errors: ErrClosed; ErrTrimmed if the place was trimmed away;
// ErrDiverged if the log was cut below it; ErrFailed at the end of a failed log; a *CorruptError for damage on disk.
func (r *Reader) TryNext() (*Frame, error) {
	for {
		f, again, err := r.attempt()
		if err != nil {
			return nil, err
		}
		if !again {
			return f, nil
		}
	}
}

// Err is the reason why nothing more will be delivered, nil while there is none. A caller that holds a frame back asks it before
// using the frame: ErrDiverged means that the frame may have been cut since.
func (r *Reader) Err() error {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	return r.stateLocked()
}

// attempt looks once: in memory, then on disk. again is true if the log changed under the read.
func (r *Reader) attempt() (f *Frame, again bool, err error) {
	l := r.l
	l.mu.Lock()
	if err := r.stateLocked(); err != nil {
		l.mu.Unlock()
		return nil, false, err
	}
	if r.pos.LSN == l.mu.end.LSN {
		err := l.mu.failed
		l.mu.Unlock()
		return nil, false, err
	}
	if f := l.mu.tail.holding(r.pos.LSN + 1); f != nil {
		r.disk.closeLocked()
		r.pos = f.End()
		l.mu.Unlock()
		return f, false, nil
	}
	open := r.disk.aimLocked(l, r.pos)
	r.reading = true
	l.mu.Unlock()
	f, err = r.disk.read(l, open, r.pos.LSN)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.reading = false
	if stateErr := r.stateLocked(); stateErr != nil {
		r.disk.closeLocked()
		return nil, false, stateErr
	}
	if r.disk.cuts != l.mu.cuts {
		r.disk.closeLocked()
		return nil, true, nil // what was read may be part of what was cut
	}
	if err != nil {
		r.disk.closeLocked()
		return nil, false, err
	}
	r.pos = f.End()
	return f, false, nil
}

// stateLocked reports why the reader must stop. Log.mu is held.
func (r *Reader) stateLocked() error {
	l := r.l
	if r.err == nil && r.pos.LSN < l.mu.segs[0].prev.LSN {
		r.err = fmt.Errorf("%w: LSN %d, the log begins at %d", ErrTrimmed, r.pos.LSN+1, l.mu.segs[0].prev.LSN+1)
	}
	if l.mu.closed {
		return ErrClosed
	}
	return r.err
}

// aimLocked chooses the segment that holds the frame behind pos. It reports whether its file has yet to be opened. Log.mu is held.
func (d *diskReader) aimLocked(l *Log, pos Position) (open bool) {
	s := l.segmentOf(pos.LSN + 1)
	if d.seg == s && d.file != nil && d.cuts == l.mu.cuts && d.walk.pos == pos {
		d.walk.win.limit = s.end
		return false
	}
	d.closeLocked()
	s.refs++
	e := s.seek(pos.LSN)
	d.seg, d.cuts = s, l.mu.cuts
	d.walk = newWalker(nil, s.end, e.off, e.prev, MaxFrameBytes)
	return true
}

// read returns the frame behind lsn. Log.mu is not held.
func (d *diskReader) read(l *Log, open bool, lsn LSN) (*Frame, error) {
	if open {
		f, err := l.o.FS.Open(d.seg.path)
		if err != nil {
			return nil, fmt.Errorf("open segment %s: %w", d.seg.path, err)
		}
		d.file, d.walk.win.f = f, f
	}
	for {
		st, err := d.walk.look()
		if err != nil {
			return nil, fmt.Errorf("read segment %s at offset %d: %w", d.seg.path, d.walk.off, err)
		}
		if st.found != foundFrame {
			return nil, damage(d.seg.path, d.walk, st, fmt.Sprintf("the log was written up to offset %d", d.walk.win.limit))
		}
		if st.head.First > lsn {
			f := st.copyFrame(&l.dec)
			d.walk.accept(st)
			return f, nil
		}
		d.walk.accept(st)
	}
}

// closeLocked lets the segment go. Log.mu is held; closing a file that was only read does not block.
func (d *diskReader) closeLocked() {
	if d.seg != nil {
		d.seg.refs--
	}
	if d.file != nil {
		_ = d.file.Close() // only read
	}
	*d = diskReader{}
}

// Close lets the reader's resources go and ends a Next that waits.
func (r *Reader) Close() {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.mu.readers[r]; !open {
		return
	}
	delete(l.mu.readers, r)
	r.err = ErrClosed
	if !r.reading {
		r.disk.closeLocked()
	}
	r.wake()
}

func (r *Reader) wake() {
	select {
	case r.notify <- struct{}{}:
	default:
	}
}

// wakeReaders tells all readers that something changed. Log.mu is held.
func (l *Log) wakeReaders() {
	for r := range l.mu.readers {
		r.wake()
	}
}
