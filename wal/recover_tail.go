package wal

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/failpoint"
)

// last reads the last segment in use and decides about its end (R8). behind are files without a good header.
func (r *recoverer) last(s segmentFile, behind []segmentFile) error {
	f, w, seg, err := r.open(s)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := r.frames(w, seg)
	if err != nil {
		return err
	}
	if st.refuse != nil {
		return damage(seg.path, w, st, "")
	}
	t := tail{Good: w.pos, Found: st.found, KnownDurable: r.o.KnownDurable, Mark: r.mark}
	if t.NeverWhole, err = neverWhole(&w.win, st); err != nil {
		return err
	}
	if t.Later, err = r.search(s, w, st, behind); err != nil {
		return err
	}
	for _, b := range behind {
		if b.state == headBad {
			t.Found, t.NeverWhole = foundBad, false
			st.why += fmt.Sprintf("; %s: %s", b.path, reason(b.err))
		}
	}
	v := decide(t)
	if v.Action == actionRefuse {
		return damage(seg.path, w, st, v.Proof)
	}
	r.rec.Clean = v.Action == actionKeep && r.mark != nil && *r.mark == w.pos
	if v.Action == actionCut {
		if err := r.cut(seg, w, st, v); err != nil {
			return err
		}
	}
	if err := r.secure(f, w, v); err != nil {
		return fmt.Errorf("segment %s: %w", seg.path, err)
	}
	return r.settle(behind)
}

// search looks for good frames behind the end. After a clean stop there is nothing to look for.
func (r *recoverer) search(s segmentFile, w *walker, st step, behind []segmentFile) (*later, error) {
	if r.mark != nil && *r.mark == w.pos && st.found == foundZero {
		return nil, nil
	}
	from := w.off // a misplaced but sound frame right here counts
	if st.headOK {
		from = st.off + st.head.Size() // what lies inside the damaged frame is a client's value
	}
	weak, err := findLater(&window{f: w.win.f, limit: s.size}, s.path, from, w.pos.LSN+1)
	if err != nil || weak != nil && !weak.SameWrite {
		return weak, err
	}
	for _, b := range behind {
		if l, err := r.searchFile(b, 0, w.pos.LSN+1); err != nil || l != nil {
			return l, err
		}
	}
	return weak, nil
}

func (r *recoverer) searchFile(s segmentFile, from int64, expected LSN) (*later, error) {
	f, err := r.o.FS.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // Verify beside a daemon that trims
	}
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", s.path, err)
	}
	defer f.Close()
	l, err := findLater(&window{f: f, limit: s.size}, s.path, from, expected)
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", s.path, err)
	}
	return l, nil
}

// cut records what will be cut, and the doubt durably: a crash right after the cut must not turn it into a clean end.
func (r *recoverer) cut(seg *segment, w *walker, st step, v verdict) error {
	c := &Cut{File: seg.path, Offset: w.off, After: w.pos, Found: st.why, Harmless: !v.Doubt}
	if st.headOK {
		c.First, c.Last = st.head.First, st.head.Last()
	}
	r.rec.Cut = c
	failpoint.Hit(failpoint.RecoverCut)
	r.o.Logger.Warn("log tail cut", "file", c.File, "offset", c.Offset, "lsn", w.pos.LSN, "found", c.Found, "doubt", v.Doubt)
	if !v.Doubt {
		return nil
	}
	return r.dir.writeNote(noteDoubt, c)
}

// secure makes what was read durable. It may have come from the page cache after a failed or missing sync, and a sync of
// clean pages proves nothing, so the last write is written again first (R10). What is behind it becomes zeros.
func (r *recoverer) secure(f vfs.File, w *walker, v verdict) error {
	if r.rec.Clean {
		return nil
	}
	from := w.begin
	if from == segmentHeader {
		from = 0
	}
	for off := from; off < w.off; {
		b, err := w.win.bytes(off, int(min(w.off-off, readChunk)))
		if err != nil || len(b) == 0 {
			return errors.Join(fmt.Errorf("read again at offset %d", off), err)
		}
		if err := writeAt(f, b, off); err != nil {
			return fmt.Errorf("write again at offset %d: %w", off, err)
		}
		off += int64(len(b))
	}
	end := w.off + HeaderSize
	if v.Action == actionCut {
		end = max(end, w.win.limit)
	}
	if err := zeroRange(f, w.off, end); err != nil {
		return fmt.Errorf("clear the tail at offset %d: %w", w.off, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// settle keeps the first prepared file behind the end and removes what else is there, the last first.
func (r *recoverer) settle(behind []segmentFile) error {
	for i := len(behind) - 1; i >= 0; i-- {
		b := behind[i]
		if i == 0 && b.state == headZero && b.size >= r.o.SegmentBytes && b.size <= 2*r.o.SegmentBytes {
			r.next = b.seq
			return nil
		}
		if err := r.dir.remove(segmentName(b.seq)); err != nil {
			return err
		}
	}
	return nil
}
