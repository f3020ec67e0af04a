package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// readAhead is how much of a segment is read at once.
const readAhead = 256 << 10

// window reads a file through a buffer, never beyond limit.
type window struct {
	f     io.ReaderAt
	limit int64 // bytes of the file that may be looked at
	off   int64 // of buf[0]
	buf   []byte
}

// bytes returns n bytes at off; they are good until the next call. Fewer are returned only if the limit or the file ends there.
func (w *window) bytes(off int64, n int) ([]byte, error) {
	if n = int(max(0, min(int64(n), w.limit-off))); n == 0 {
		return nil, nil
	}
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.buf)) {
		return w.buf[off-w.off:][:n], nil
	}
	want := int(min(int64(max(n, readAhead)), w.limit-off))
	if cap(w.buf) < want || cap(w.buf) > 4*max(want, readAhead) {
		w.buf = make([]byte, want)
	}
	got, err := w.f.ReadAt(w.buf[:want], off)
	w.off, w.buf = off, w.buf[:got]
	if got < n && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return w.buf[:min(n, got)], nil
}

// drop forgets what was read, because the file changed.
func (w *window) drop() { w.buf = w.buf[:0] }

// found is what stands at the place where the next frame is expected.
type found uint8

const (
	foundFrame found = iota // a good frame that continues the chain
	foundZero               // zeros: the clean end
	foundShort              // the file ends before a whole header
	foundBad                // anything else
)

// step is one look at the place of the next frame.
type step struct {
	found  found
	off    int64  // where the frame itself begins
	size   int64  // from the walker's place to the frame's end
	head   Header // of a frame; of a bad one if headOK
	headOK bool   // the header is sound and continues the chain, whatever the payload is
	valid  bool   // foundBad: a frame that is sound by itself but belongs elsewhere
	joined bool
	bytes  []byte // the frame; good until the next look
	why    string // foundBad: what is wrong
	refuse error  // foundBad: nothing is wrong but that this build or its limits cannot read it
}

// walker follows the chain of frames through one segment.
type walker struct {
	win      window
	maxFrame uint32
	off      int64    // where the next frame or join mark is expected
	pos      Position // end of the last frame
	begin    int64    // where the last write began
	prev     Position // end of the frame before the last write
}

func newWalker(f io.ReaderAt, limit int64, off int64, pos Position, maxFrame uint32) *walker {
	return &walker{win: window{f: f, limit: limit}, maxFrame: maxFrame, off: off, pos: pos, begin: off, prev: pos}
}

// look examines the next place without stepping over it. The error is an I/O error.
func (w *walker) look() (step, error) {
	at, joined := w.off, false
	b, err := w.win.bytes(at, HeaderSize)
	if err != nil {
		return step{}, err
	}
	if j, ok := decodeJoin(b); ok && j.next == w.pos.LSN+1 {
		at, joined = at+j.size, true
		if b, err = w.win.bytes(at, HeaderSize); err != nil {
			return step{}, err
		}
	}
	s := step{off: at, joined: joined}
	switch {
	case len(b) < HeaderSize:
		s.found, s.why = foundShort, fmt.Sprintf("the end of the file after %d bytes", len(b))
		return s, nil
	case !joined && allZero(b):
		s.found, s.why = foundZero, "zeros"
		return s, nil
	}
	return s, w.frame(&s, b)
}

// frame fills s from a place that is not empty.
func (w *walker) frame(s *step, b []byte) error {
	s.found = foundBad
	h, err := DecodeHeader(b)
	if err == nil {
		err = h.checkLimit(w.maxFrame)
	}
	if err != nil {
		s.why = reason(err)
		if errors.Is(err, ErrVersion) || errors.Is(err, ErrTooLarge) {
			s.refuse = err // its header check is good, so it is no garbage
		}
		return nil
	}
	s.head, s.size = h, s.off+h.Size()-w.off
	why := w.breaks(h)
	s.headOK = why == ""
	if s.off+h.Size() > w.win.limit {
		s.why = fmt.Sprintf("a frame of %d bytes in a file of %d", h.Size(), w.win.limit)
		return nil
	}
	if s.bytes, err = w.win.bytes(s.off, int(h.Size())); err != nil {
		return err
	}
	if int64(len(s.bytes)) < h.Size() {
		s.why = fmt.Sprintf("a frame cut after %d of %d bytes", len(s.bytes), h.Size())
		return nil
	}
	hash := chainHash(h.Prev, s.bytes, s.bytes[HeaderSize:])
	s.valid = hash == h.Hash
	switch {
	case s.valid && s.headOK:
		s.found = foundFrame
	case s.headOK:
		s.why = fmt.Sprintf("a frame of LSN %d to %d with hash %v, not %v as in its header", h.First, h.Last(), hash, h.Hash)
	default:
		s.why = why
	}
	return nil
}

// breaks tells how a header fails to continue the chain; "" if it does.
func (w *walker) breaks(h Header) string {
	switch {
	case h.First != w.pos.LSN+1:
		return fmt.Sprintf("a frame of LSN %d to %d", h.First, h.Last())
	case h.Prev != w.pos.Hash:
		return fmt.Sprintf("a frame of LSN %d to %d that follows hash %v", h.First, h.Last(), h.Prev)
	case h.Epoch < w.pos.Epoch:
		return fmt.Sprintf("a frame of LSN %d to %d in epoch %d", h.First, h.Last(), h.Epoch)
	}
	return ""
}

// accept steps over a frame that look found.
func (w *walker) accept(s step) {
	if !s.joined {
		w.begin, w.prev = w.off, w.pos
	}
	w.off, w.pos = w.off+s.size, s.head.End()
}

// copyFrame returns the frame of a step in memory of its own, with room for a terminator.
func (s step) copyFrame(d *decoders) *Frame {
	n := len(s.bytes)
	padded := make([]byte, n+HeaderSize)
	copy(padded, s.bytes)
	return &Frame{Header: s.head, Bytes: padded[:n:n], padded: padded, dec: d, checked: true}
}

func allZero(b []byte) bool {
	var zeros [4096]byte
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
