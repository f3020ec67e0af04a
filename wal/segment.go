package wal

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// A segment file begins with a header of segmentHeader bytes. It lies in one disk sector, so it is there or it is not.
//
//	  0 magic "RPLS" · 4 version u16 · 6 zero u16 · 8 sequence u64 · 16 first LSN u64
//	 24 position before it: epoch u64, LSN u64, hash u64 · 48 created, unix ns i64
//	 56 incarnation [16] · 72 length of cluster u8, of group u8, zero [6] · 80 cluster [72] · 152 group [72] · 224 zero [24]
//	248 xxhash64 of bytes 0..247, in every version
const (
	segmentHeader  = 256
	segmentMagic   = "RPLS"
	segmentVersion = 1
	segmentSuffix  = ".seg"
	spareSuffix    = ".spare"
	tmpSuffix      = ".tmp"
	indexEvery     = 256 << 10 // bytes between entries of a segment's sparse index
)

// segmentHead is a decoded segment header.
type segmentHead struct {
	Identity Identity
	Seq      uint64
	Prev     Position // end of the frame before the segment's first
	Created  time.Time
}

func (h segmentHead) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[4:], segmentVersion)
	binary.LittleEndian.PutUint64(b[8:], h.Seq)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.Prev.LSN)+1)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.Prev.Epoch))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Prev.LSN))
	binary.LittleEndian.PutUint64(b[40:], uint64(h.Prev.Hash))
	binary.LittleEndian.PutUint64(b[48:], uint64(h.Created.UnixNano()))
	copy(b[56:], h.Identity.Incarnation[:])
	b[72], b[73] = byte(len(h.Identity.Cluster)), byte(len(h.Identity.Group))
	copy(b[80:152], h.Identity.Cluster)
	copy(b[152:224], h.Identity.Group)
	binary.LittleEndian.PutUint64(b[248:], xxhash.Sum64(b[:248]))
	return b
}

// decodeSegmentHead decodes and checks a header. Errors wrap ErrCorrupt or ErrVersion.
func decodeSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < segmentHeader {
		return segmentHead{}, fmt.Errorf("%w: segment header of %d bytes: want %d", ErrCorrupt, len(b), segmentHeader)
	}
	b = b[:segmentHeader]
	if got := string(b[:4]); got != segmentMagic {
		return segmentHead{}, fmt.Errorf("%w: segment magic %q: want %q", ErrCorrupt, got, segmentMagic)
	}
	if got, want := binary.LittleEndian.Uint64(b[248:]), xxhash.Sum64(b[:248]); got != want {
		return segmentHead{}, fmt.Errorf("%w: segment header checksum %016x: want %016x", ErrCorrupt, got, want)
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != segmentVersion {
		return segmentHead{}, fmt.Errorf("%w: segment version %d: want %d", ErrVersion, v, segmentVersion)
	}
	h := segmentHead{
		Seq: binary.LittleEndian.Uint64(b[8:]),
		Prev: Position{
			Epoch: Epoch(binary.LittleEndian.Uint64(b[24:])),
			LSN:   LSN(binary.LittleEndian.Uint64(b[32:])),
			Hash:  Hash(binary.LittleEndian.Uint64(b[40:])),
		},
		Created: time.Unix(0, int64(binary.LittleEndian.Uint64(b[48:]))),
	}
	copy(h.Identity.Incarnation[:], b[56:72])
	nc, ng := int(b[72]), int(b[73])
	if nc > maxNameBytes || ng > maxNameBytes {
		return segmentHead{}, fmt.Errorf("%w: segment header names of %d and %d bytes", ErrCorrupt, nc, ng)
	}
	h.Identity.Cluster, h.Identity.Group = string(b[80:80+nc]), string(b[152:152+ng])
	if first := LSN(binary.LittleEndian.Uint64(b[16:])); first != h.Prev.LSN+1 || first == 0 {
		return segmentHead{}, fmt.Errorf("%w: segment header: first LSN %d after LSN %d", ErrCorrupt, first, h.Prev.LSN)
	}
	return h, h.Identity.validate()
}

// indexEntry says where a frame begins (with the join mark before it, if any).
type indexEntry struct {
	prev Position // end of the frame before
	off  int64
}

// segment is what the log knows of a segment file. Log.mu guards it; seq, path, prev and created never change.
type segment struct {
	seq     uint64
	path    string
	prev    Position
	created time.Time

	last  Position // end of its last frame; prev while empty
	end   int64    // bytes in use, the terminator not counted
	size  int64    // bytes in the file, at least
	index []indexEntry
	refs  int // readers of the file: as long as there are any it must not be reused
}

// add notes a frame that begins at off (join mark included) and ends at end.
func (s *segment) add(h Header, off, end int64) {
	if n := len(s.index); n == 0 || off-s.index[n-1].off >= indexEvery {
		s.index = append(s.index, indexEntry{prev: s.last, off: off})
	}
	s.last, s.end = h.End(), end
}

// seek returns the last index entry whose frame begins at or before the record after lsn.
func (s *segment) seek(lsn LSN) indexEntry {
	e := indexEntry{prev: s.prev, off: segmentHeader}
	lo, hi := 0, len(s.index)
	for lo < hi {
		if mid := (lo + hi) / 2; s.index[mid].prev.LSN <= lsn {
			e, lo = s.index[mid], mid+1
		} else {
			hi = mid
		}
	}
	return e
}

// cut forgets everything behind to, which ends at offset end.
func (s *segment) cut(to Position, end int64) {
	s.last, s.end = to, end
	for n := len(s.index); n > 0 && s.index[n-1].off >= end; n-- {
		s.index = s.index[:n-1]
	}
}

func segmentName(seq uint64) string { return fmt.Sprintf("%020d%s", seq, segmentSuffix) }
func spareName(seq uint64) string   { return fmt.Sprintf("%020d%s", seq, spareSuffix) }

// parseName returns the sequence number in a file name with the suffix.
func parseName(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil
}
