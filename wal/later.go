package wal

import "bytes"

// later is a sound frame behind the place where the log seems to end.
type later struct {
	File   string
	Offset int64
	First  LSN
	Last   LSN
	// SameWrite: it was written together with what is missing, so it does not prove that the missing part was durable.
	SameWrite bool
}

// findLater searches a file from off on for a sound frame with LSN ≥ expected, at any byte offset. Frames of lower LSNs
// are what a recycled segment still holds of its former life; they are stepped over whole, so that nothing inside a
// client's value is taken for a frame. A frame of another write ends the search; one of the same write is returned if
// there is no better.
func findLater(win *window, file string, off int64, expected LSN) (*later, error) {
	var weak *later
	magic := []byte(frameMagic)
	for off+HeaderSize <= win.limit {
		b, err := win.bytes(off, readAhead)
		if err != nil {
			return nil, err
		}
		i := bytes.Index(b, magic)
		if i < 0 {
			off += int64(max(1, len(b)-len(magic)+1))
			continue
		}
		off += int64(i)
		h, ok, err := soundFrame(win, off)
		if err != nil {
			return nil, err
		}
		if !ok {
			off++
			continue
		}
		if h.First >= expected {
			l := &later{File: file, Offset: off, First: h.First, Last: h.Last()}
			if l.SameWrite, err = sameWrite(win, off, h.First, expected); err != nil {
				return nil, err
			}
			if !l.SameWrite {
				return l, nil
			}
			weak = l
		}
		off += h.Size()
	}
	return weak, nil
}

// soundFrame reports whether a frame that is sound by itself begins at off.
func soundFrame(win *window, off int64) (Header, bool, error) {
	b, err := win.bytes(off, HeaderSize)
	if err != nil || len(b) < HeaderSize {
		return Header{}, false, err
	}
	h, err := DecodeHeader(b)
	if err != nil || off+h.Size() > win.limit {
		return Header{}, false, nil
	}
	if b, err = win.bytes(off, int(h.Size())); err != nil || int64(len(b)) < h.Size() {
		return Header{}, false, err
	}
	return h, chainHash(h.Prev, b, b[HeaderSize:]) == h.Hash, nil
}

// sameWrite reports whether the frame at off was written in one go with the record expected.
func sameWrite(win *window, off int64, first, expected LSN) (bool, error) {
	if off < segmentHeader+HeaderSize {
		return false, nil
	}
	b, err := win.bytes(off-HeaderSize, HeaderSize)
	if err != nil {
		return false, err
	}
	j, ok := decodeJoin(b)
	return ok && j.next == first && j.begin <= expected, nil
}

// neverWhole reports whether the bytes at a damaged place prove that the write of the frame there never reached the disk
// completely, so that it was never synced and never acked. It rests on two properties of disks: sectors of 512 bytes are
// written whole or not at all, and bit rot does not turn a run of bytes into zeros.
func neverWhole(win *window, s step) (bool, error) {
	b, err := win.bytes(s.off, HeaderSize)
	if err != nil || len(b) < HeaderSize {
		return false, err
	}
	if cut := int(sector - s.off%sector); cut < HeaderSize && tornHeader(b[:cut], b[cut:]) {
		return true, nil
	}
	if !s.headOK {
		return false, nil
	}
	end := s.off + s.head.Size()
	if b, err = win.bytes(end, HeaderSize); err != nil {
		return false, err
	}
	if len(b) == HeaderSize && !allZero(b) && !looksWritten(b) {
		return true, nil // the terminator belongs to the write, and it is not there
	}
	if s.head.Codec == CodecNone {
		return false, nil // zeros may be the client's own
	}
	return zeroSector(win, s.off+HeaderSize, end)
}

// tornHeader reports whether one of two sectors that share a header still holds the zero terminator that was there before.
func tornHeader(a, b []byte) bool {
	const enough = 4 // bytes of the magic in front, of the hash at the end
	zeroA, zeroB := allZero(a), allZero(b)
	return zeroA && !zeroB && len(a) >= enough || zeroB && !zeroA && len(b) >= enough
}

// looksWritten reports whether b begins what a following write would have put there.
func looksWritten(b []byte) bool {
	_, err := DecodeHeader(b)
	_, ok := decodeJoin(b)
	return err == nil || ok
}

// zeroSector reports whether the part of [off, end) in one of its sectors is nothing but zeros; parts too short to tell
// are passed over.
func zeroSector(win *window, off, end int64) (bool, error) {
	for off < end {
		next := min(end, off-off%sector+sector)
		b, err := win.bytes(off, int(next-off))
		if err != nil {
			return false, err
		}
		if len(b) >= HeaderSize && allZero(b) {
			return true, nil
		}
		off = next
	}
	return false, nil
}
