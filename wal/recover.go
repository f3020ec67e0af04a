package wal

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Recovery tells how Open found the log.
type Recovery struct {
	Start    Position      // just before the first frame
	End      Position      // end of the last frame; durable
	Segments int           // in use
	Bytes    int64         // of all segments' used parts
	Clean    bool          // the clean-stop mark was there and right
	Cut      *Cut          // the tail that was cut, now or at an earlier start that nobody settled; nil if none
	Doubt    bool          // Cut may have been durable: ask the peers before voting (R8). Stays, over restarts, until SettleDoubt
	Redone   string        // the operation that a crash had interrupted: "cut", "reset" or ""
	Took     time.Duration // of the whole recovery
}

// Cut describes a tail that recovery dropped.
type Cut struct {
	File     string   `json:"file"`
	Offset   int64    `json:"offset"`
	After    Position `json:"after"`           // the log ends here now
	First    LSN      `json:"first,omitempty"` // what was dropped, if its header could be trusted, else 0
	Last     LSN      `json:"last,omitempty"`
	Found    string   `json:"found"`    // what was there instead of a good frame
	Harmless bool     `json:"harmless"` // proven never to have been synced
}

// recoverer is the I/O around decide.
type recoverer struct {
	o    Options
	dir  *directory
	mark *Position
	rec  Recovery

	segs   []*segment
	spares []uint64
	next   uint64 // a prepared segment that is not in use yet, 0 if none
}

// run recovers the directory. It may be run again after a crash at any point of it (P2): until the decision it changes nothing
// but leftovers; then the doubt is noted before the tail is cut; the clean-stop mark goes last.
func (r *recoverer) run() error {
	if err := r.redo(); err != nil {
		return err
	}
	if err := r.readMark(); err != nil {
		return err
	}
	files, err := r.list()
	if err != nil {
		return err
	}
	if blank, err := r.blank(files); blank || err != nil {
		return err
	}
	used, err := arrange(r.dir.join, files, &r.o.Identity)
	if err != nil {
		return err
	}
	if used == 0 {
		return files[0].unreadable(Position{}, "")
	}
	if err := r.walk(files, used); err != nil {
		return err
	}
	return r.finish()
}

func (r *recoverer) readMark() error {
	var note cleanNote
	ok, err := readNote(r.o.FS, r.o.Dir, noteClean, &note)
	if errors.Is(err, ErrCorrupt) {
		r.o.Logger.Warn("clean-stop mark is damaged", "error", err)
		return nil
	}
	if ok {
		r.mark = &note.End
	}
	return err
}

// list reads the headers of all segment files and removes half-made files.
func (r *recoverer) list() ([]segmentFile, error) {
	l, err := listDir(r.o.FS, r.o.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range l.tmp {
		if err := r.o.FS.Remove(r.dir.join(name)); err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
	}
	r.spares = l.spares
	var files []segmentFile
	for _, seq := range l.segments {
		s, err := readSegmentFile(r.o.FS, r.o.Dir, seq)
		if err != nil {
			return nil, err
		}
		files = append(files, s)
	}
	return files, nil
}

// blank makes the first segment of a new log. A crash while that was done before leaves one file with a zero header.
func (r *recoverer) blank(files []segmentFile) (bool, error) {
	if len(files) > 1 || len(files) == 1 && (files[0].seq != 1 || files[0].state != headZero) {
		return false, nil
	}
	for _, s := range files {
		if l, err := r.searchFile(s, 0, 1); err != nil || l != nil {
			return false, err
		}
	}
	if v := decide(tail{Found: foundZero, KnownDurable: r.o.KnownDurable, Mark: r.mark}); v.Action == actionRefuse {
		return false, &CorruptError{File: r.dir.join(segmentName(1)), Expected: "segments", Found: "an empty log", Proof: v.Proof, Advice: adviseRepair}
	}
	s, err := makeSegment(r.dir, r.o, 1, Position{})
	if err != nil {
		return false, err
	}
	r.segs = []*segment{s}
	r.rec.Segments = 1
	return true, r.finish()
}

// makeSegment creates a segment that is in use but empty, durably, over whatever has its name.
func makeSegment(d *directory, o Options, seq uint64, prev Position) (*segment, error) {
	if err := prepareFile(d, seq, 0, o.SegmentBytes); err != nil {
		return nil, err
	}
	s := &segment{seq: seq, path: d.join(segmentName(seq)), prev: prev, created: time.Now(), last: prev, end: segmentHeader, size: o.SegmentBytes}
	f, err := d.fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", s.path, err)
	}
	err = beginSegment(f, segmentHead{Identity: o.Identity, Seq: seq, Prev: prev, Created: s.created})
	return s, errors.Join(err, f.Close())
}

// walk reads every frame of the segments in use and decides about the end.
func (r *recoverer) walk(files []segmentFile, used int) error {
	pos := files[0].head.Prev
	for i, s := range files[:used] {
		if s.head.Prev != pos {
			return &CorruptError{Kind: ErrForeign, File: s.path, Expected: "a segment that follows " + pos.String(),
				Found: "one that follows " + s.head.Prev.String(), Good: pos, Advice: adviseRepair}
		}
		var err error
		if i == used-1 {
			err = r.last(s, files[used:])
		} else {
			err = r.full(s, files[i+1])
		}
		if err != nil {
			return err
		}
		pos = r.segs[i].last
	}
	return nil
}

// open starts a walk through a segment.
func (r *recoverer) open(s segmentFile) (vfs.File, *walker, *segment, error) {
	f, err := r.o.FS.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open segment %s: %w", s.path, err)
	}
	seg := &segment{seq: s.seq, path: s.path, prev: s.head.Prev, created: s.head.Created, last: s.head.Prev, end: segmentHeader, size: s.size}
	return f, newWalker(f, s.size, segmentHeader, s.head.Prev, r.o.MaxFrameBytes), seg, nil
}

// frames steps over all good frames and returns what comes then.
func (r *recoverer) frames(w *walker, seg *segment) (step, error) {
	for {
		st, err := w.look()
		if err != nil {
			return st, fmt.Errorf("read segment %s at offset %d: %w", seg.path, w.off, err)
		}
		if st.found != foundFrame {
			r.segs = append(r.segs, seg)
			return st, nil
		}
		seg.add(st.head, w.off, w.off+st.size)
		w.accept(st)
	}
}

// full reads a segment that another one follows, whose header says where this one has to end.
func (r *recoverer) full(s, next segmentFile) error {
	f, w, seg, err := r.open(s)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := r.frames(w, seg)
	if err != nil {
		return err
	}
	if w.pos.LSN < next.head.Prev.LSN {
		return damage(seg.path, w, st, fmt.Sprintf("%s says that it follows %v", next.path, next.head.Prev))
	}
	if st.found == foundBad && w.pos == next.head.Prev {
		r.o.Logger.Warn("bytes behind the end of a full segment are damaged, nothing is lost", "file", seg.path, "offset", w.off)
	}
	return nil
}

// damage is the error for a place where a frame has to be.
func damage(path string, w *walker, st step, proof string) error {
	e := &CorruptError{File: path, Offset: w.off, Expected: fmt.Sprintf("a frame from LSN %d that follows %v", w.pos.LSN+1, w.pos),
		Found: st.why, Good: w.pos, Proof: proof, Advice: adviseRepair}
	switch {
	case errors.Is(st.refuse, ErrVersion):
		e.Kind, e.Advice = ErrVersion, adviseVersion
	case errors.Is(st.refuse, ErrTooLarge):
		e.Kind, e.Advice = ErrTooLarge, adviseLimit
	}
	return e
}

// finish fills in the report and removes the clean-stop mark, durably, before anything is appended.
func (r *recoverer) finish() error {
	r.rec.Segments = len(r.segs)
	r.rec.Start, r.rec.End = r.segs[0].prev, r.segs[len(r.segs)-1].last
	for _, s := range r.segs {
		r.rec.Bytes += s.end
	}
	var old Cut
	doubt, err := readNote(r.o.FS, r.o.Dir, noteDoubt, &old)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	r.rec.Doubt = doubt || err != nil
	if doubt && r.rec.Cut == nil {
		r.rec.Cut = &old
	}
	return r.dir.removeNote(noteClean)
}
