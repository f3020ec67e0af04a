package wal

import (
	"errors"
	"fmt"
)

// Hole is a part of the log that is damaged or missing and whose both ends are known: this node's own records say by which chain hash the
// log goes on behind it. So whatever fills it exactly is what stood there, whoever sent it (R8).
type Hole struct {
	From  Position // end of the last sound frame before it
	To    Position // the last one that is missing ends here; Epoch 0: only LSN and hash are known
	Seq   uint64   // segment
	File  string   // its path
	Found string   // what is there instead
	Proof string   // how To is known
	// Open: behind To nothing of this log is left, and nothing proves that nothing was there. Filling it leaves a doubt (Recovery.Doubt).
	Open bool

	off   int64 // where the missing frames begin in the file
	cont  int64 // where sound frames go on, 0: nowhere in this file
	build bool  // the file is missing or its header is damaged: it begins at From
	made  segmentHead

	last Position // where the segment is known to end, zero if that is not known …
	end  int64    // … and at which offset, 0 if that is not known
}

// Empty reports whether no frame is missing: only a header or a mark between frames is damaged.
func (h Hole) Empty() bool { return h.From.LSN == h.To.LSN }

// String says which records are missing, where.
func (h Hole) String() string {
	if h.Empty() {
		return fmt.Sprintf("%s at offset %d (no record is missing)", h.File, h.off)
	}
	return fmt.Sprintf("LSN %d to %d in %s at offset %d", h.From.LSN+1, h.To.LSN, h.File, h.off)
}

// ErrRoom says that a sound frame behind the hole is not where it belongs (a write that went astray, D13): what is missing before it does not take
// the room that is there. Hole.Beyond is the hole that takes it in.
var ErrRoom = errors.New("the frames do not fill the hole")

// ErrNoHole says that a log which Open refuses has no hole that Fill could fill: it is not damaged in this way, or one end of the damage is
// not known.
var ErrNoHole = errors.New("not to be repaired in place")

// FindHole looks, changing nothing, for the first hole of a log that Open refuses with ErrCorrupt. known is a position that other records (the
// state) prove durable; its LSN is what Open was given as KnownDurable. Errors: ErrNoHole, I/O errors.
func FindHole(o Options, known Position) (Hole, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return Hole{}, err
	}
	o.KnownDurable = known.LSN
	s := &searcher{recoverer: recoverer{o: o, dir: &directory{fs: o.FS, path: o.Dir}}, known: known, bySeq: map[uint64]segmentFile{}}
	if err := s.read(); err != nil {
		return Hole{}, err
	}
	return s.find()
}

// searcher walks through a damaged log as recovery does, and goes on behind the damage.
type searcher struct {
	recoverer
	known Position
	files []segmentFile
	bySeq map[uint64]segmentFile
}

func (s *searcher) read() error {
	var note intentNote
	if ok, err := readNote(s.o.FS, s.o.Dir, noteIntent, &note); ok || err != nil {
		return errors.Join(fmt.Errorf("%w: a cut or reset was under way", ErrNoHole), err)
	}
	if err := s.readMark(); err != nil {
		return err
	}
	l, err := listDir(s.o.FS, s.o.Dir)
	if err != nil {
		return err
	}
	for _, seq := range l.segments {
		f, err := readSegmentFile(s.o.FS, s.o.Dir, seq)
		if err != nil {
			return err
		}
		if f.state == headGood {
			if err := f.check(&s.o.Identity); err != nil {
				return fmt.Errorf("%w: %w", ErrNoHole, err)
			}
		}
		if errors.Is(f.err, ErrVersion) {
			return fmt.Errorf("%w: %w", ErrNoHole, f.err)
		}
		s.files, s.bySeq[seq] = append(s.files, f), f
	}
	if len(s.files) == 0 || s.files[0].state != headGood && s.files[0].seq != 1 {
		return fmt.Errorf("%w: where the log begins is not known", ErrNoHole)
	}
	return nil
}

// next returns the first segment behind seq that has a good header.
func (s *searcher) next(seq uint64) *segmentFile {
	for i := range s.files {
		if s.files[i].seq > seq && s.files[i].state == headGood {
			return &s.files[i]
		}
	}
	return nil
}

// find steps from segment to segment until something is wrong.
func (s *searcher) find() (Hole, error) {
	// Segment 1 begins a log; with a damaged header its zero head says the same.
	pos, seq := s.files[0].head.Prev, s.files[0].seq
	if s.files[0].state != headGood {
		pos = Position{}
	}
	for ; ; seq++ {
		f, ok := s.bySeq[seq]
		if !ok || f.state != headGood {
			return s.headless(seq, f, ok, pos)
		}
		if f.head.Prev != pos {
			return Hole{}, fmt.Errorf("%w: %s follows %v, and the log before it ends at %v", ErrNoHole, f.path, f.head.Prev, pos)
		}
		h, end, err := s.segment(f)
		if err != nil || h != nil {
			if err != nil {
				return Hole{}, err
			}
			return *h, nil
		}
		pos = end
	}
}

// segment walks through one segment. It returns a hole, or where the segment ends and the next one has to begin.
func (s *searcher) segment(f segmentFile) (*Hole, Position, error) {
	file, w, seg, err := s.open(f)
	if err != nil {
		return nil, Position{}, err
	}
	defer file.Close()
	st, err := s.frames(w, seg)
	if err != nil {
		return nil, Position{}, err
	}
	if st.refuse != nil {
		return nil, Position{}, fmt.Errorf("%w: %w", ErrNoHole, st.refuse)
	}
	h := &Hole{From: w.pos, Seq: f.seq, File: f.path, Found: st.why, off: w.off}
	next := s.next(f.seq)
	if next == nil {
		return s.lastHole(h, f, w, st)
	}
	if next.seq == f.seq+1 && next.head.Prev == w.pos {
		return nil, w.pos, nil
	}
	if next.head.Prev.LSN <= w.pos.LSN && next.head.Prev != w.pos {
		return nil, Position{}, fmt.Errorf("%w: %s follows %v, and the log before it ends at %v", ErrNoHole, next.path, next.head.Prev, w.pos)
	}
	h.last = next.head.Prev
	if l, err := s.search(f, w, st, nil); err != nil {
		return nil, Position{}, err
	} else if l != nil {
		return h, Position{}, h.goesOn(&window{f: file, limit: f.size}, l)
	}
	if next.seq > f.seq+1 && st.found != foundBad {
		return nil, w.pos, nil // this one is whole; what is between it and the next is not
	}
	h.toEnd()
	return h, Position{}, nil
}

// toEnd makes the hole reach to the end of its segment.
func (h *Hole) toEnd() {
	h.To, h.cont, h.Proof = h.last, h.end, fmt.Sprintf("the next segment says that it follows %v", h.last)
}

// Beyond returns the hole that reaches over the sound frame behind h, to the one after that or to the end of the segment. Fill asked for it with ErrRoom.
// Errors: ErrNoHole, I/O errors.
func (h Hole) Beyond(o Options) (Hole, error) {
	o.EnsureDefaults()
	f, err := o.FS.Open(h.File)
	if err != nil {
		return h, fmt.Errorf("open segment %s: %w", h.File, err)
	}
	defer f.Close()
	win := &window{f: f, limit: h.end}
	if h.end == 0 {
		if win.limit, err = fileSize(f); err != nil {
			return h, err
		}
	}
	b, err := win.bytes(h.cont, HeaderSize)
	if err != nil || h.cont == 0 {
		return h, errors.Join(ErrNoHole, err)
	}
	if head, err := DecodeHeader(b); err == nil {
		l, err := findLater(win, h.File, h.cont+head.Size(), head.Last()+1)
		if err != nil {
			return h, err
		}
		if l != nil {
			return h, h.goesOn(win, l)
		}
	}
	if h.last.LSN <= h.From.LSN || h.To == h.last {
		return h, fmt.Errorf("%w: nothing else says what follows %v", ErrNoHole, h.From)
	}
	h.toEnd()
	return h, nil
}

// goesOn makes a sound frame further on in the same file the hole's end.
func (h *Hole) goesOn(win *window, l *later) error {
	b, err := win.bytes(l.Offset, HeaderSize)
	if err != nil {
		return err
	}
	head, err := DecodeHeader(b)
	if err != nil {
		return err
	}
	h.To, h.cont = Position{LSN: head.First - 1, Hash: head.Prev}, l.Offset
	h.Proof = fmt.Sprintf("a good frame of LSN %d to %d follows at offset %d", l.First, l.Last, l.Offset)
	return nil
}

// lastHole is recovery's decision about the last segment in use, and where the log has to reach if that is to refuse it.
func (s *searcher) lastHole(h *Hole, f segmentFile, w *walker, st step) (_ *Hole, end Position, err error) {
	var behind []segmentFile
	for _, b := range s.files {
		if b.seq > f.seq {
			behind = append(behind, b)
		}
	}
	t := tail{Good: w.pos, Found: st.found, KnownDurable: s.known.LSN, Mark: s.mark}
	if t.NeverWhole, err = neverWhole(&w.win, st); err != nil {
		return nil, end, err
	}
	if t.Later, err = s.search(f, w, st, behind); err != nil {
		return nil, end, err
	}
	v := decide(t)
	if v.Action == actionKeep && len(behind) > 0 && behind[0].seq != f.seq+1 {
		// The last segment is gone; what was in it is repaired, and a file that was prepared behind it is left.
		h, err := s.headless(f.seq+1, segmentFile{}, false, w.pos)
		return &h, end, err
	}
	if v.Action != actionRefuse {
		return nil, end, fmt.Errorf("%w: no sign of damage", ErrNoHole)
	}
	h.Proof = v.Proof
	if l := t.Later; l != nil && l.File == f.path {
		return h, end, h.goesOn(&window{f: w.win.f, limit: f.size}, l)
	} else if l != nil && !l.SameWrite {
		return nil, w.pos, nil // in the next file, whose header is damaged
	}
	if s.mark != nil && s.mark.LSN > w.pos.LSN {
		h.To = *s.mark
	}
	if s.known.LSN > max(w.pos.LSN, h.To.LSN) {
		h.To = s.known
	}
	if h.To == (Position{}) {
		return nil, end, fmt.Errorf("%w: %s", ErrNoHole, v.Proof)
	}
	h.Open = s.mark == nil || *s.mark != h.To
	return h, end, nil
}

// headless is a segment that is missing or whose header is damaged, behind pos.
func (s *searcher) headless(seq uint64, f segmentFile, there bool, pos Position) (Hole, error) {
	h := Hole{From: pos, Seq: seq, File: s.dir.join(segmentName(seq)), Found: "no such file", off: segmentHeader, build: true,
		made: segmentHead{Identity: s.o.Identity, Seq: seq, Prev: pos}}
	if there {
		h.Found = "no segment header"
		if f.err != nil {
			h.Found = reason(f.err)
		}
		file, err := s.o.FS.Open(f.path)
		if err != nil {
			return Hole{}, fmt.Errorf("open segment %s: %w", f.path, err)
		}
		defer file.Close()
		win := &window{f: file, limit: f.size}
		l, err := findLater(win, f.path, segmentHeader, pos.LSN+1)
		if err != nil {
			return Hole{}, fmt.Errorf("read segment %s: %w", f.path, err)
		}
		if l != nil {
			if next := s.next(seq); next != nil {
				h.last = next.head.Prev
			}
			return h, h.goesOn(win, l)
		}
	}
	next := s.next(seq)
	if next == nil && !there {
		h.To, h.Proof = pos, "a prepared segment is behind it" // an empty one
		return h, nil
	}
	if next == nil || next.head.Prev.LSN < pos.LSN || next.head.Prev.LSN == pos.LSN && next.head.Prev != pos {
		return Hole{}, fmt.Errorf("%w: nothing says where segment %d ends", ErrNoHole, seq)
	}
	h.last = next.head.Prev
	h.toEnd()
	return h, nil
}
