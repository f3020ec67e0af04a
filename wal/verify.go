package wal

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// VerifyOptions configure Verify.
type VerifyOptions struct {
	Identity *Identity               // wanted; nil: whatever the first segment says
	Progress func(done, total int64) // called now and then with bytes; may be nil
	OnFrame  func(f *Frame) error    // sees every good frame in order, but those that a daemon trims meanwhile; an error ends Verify; may be nil
}

// Report is what Verify found.
type Report struct {
	Identity   Identity
	Start, End Position
	Segments   []SegmentReport
	Frames     uint64
	Records    uint64
	Bytes      int64   // read
	Tail       string  // one of the Tail constants
	Problems   []error // *CorruptError mostly; empty if all is well
}

// What stands behind the last frame.
const (
	TailClean   = "clean"     // the clean-stop mark agrees
	TailOpen    = "open"      // zeros: in use, or not stopped in order
	TailLive    = "live tail" // a frame that is being written, or that a crash tore: no damage
	TailDamaged = "damaged"
)

// SegmentReport is one row of a Report.
type SegmentReport struct {
	File       string
	Seq        uint64
	First      LSN
	Last       LSN // First-1 while empty
	FirstEpoch Epoch
	LastEpoch  Epoch
	Frames     uint64
	Records    uint64
	Bytes      int64  // in use
	Size       int64  // of the file
	State      string // one of the state constants
}

// States of a segment in a report.
const (
	stateOK      = "ok"
	stateNext    = "next"    // prepared, not in use
	stateTrimmed = "trimmed" // went while we read
	stateDamaged = "damaged"
)

// verifyTries is how often a segment is read again before a problem is believed: a daemon may be writing, trimming or cutting.
const verifyTries = 3

// verifier walks over a log that it does not own.
type verifier struct {
	fs    vfs.FS
	dir   string
	o     VerifyOptions
	mark  *Position
	rep   Report
	total int64
	more  *segmentFile // begun by a daemon since we listed the files
}

// Verify checks a log without changing it: every segment header, frame, checksum and record, the chain, LSN continuity, epoch
// order. It may run beside a daemon that uses the log. The error is the first of Report.Problems, or an I/O error, or that of
// OnFrame; the report holds what was seen until then. Frames behind a problem in a segment are not looked at.
func Verify(fs vfs.FS, dir string, o VerifyOptions) (Report, error) {
	v := &verifier{fs: fs, dir: dir, o: o}
	if v.o.Progress == nil {
		v.o.Progress = func(int64, int64) {}
	}
	if v.o.OnFrame == nil {
		v.o.OnFrame = func(*Frame) error { return nil }
	}
	if err := v.run(); err != nil {
		return v.rep, fmt.Errorf("verify %s: %w", dir, err)
	}
	if len(v.rep.Problems) > 0 {
		return v.rep, v.rep.Problems[0]
	}
	return v.rep, nil
}

func (v *verifier) run() error {
	var note cleanNote
	ok, err := readNote(v.fs, v.dir, noteClean, &note)
	if errors.Is(err, ErrCorrupt) {
		v.problem(err)
	} else if err != nil {
		return err
	}
	if ok {
		v.mark = &note.End
	}
	for after := uint64(0); ; {
		files, used, err := v.files(after)
		if err != nil || used == 0 {
			return err
		}
		if trimmed, err := v.all(files, used); err != nil || !trimmed {
			return err
		}
		// A daemon trims as fast as we read: go on with what is there now.
		after = v.rep.Segments[len(v.rep.Segments)-1].Seq
	}
}

// all verifies the segments in use, and those that a daemon begins meanwhile. It reports whether the last of them was trimmed.
func (v *verifier) all(files []segmentFile, used int) (trimmed bool, err error) {
	v.rep.Identity, v.rep.End = files[0].head.Identity, files[0].head.Prev
	v.rep.Start = v.rep.End
	for i := 0; i < used; i++ {
		if err := v.segment(files[i], files, used, i); err != nil {
			return false, err
		}
		if v.more != nil {
			files, used, v.more = append(files[:used:used], *v.more), used+1, nil
		}
	}
	if v.rep.Segments[len(v.rep.Segments)-1].State == stateTrimmed {
		return true, nil
	}
	for _, s := range files[used:] {
		row := SegmentReport{File: s.path, Seq: s.seq, Size: s.size, State: stateNext}
		if s.state == headBad {
			row.State = stateDamaged
			v.problem(s.unreadable(v.rep.End, ""))
		}
		v.rep.Segments = append(v.rep.Segments, row)
	}
	return false, nil
}

func (v *verifier) problem(err error) { v.rep.Problems = append(v.rep.Problems, err) }

// files lists the segments behind a sequence number, again if the list changes under it.
func (v *verifier) files(after uint64) (files []segmentFile, used int, err error) {
	for range verifyTries {
		if files, err = v.list(after); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue // trimmed between listing and opening
			}
			return nil, 0, err
		}
		want := v.o.Identity
		if want == nil && len(files) > 0 && files[0].state == headGood {
			want = &files[0].head.Identity
		}
		if used, err = arrange(func(n string) string { return v.fs.PathJoin(v.dir, n) }, files, want); err == nil {
			break
		}
	}
	if err != nil && errors.As(err, new(*CorruptError)) {
		v.problem(err)
		return nil, 0, nil
	}
	if err == nil && used == 0 && len(files) > 0 && (len(files) > 1 || files[0].state != headZero) {
		v.problem(files[0].unreadable(Position{}, ""))
	}
	return files, used, err
}

func (v *verifier) list(after uint64) ([]segmentFile, error) {
	l, err := listDir(v.fs, v.dir)
	if err != nil {
		return nil, err
	}
	var files []segmentFile
	v.total = v.rep.Bytes
	for _, seq := range l.segments {
		if seq <= after {
			continue
		}
		s, err := readSegmentFile(v.fs, v.dir, seq)
		if err != nil {
			return nil, err
		}
		files = append(files, s)
		v.total += s.size
	}
	return files, nil
}

// segment verifies one segment in use, the i-th of files.
func (v *verifier) segment(s segmentFile, files []segmentFile, used, i int) error {
	row := SegmentReport{File: s.path, Seq: s.seq, First: s.head.Prev.LSN + 1, Last: s.head.Prev.LSN, Bytes: segmentHeader, Size: s.size, State: stateOK}
	if i > 0 && s.head.Prev != v.rep.End && files[i-1].seq+1 == s.seq && !v.broken() {
		v.problem(&CorruptError{Kind: ErrForeign, File: s.path, Expected: "a segment that follows " + v.rep.End.String(),
			Found: "one that follows " + s.head.Prev.String(), Good: v.rep.End, Advice: adviseRepair})
		row.State = stateDamaged
	}
	f, err := v.fs.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		v.trimmed(row, files, used, i)
		return nil
	}
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.path, err)
	}
	defer f.Close()
	w := newWalker(f, s.size, segmentHeader, s.head.Prev, MaxFrameBytes)
	err = v.walk(w, s, &row, files, i == used-1)
	if row.State == stateTrimmed {
		v.trimmed(row, files, used, i)
		return err
	}
	v.rep.Segments = append(v.rep.Segments, row)
	v.rep.End = w.pos
	return err
}

// trimmed notes that a segment went while we looked: the log begins behind it now.
func (v *verifier) trimmed(row SegmentReport, files []segmentFile, used, i int) {
	row.State = stateTrimmed
	v.rep.Segments = append(v.rep.Segments, row)
	if i+1 < used {
		v.rep.Start, v.rep.End = files[i+1].head.Prev, files[i+1].head.Prev
	}
}

// broken reports whether the end of the last row is a problem already.
func (v *verifier) broken() bool {
	n := len(v.rep.Segments)
	return n > 0 && v.rep.Segments[n-1].State == stateDamaged
}
