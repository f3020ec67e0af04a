package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Scrub reads a segment of an open log as recovery would, and returns the hole that it finds, nil if all is well or if the segment was trimmed, cut or
// repaired meanwhile. Everything is read from the disk (or the page cache), nothing from memory. pace is called with the bytes read now and then, and may wait. Errors: the
// context's, pace's, I/O errors.
func (l *Log) Scrub(ctx context.Context, seq uint64, pace func(context.Context, int) error) (*Hole, error) {
	_, hole, err := l.scrubFrom(ctx, seq, 0, 0, pace)
	return hole, err
}

// ScrubTail is Scrub for about the last bytes of the log that are durable, at most those of its last segment, but for what lies at or before since.
// It returns the LSN up to which all is well, for the next call's since: 0 if it cannot tell.
func (l *Log) ScrubTail(ctx context.Context, bytes int64, since LSN) (LSN, *Hole, error) {
	l.mu.Lock()
	s := l.mu.segs[len(l.mu.segs)-1]
	seq, off := s.seq, s.end-bytes
	l.mu.Unlock()
	return l.scrubFrom(ctx, seq, off, since, func(context.Context, int) error { return nil })
}

// scrubFrom scrubs a segment from the last frame on that is known to begin at or before off, or right behind since or earlier. It returns how far all is well.
func (l *Log) scrubFrom(ctx context.Context, seq uint64, off int64, since LSN, pace func(context.Context, int) error) (LSN, *Hole, error) {
	v, ok := l.view(seq)
	if !ok {
		return 0, nil, nil
	}
	for _, e := range v.index {
		if e.off <= v.end && (e.off <= off || e.prev.LSN <= since) {
			v.from = e
		}
	}
	h, err := l.scrub(ctx, v, pace)
	now, ok := l.view(seq)
	if !ok || now.cuts != v.cuts || now.filled != v.filled {
		return 0, nil, ctx.Err() // what was read is no longer the log
	}
	if h != nil || err != nil {
		return 0, h, err
	}
	return v.last.LSN, nil, nil
}

// segmentView is a segment as it was at one moment.
type segmentView struct {
	segment
	cuts, filled uint64
	from         indexEntry // where to begin
}

func (l *Log) view(seq uint64) (segmentView, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.mu.segs {
		if s.seq != seq || l.mu.closed {
			continue
		}
		v := segmentView{segment: *s, cuts: l.mu.cuts, filled: l.mu.filled}
		if s == l.mu.segs[len(l.mu.segs)-1] && l.mu.durable != s.last {
			v.last, v.end = s.prev, segmentHeader // being written: only what was written before the last sync counts
			for _, e := range s.index {
				if e.prev.LSN <= l.mu.durable.LSN {
					v.last, v.end = e.prev, e.off
				}
			}
		}
		v.index, v.from = slices.Clone(s.index), indexEntry{prev: s.prev, off: segmentHeader}
		return v, true
	}
	return segmentView{}, false
}

func (l *Log) scrub(ctx context.Context, v segmentView, pace func(context.Context, int) error) (*Hole, error) {
	head, err := readSegmentFile(l.o.FS, l.o.Dir, v.seq)
	if err != nil {
		return nil, err
	}
	made := segmentHead{Identity: l.o.Identity, Seq: v.seq, Prev: v.prev, Created: v.created}
	if head.state != headGood || head.check(&l.o.Identity) != nil || head.head.Prev != v.prev {
		return &Hole{From: v.prev, To: v.prev, Seq: v.seq, File: v.path, Found: "no header of this segment", Proof: "the segment is in use",
			off: segmentHeader, cont: segmentHeader, build: true, made: made}, nil
	}
	f, err := l.o.FS.Open(v.path)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", v.path, err)
	}
	defer f.Close()
	w := newWalker(f, v.end, v.from.off, v.from.prev, MaxFrameBytes)
	for w.off < v.end {
		st, err := w.look()
		if err != nil {
			return nil, fmt.Errorf("read segment %s at offset %d: %w", v.path, w.off, err)
		}
		if st.found != foundFrame {
			return liveHole(v, w, st)
		}
		w.accept(st)
		if err := pace(ctx, int(st.size)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// liveHole is the damage at the walker's place: it ends at the next sound frame, at the latest where the log knows the segment to end.
func liveHole(v segmentView, w *walker, st step) (*Hole, error) {
	h := &Hole{From: w.pos, To: v.last, Seq: v.seq, File: v.path, Found: st.why, Proof: fmt.Sprintf("the log was written up to offset %d", v.end), off: w.off,
		cont: v.end, last: v.last, end: v.end}
	if st.found == foundZero {
		h.Found = "zeros"
	}
	from := w.off
	if st.headOK {
		from = st.off + st.head.Size()
	}
	win := &window{f: w.win.f, limit: v.end}
	l, err := findLater(win, v.path, from, w.pos.LSN+1)
	if err != nil || l == nil {
		return h, err
	}
	return h, h.goesOn(win, l)
}

// Fill fills a hole that Scrub found, like Fill for a log that is not open, while readers and the writer go on. It is no error if the segment was trimmed or cut
// meanwhile.
func (l *Log) Fill(h Hole, r io.Reader, saveDir string) error {
	l.head.Lock() // nothing is trimmed or cut
	defer l.head.Unlock()
	v, ok := l.view(h.Seq)
	if !ok || v.prev.LSN > h.From.LSN || v.last.LSN < h.To.LSN || v.path != h.File {
		return nil
	}
	if err := l.Failed(); err != nil {
		return err
	}
	staged, err := stage(l.dir, h, r, MaxFrameBytes)
	if err == nil {
		err = staged.layOut(h)
	}
	if err != nil {
		return errors.Join(err, staged.drop(l.dir))
	}
	if err := saveHole(l.o.FS, h, saveDir); err != nil {
		return fmt.Errorf("save what is damaged: %w", err)
	}
	f, err := l.o.FS.OpenReadWrite(h.File, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("open segment %s: %w", h.File, err)
	}
	l.filling(h)
	if err := errors.Join(staged.fill(l.dir, f, h), f.Close()); err != nil {
		return fmt.Errorf("repair %s: %w", h.File, err)
	}
	l.filling(h)
	l.o.Logger.Warn("log repaired", "file", h.File, "offset", h.off, "from", uint64(h.From.LSN)+1, "to", uint64(h.To.LSN), "frames", len(staged.sizes), "found", h.Found)
	return staged.drop(l.dir)
}

// filling forgets the places within a hole: frames may come to stand a few bytes from where they were. Nobody reads there: they are damaged.
func (l *Log) filling(h Hole) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.filled++
	for _, s := range l.mu.segs {
		if s.seq != h.Seq {
			continue
		}
		var keep []indexEntry
		for _, e := range s.index {
			if e.off <= h.off || e.off >= h.cont {
				keep = append(keep, e)
			}
		}
		s.index = keep
	}
}
