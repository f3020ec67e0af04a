package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// walk reads the frames of a segment. What stops it is looked at again before it counts, because a daemon may be writing.
func (v *verifier) walk(w *walker, s segmentFile, row *SegmentReport, files []segmentFile, last bool) error {
	base := v.rep.Bytes
	for tries := 0; ; {
		st, err := w.look()
		if err != nil {
			return fmt.Errorf("read segment %s at offset %d: %w", s.path, w.off, err)
		}
		if st.found == foundFrame {
			tries = 0
			if err := v.frame(w, st, row); err != nil {
				return err
			}
			v.rep.Bytes = base + row.Bytes
			continue
		}
		done, err := v.stopped(w, s, st, row, files, last, tries)
		if err != nil || done {
			v.rep.Bytes = base + s.size
			v.o.Progress(v.rep.Bytes, v.total)
			return err
		}
		tries++
		w.win.drop()
	}
}

// frame checks the records of a good frame and steps over it.
func (v *verifier) frame(w *walker, st step, row *SegmentReport) error {
	f := st.copyFrame(nil)
	if err := f.Each(func(Record) error { return nil }); err != nil {
		v.problem(&CorruptError{File: row.File, Offset: st.off, Expected: fmt.Sprintf("the records %d to %d", f.First, f.Last()), Found: err.Error(), Good: w.pos, Advice: adviseRepair})
		row.State = stateDamaged
	} else if err := v.o.OnFrame(f); err != nil {
		return err
	}
	if err := v.joinMark(w, st, row); err != nil {
		return err
	}
	before := w.off
	w.accept(st)
	if row.FirstEpoch == 0 {
		row.FirstEpoch = f.Epoch
	}
	row.LastEpoch, row.Last, row.Bytes = f.Epoch, f.Last(), w.off
	row.Frames, row.Records = row.Frames+1, row.Records+uint64(f.Count)
	v.rep.Frames, v.rep.Records = v.rep.Frames+1, v.rep.Records+uint64(f.Count)
	if before/readChunk != w.off/readChunk {
		v.o.Progress(v.rep.Bytes, v.total)
	}
	return nil
}

// joinMark checks all of the mark before a frame. To follow the chain its first header is enough, so that recovery passes over damage in the rest; but the second one is what recovery
// goes by when the first is damaged, so a disk that has lost it has lost something.
func (v *verifier) joinMark(w *walker, st step, row *SegmentReport) error {
	if !st.joined {
		return nil
	}
	for again := true; ; again = false {
		b, err := w.win.bytes(w.off, int(st.off-w.off))
		if err != nil {
			return fmt.Errorf("read segment %s at offset %d: %w", row.File, w.off, err)
		}
		if j, ok := decodeJoin(b); ok && bytes.Equal(b, j.append(nil)) {
			return nil
		}
		if !again {
			break
		}
		w.win.drop() // a daemon may be writing
	}
	v.problem(&CorruptError{File: row.File, Offset: w.off, Expected: fmt.Sprintf("a join mark of %d bytes before LSN %d", st.off-w.off, st.head.First), Found: "one with other bytes",
		Good: w.pos, Advice: "no record is missing; look after the disk"})
	row.State = stateDamaged
	return nil
}

// stopped judges the place where no frame continues the chain. It reports false to have the place read again.
func (v *verifier) stopped(w *walker, s segmentFile, st step, row *SegmentReport, files []segmentFile, last bool, tries int) (bool, error) {
	bad, err := v.judge(w, s, st, files, last)
	if err != nil || bad == nil {
		return true, err
	}
	if tries < verifyTries {
		return false, nil
	}
	if now, err := readSegmentFile(v.fs, v.dir, s.seq); errors.Is(err, os.ErrNotExist) || err == nil && now.head != s.head {
		row.State = stateTrimmed
		return true, nil
	}
	row.State = stateDamaged
	if last {
		v.rep.Tail = TailDamaged
	}
	v.problem(bad)
	return true, nil
}

// continued reports whether a daemon began the next segment at pos since we listed the files.
func (v *verifier) continued(seq uint64, pos Position) bool {
	now, err := readSegmentFile(v.fs, v.dir, seq)
	if err != nil || now.state != headGood || now.check(&v.rep.Identity) != nil || now.head.Prev != pos {
		return false
	}
	v.more = &now
	return true
}

// judge returns what is wrong at the end of a segment, nil if nothing is. For the last one it is recovery's decision, and sets
// the report's tail.
func (v *verifier) judge(w *walker, s segmentFile, st step, files []segmentFile, last bool) (problem, err error) {
	if !last {
		next := files[int(s.seq-files[0].seq)+1]
		if w.pos.LSN < next.head.Prev.LSN {
			return damage(s.path, w, st, fmt.Sprintf("%s says that it follows %v", next.path, next.head.Prev)), nil
		}
		return nil, nil
	}
	if st.refuse != nil {
		return damage(s.path, w, st, ""), nil
	}
	if v.continued(s.seq+1, w.pos) {
		v.rep.Tail = TailOpen
		return nil, nil
	}
	t := tail{Good: w.pos, Found: st.found, Mark: v.mark}
	if t.NeverWhole, err = neverWhole(&w.win, st); err != nil {
		return nil, err
	}
	r := recoverer{o: Options{FS: v.fs}, mark: v.mark}
	if t.Later, err = r.search(s, w, st, files[int(s.seq-files[0].seq)+1:]); err != nil {
		return nil, err
	}
	switch d := decide(t); {
	case d.Action == actionRefuse:
		return damage(s.path, w, st, d.Proof), nil
	case d.Action == actionCut:
		v.rep.Tail = TailLive
	case v.mark != nil && *v.mark == w.pos:
		v.rep.Tail = TailClean
	default:
		v.rep.Tail = TailOpen
	}
	return nil, nil
}
