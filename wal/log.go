package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/failpoint"
)

// Log is one group's log in one directory. All methods are safe for concurrent use.
//
// Lock order: app, head, then mu; the preparer's and a Writer's own locks are taken last and never held while another is taken.
type Log struct {
	o    Options
	dir  *directory
	prep *preparer
	dec  decoders

	// app is held by whoever changes the end of the log: AppendFrames, the Writer's goroutine, TruncateTail, Reset, Close. It
	// is held during writes and syncs.
	app struct {
		turn
		seg      *segment
		file     vfs.File // seg, open for writing; nil only after a failure
		off      int64    // where the next frame goes: the terminator stands there
		size     int64    // of the file
		unsynced LSN      // first LSN written since the last sync, 0 if none
		scratch  []byte   // for writes of several frames
		offs     []int64  // for publish
		asked    bool     // the next segment was asked for
	}

	// head serializes what changes the beginning of the log.
	head turn

	// mu guards what readers see. It is held for moments only.
	mu struct {
		sync.Mutex
		segs    []*segment // ascending, never empty
		tail    memoryTail
		end     Position // end of the last published frame
		durable Position // end of the last synced frame
		readers map[*Reader]struct{}
		writer  *Writer // the open one
		cuts    uint64  // counts TruncateTail and Reset
		filled  uint64  // counts Fill
		failed  error   // wraps ErrFailed
		closed  bool
	}

	busy  atomic.Int64 // unix ns when the present write or sync began, 0 if none
	stats struct {
		frames, records, bytes, writes, syncs, syncTime, rotations atomic.Uint64
	}
}

// Open recovers the log in o.Dir, or creates it, by the rules in the package comment. On return every frame up to
// Recovery.End is durable and the clean-stop mark is gone. Errors: *CorruptError (ErrCorrupt, ErrForeign, ErrVersion; nothing was
// changed), I/O errors.
func Open(o Options) (*Log, Recovery, error) {
	begin := time.Now()
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, Recovery{}, err
	}
	dir, err := openDirectory(o.FS, o.Dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	failpoint.Hit(failpoint.RecoverLog)
	r := &recoverer{o: o, dir: dir}
	l := &Log{o: o, dir: dir, head: newTurn()}
	l.app.turn = newTurn()
	err = r.run()
	if err == nil {
		err = l.start(r)
	}
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("open log %s: %w", o.Dir, errors.Join(err, dir.close()))
	}
	r.rec.Took = time.Since(begin)
	return l, r.rec, nil
}

// start takes over what recovery found and starts the preparer.
func (l *Log) start(r *recoverer) error {
	last := r.segs[len(r.segs)-1]
	if err := l.openLast(last); err != nil {
		return err
	}
	l.mu.segs, l.mu.end, l.mu.durable = r.segs, last.last, last.last
	l.mu.tail.limit = l.o.MemoryBytes
	l.mu.readers = make(map[*Reader]struct{})
	l.prep = newPreparer(l.dir, l.o.SegmentBytes, l.o.Logger)
	l.prep.mu.ready, l.prep.mu.spares = r.next, r.spares
	go l.prep.run()
	l.askNext()
	return nil
}

// openLast makes s the segment that is appended to. app is held, or nobody else knows the log yet.
func (l *Log) openLast(s *segment) error {
	f, err := l.o.FS.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.path, err)
	}
	l.app.seg, l.app.file, l.app.off, l.app.size, l.app.asked = s, f, s.end, s.size, false
	return nil
}

// closeLast closes the file that is appended to, once. app is held.
func (l *Log) closeLast() error {
	f := l.app.file
	if l.app.file = nil; f == nil {
		return nil
	}
	return f.Close()
}

// Start is the position just before the first retained frame.
func (l *Log) Start() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.segs[0].prev
}

// End is the end of the last published frame. It may not be durable yet.
func (l *Log) End() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.end
}

// Durable is the end of the last synced frame.
func (l *Log) Durable() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.durable
}

// Failed returns the error (wrapping ErrFailed) after which nothing is appended or acked any more, nil while all is well.
func (l *Log) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.failed
}

// Fail makes the log fail from outside: a watchdog over Busy calls it when a sync is stuck. A sync that completes later
// does not move Durable (R10).
func (l *Log) Fail(err error) { _ = l.fail(err) }

// fail makes the failure sticky, wakes all who wait, and returns the error to hand on. The first failure wins.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	if l.mu.failed == nil {
		l.mu.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		l.o.Logger.Error("log failed", "error", err, "durable", uint64(l.mu.durable.LSN), "end", uint64(l.mu.end.LSN))
	}
	failed, w := l.mu.failed, l.mu.writer
	l.wakeReaders()
	l.mu.Unlock()
	if w != nil {
		w.stop(failed)
	}
	return failed
}

// usable reports why the end of the log must not be changed. app is held.
func (l *Log) usable(byWriter bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.closed:
		return ErrClosed
	case l.mu.failed != nil:
		return l.mu.failed
	case l.mu.writer != nil && !byWriter:
		return ErrWriterOpen
	}
	return nil
}

// SettleDoubt durably forgets that a tail was cut whose records may have been durable (Recovery.Doubt). Call it once this
// node's right to vote no longer depends on it: after "not a voter" was persisted, or the peers were asked (R8, R11).
func (l *Log) SettleDoubt() error { return l.dir.removeNote(noteDoubt) }

// Close closes an open Writer, syncs, and writes the clean-stop mark. Readers get ErrClosed. A failed log gets no mark, and
// its error is returned.
func (l *Log) Close() error {
	l.mu.Lock()
	w := l.mu.writer
	l.mu.Unlock()
	var err error
	if w != nil {
		err = w.Close()
	}
	l.app.Lock()
	defer l.app.Unlock()
	l.head.Lock()
	defer l.head.Unlock()
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return nil
	}
	l.mu.closed = true
	failed := l.mu.failed
	l.wakeReaders()
	l.mu.Unlock()
	l.prep.close()
	if failed == nil && err == nil {
		err = l.markClean()
	}
	if err = errors.Join(err, l.closeLast(), l.dir.close()); err != nil && failed == nil {
		return fmt.Errorf("close log %s: %w", l.o.Dir, err)
	}
	return failed
}

// markClean syncs what is written and records that nothing follows.
func (l *Log) markClean() error {
	if err := l.app.file.Sync(); err != nil {
		return fmt.Errorf("sync segment %s: %w", l.app.seg.path, err)
	}
	return l.dir.writeNote(noteClean, cleanNote{End: l.mu.end, Seq: l.app.seg.seq})
}
