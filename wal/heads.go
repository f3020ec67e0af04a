package wal

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// headState is what a segment file's first bytes are.
type headState uint8

const (
	headGood headState = iota
	headZero           // prepared, not yet in use
	headBad
)

// segmentFile is a segment file as recovery and Verify find it.
type segmentFile struct {
	seq   uint64 // by its name
	path  string
	size  int64
	state headState
	head  segmentHead
	err   error // headBad: why
}

// readSegmentFile reads the header of a segment file. The error is an I/O error.
func readSegmentFile(fs vfs.FS, dir string, seq uint64) (segmentFile, error) {
	s := segmentFile{seq: seq, path: fs.PathJoin(dir, segmentName(seq))}
	f, err := fs.Open(s.path)
	if err != nil {
		return s, fmt.Errorf("open segment %s: %w", s.path, err)
	}
	defer f.Close()
	if s.size, err = fileSize(f); err != nil {
		return s, fmt.Errorf("stat segment %s: %w", s.path, err)
	}
	win := window{f: f, limit: min(s.size, segmentHeader)}
	b, err := win.bytes(0, segmentHeader)
	if err != nil {
		return s, fmt.Errorf("read segment %s: %w", s.path, err)
	}
	if allZero(b) {
		s.state = headZero
	} else if s.head, s.err = decodeSegmentHead(b); s.err != nil {
		s.state = headBad
	}
	return s, nil
}

// check compares a good header with the file's name and the log's identity (D20, H3).
func (s segmentFile) check(want *Identity) error {
	refuse := func(expected, got string) error {
		return &CorruptError{Kind: ErrForeign, File: s.path, Expected: expected, Found: got,
			Advice: "was the file renamed or copied from elsewhere? put the right one back, or let a peer re-seed this node"}
	}
	id := s.head.Identity
	switch {
	case s.head.Seq != s.seq:
		return refuse(fmt.Sprintf("segment %d", s.seq), fmt.Sprintf("segment %d", s.head.Seq))
	case want == nil:
		return nil
	case id.Cluster != want.Cluster:
		return refuse(fmt.Sprintf("cluster %q", want.Cluster), fmt.Sprintf("cluster %q", id.Cluster))
	case id.Group != want.Group:
		return refuse(fmt.Sprintf("group %q", want.Group), fmt.Sprintf("group %q", id.Group))
	case id.Incarnation != want.Incarnation:
		return refuse(fmt.Sprintf("incarnation %x", want.Incarnation), fmt.Sprintf("incarnation %x", id.Incarnation))
	}
	return nil
}

// unreadable is the error for a file whose header is not good where it has to be.
func (s segmentFile) unreadable(good Position, proof string) error {
	e := &CorruptError{File: s.path, Expected: fmt.Sprintf("the header of segment %d", s.seq), Found: "zeros", Good: good, Proof: proof, Advice: adviseRepair}
	if s.err != nil {
		e.Found = reason(s.err)
	}
	if errors.Is(s.err, ErrVersion) {
		e.Kind, e.Advice = ErrVersion, adviseVersion
	}
	return e
}

const (
	adviseRepair  = "nothing was changed: let a peer re-seed this node, or restore the file from a copy"
	adviseVersion = "nothing was changed: start the version that wrote it, or a newer one"
	adviseLimit   = "nothing was changed: raise the frame limit"
)

// arrange checks what segment files say of themselves and of their order, before any frame is read. It returns how many of
// them are in use; the others hold no good header and are all behind those.
func arrange(dir func(string) string, files []segmentFile, want *Identity) (used int, err error) {
	for i, s := range files {
		if i > 0 && s.seq != files[i-1].seq+1 {
			missing := files[i-1].seq + 1
			return 0, &CorruptError{File: dir(segmentName(missing)), Expected: fmt.Sprintf("segment %d", missing), Found: "no such file",
				Proof: fmt.Sprintf("segments %d and %d are there", missing-1, s.seq), Advice: adviseRepair}
		}
		if s.state != headGood {
			if errors.Is(s.err, ErrVersion) {
				return 0, s.unreadable(Position{}, "")
			}
			continue
		}
		if err := s.check(want); err != nil {
			return 0, err
		}
		if used != i {
			return 0, files[used].unreadable(Position{}, fmt.Sprintf("segment %d behind it is in use", s.seq))
		}
		used++
	}
	return used, nil
}
