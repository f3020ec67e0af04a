package wal

import "fmt"

// SaveOptions say where a suffix goes before it is removed from the log (R9).
type SaveOptions struct {
	Dir    string // directory of diverged suffixes; created if missing. Reset: empty saves nothing
	Reason string // for the description
	Known  LSN    // Reset: frames up to here are in the new history and need not be saved
}

// TruncateTail cuts the log behind to, which has to be one of its frame ends. The suffix is first copied, byte for byte and
// synced, into o.Dir (R9). Readers that got frames of it get ErrDiverged. A crash leaves the log as before or as after;
// calling it again after a crash finds the saved copy. Cutting nothing is no error. Errors: ErrGap, ErrDiverged,
// ErrTrimmed (to is no frame end of this log), ErrWriterOpen, ErrFailed.
func (l *Log) TruncateTail(to Position, o SaveOptions) (Diverged, error) {
	l.app.Lock()
	defer l.app.Unlock()
	l.head.Lock()
	defer l.head.Unlock()
	if err := l.usable(false); err != nil {
		return Diverged{}, err
	}
	if err := l.has(to); err != nil || to == l.End() {
		return Diverged{}, err
	}
	if o.Dir == "" {
		return Diverged{}, fmt.Errorf("cut the log to %v: no directory to save the suffix in", to)
	}
	d, err := l.save(to, o)
	if err != nil {
		return Diverged{}, err
	}
	if err := l.cut(to); err != nil {
		return d, l.fail(fmt.Errorf("cut the log to %v: %w", to, err))
	}
	l.o.Logger.Warn("log suffix cut and saved", "from", uint64(to.LSN)+1, "to", uint64(d.To.LSN), "records", d.Records, "path", d.Path, "reason", o.Reason)
	return d, nil
}

// has checks that a frame of the log ends at p.
func (l *Log) has(p Position) error {
	got, err := l.PositionAt(p.LSN)
	switch {
	case err != nil:
		return err
	case got.LSN != p.LSN:
		return fmt.Errorf("%w: no frame ends at LSN %d, the one before ends at %d", ErrGap, p.LSN, got.LSN)
	case got != p:
		return fmt.Errorf("%w: the log has %v, not %v", ErrDiverged, got, p)
	}
	return nil
}

// cut removes what is behind to. app and head are held.
func (l *Log) cut(to Position) error {
	if err := l.prep.quiesce(); err != nil {
		return err
	}
	seg, off, err := l.placeOf(to)
	if err != nil {
		return err
	}
	note := intentNote{Op: intentCut, To: to, Seq: seg.seq}
	if err := l.dir.writeNote(noteIntent, note); err != nil {
		return err
	}
	used := l.forget(to, seg, off)
	if err := l.closeLast(); err != nil {
		return err
	}
	if err := l.openLast(seg); err != nil {
		return err
	}
	if err := cutFiles(l.dir, l.app.file, seg.seq, off, used+HeaderSize); err != nil {
		return err
	}
	l.askNext()
	return l.dir.removeNote(noteIntent)
}

// placeOf returns where the frame that ends at to ends.
func (l *Log) placeOf(to Position) (*segment, int64, error) {
	l.mu.Lock()
	s := l.mu.segs[0]
	for _, next := range l.mu.segs[1:] {
		if next.prev.LSN <= to.LSN {
			s = next
		}
	}
	e, end := s.seek(to.LSN), s.end
	l.mu.Unlock()
	f, err := l.o.FS.Open(s.path)
	if err != nil {
		return nil, 0, fmt.Errorf("open segment %s: %w", s.path, err)
	}
	defer f.Close()
	w := newWalker(f, end, e.off, e.prev, MaxFrameBytes)
	if err := walkTo(s.path, w, to); err != nil {
		return nil, 0, err
	}
	return s, w.off, nil
}

// forget makes to the end of what readers see and returns how far seg was used.
func (l *Log) forget(to Position, seg *segment, off int64) (used int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used = seg.end
	for l.mu.segs[len(l.mu.segs)-1] != seg {
		l.mu.segs = l.mu.segs[:len(l.mu.segs)-1]
	}
	seg.cut(to, off)
	l.mu.tail.cut(to.LSN)
	l.mu.end, l.mu.durable = to, to
	l.mu.cuts++
	for r := range l.mu.readers {
		if r.pos.LSN > to.LSN && r.err == nil {
			r.err = fmt.Errorf("%w: LSN %d was read, the log was cut behind LSN %d", ErrDiverged, r.pos.LSN, to.LSN)
		}
	}
	l.wakeReaders()
	return used
}

// Reset forgets the whole log and starts anew behind to: a snapshot at to takes its place. If o.Dir is set, the frames that
// the new history may not contain are saved before (R9): those behind o.Known, or behind to if the log holds to and that is further.
// All readers get ErrDiverged. A crash leaves the log as before or as after; doing it again is no error.
func (l *Log) Reset(to Position, o SaveOptions) error {
	l.app.Lock()
	defer l.app.Unlock()
	l.head.Lock()
	defer l.head.Unlock()
	if err := l.usable(false); err != nil {
		return err
	}
	if l.Start() == to && l.End() == to {
		return nil
	}
	if err := l.saveForReset(to, o); err != nil {
		return err
	}
	if err := l.reset(to); err != nil {
		return l.fail(fmt.Errorf("reset the log to %v: %w", to, err))
	}
	l.o.Logger.Info("log reset", "epoch", uint64(to.Epoch), "lsn", uint64(to.LSN), "reason", o.Reason)
	return nil
}

func (l *Log) saveForReset(to Position, o SaveOptions) error {
	if o.Dir == "" {
		return nil
	}
	from := l.Start()
	if l.has(to) == nil {
		from = to
	}
	if o.Known > from.LSN {
		known, err := l.PositionAt(o.Known)
		if err != nil {
			return err
		}
		from = known
	}
	if from == l.End() {
		return nil
	}
	_, err := l.save(from, o)
	return err
}

// reset replaces all files by one empty segment. app and head are held.
func (l *Log) reset(to Position) error {
	if err := l.prep.quiesce(); err != nil {
		return err
	}
	l.prep.forgetSpares()
	note := intentNote{Op: intentReset, To: to, Seq: l.app.seg.seq + 1}
	if err := l.dir.writeNote(noteIntent, note); err != nil {
		return err
	}
	if err := l.closeLast(); err != nil {
		return err
	}
	s, err := redoReset(l.dir, l.o, note)
	if err != nil {
		return err
	}
	l.restart(s)
	if err := l.openLast(s); err != nil {
		return err
	}
	l.askNext()
	return l.dir.removeNote(noteIntent)
}

// restart makes an empty segment all that readers see.
func (l *Log) restart(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.segs = []*segment{s}
	l.mu.tail = memoryTail{limit: l.o.MemoryBytes}
	l.mu.end, l.mu.durable = s.prev, s.prev
	l.mu.cuts++
	for r := range l.mu.readers {
		if r.err == nil {
			r.err = fmt.Errorf("%w: the log was reset to LSN %d", ErrDiverged, s.prev.LSN)
		}
	}
	l.wakeReaders()
}
