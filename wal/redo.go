package wal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// redo finishes a cut or reset that a crash interrupted. Both change several files; the intent note makes them atomic.
func (r *recoverer) redo() error {
	var note intentNote
	ok, err := readNote(r.o.FS, r.o.Dir, noteIntent, &note)
	if err != nil || !ok {
		return err
	}
	switch note.Op {
	case intentCut:
		err = redoCut(r.dir, r.o, note)
	case intentReset:
		_, err = redoReset(r.dir, r.o, note)
	default:
		err = &CorruptError{Kind: ErrVersion, File: r.dir.join(noteIntent), Expected: "cut or reset", Found: note.Op, Advice: adviseVersion}
	}
	if err != nil {
		return fmt.Errorf("redo %s: %w", note.Op, err)
	}
	r.rec.Redone = note.Op
	r.o.Logger.Info("interrupted operation redone", "op", note.Op, "lsn", note.To.LSN)
	return r.dir.removeNote(noteIntent)
}

// redoCut removes everything behind note.To. It does not know how far the old log reached in the segment, so all of the
// rest becomes zeros.
func redoCut(d *directory, o Options, note intentNote) error {
	s, err := readSegmentFile(d.fs, d.path, note.Seq)
	if err != nil {
		return err
	}
	if s.state != headGood {
		return s.unreadable(Position{}, "a cut to "+note.To.String()+" was under way")
	}
	if err := s.check(&o.Identity); err != nil {
		return err
	}
	f, err := d.fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.path, err)
	}
	w := newWalker(f, s.size, segmentHeader, s.head.Prev, o.MaxFrameBytes)
	err = walkTo(s.path, w, note.To)
	if err == nil {
		err = cutFiles(d, f, note.Seq, w.off, max(s.size, w.off+HeaderSize))
	}
	return errors.Join(err, f.Close())
}

// walkTo steps to the frame that ends at to.
func walkTo(path string, w *walker, to Position) error {
	for w.pos != to {
		st, err := w.look()
		if err != nil {
			return fmt.Errorf("read segment %s at offset %d: %w", path, w.off, err)
		}
		if st.found != foundFrame || st.head.Last() > to.LSN {
			return damage(path, w, st, "the log has to reach "+to.String())
		}
		w.accept(st)
	}
	return nil
}

// cutFiles removes the segments behind seq and zeroes [from, to) of seq, all durable on return. The intent note is there
// meanwhile, so the order does not matter. The removed files are not recycled: their frames have LSNs that the log will reach again.
func cutFiles(d *directory, f vfs.File, seq uint64, from, to int64) error {
	l, err := listDir(d.fs, d.path)
	if err != nil {
		return err
	}
	for _, s := range l.segments {
		if s <= seq {
			continue
		}
		if err := d.fs.Remove(d.join(segmentName(s))); err != nil {
			return fmt.Errorf("remove segment %d: %w", s, err)
		}
	}
	if err := d.sync(); err != nil {
		return err
	}
	if err := zeroRange(f, from, to); err != nil {
		return fmt.Errorf("zero segment %d from offset %d: %w", seq, from, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync segment %d: %w", seq, err)
	}
	return nil
}

// redoReset removes all segments and recycled files (whose LSNs may come again) and makes an empty segment after note.To.
func redoReset(d *directory, o Options, note intentNote) (*segment, error) {
	l, err := listDir(d.fs, d.path)
	if err != nil {
		return nil, err
	}
	for _, s := range l.segments {
		if err := d.fs.Remove(d.join(segmentName(s))); err != nil {
			return nil, fmt.Errorf("remove segment %d: %w", s, err)
		}
	}
	for _, s := range l.spares {
		if err := d.fs.Remove(d.join(spareName(s))); err != nil {
			return nil, fmt.Errorf("remove spare %d: %w", s, err)
		}
	}
	if err := d.sync(); err != nil {
		return nil, err
	}
	return makeSegment(d, o, note.Seq, note.To)
}
