package wal

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// A join mark stands before a frame that was written together with the frames before it, without a sync between them (a
// standby appends several frames at once). Only with it can recovery tell "damage before a durable frame" from "a write of
// several frames of which the disk kept a later one": frames of one write prove nothing about each other.
//
// The mark is a 64-byte header, padding, and the same header again. The padding brings the second copy and the frame's
// header into one disk sector, so that a frame that is there has its mark.
//
//	0 magic "RPJ1" · 4 length of the whole mark u32 · 8 first LSN of the write u64 · 16 first LSN of the frame behind u64
//	24 zero [32] · 56 xxhash64 of bytes 0..55
const (
	joinMagic = "RPJ1"
	sector    = 512
)

type joinMark struct {
	size  int64 // of the mark, padding included
	begin LSN   // first LSN of the write
	next  LSN   // first LSN of the frame behind the mark
}

// joinSize is the size of a mark at off.
func joinSize(off int64) int64 {
	if off%sector+2*HeaderSize <= sector {
		return HeaderSize
	}
	pad := (sector - (off+HeaderSize)%sector) % sector
	return HeaderSize + pad + HeaderSize
}

// append appends the mark's bytes.
func (j joinMark) append(b []byte) []byte {
	var h [HeaderSize]byte
	copy(h[:], joinMagic)
	binary.LittleEndian.PutUint32(h[4:], uint32(j.size))
	binary.LittleEndian.PutUint64(h[8:], uint64(j.begin))
	binary.LittleEndian.PutUint64(h[16:], uint64(j.next))
	binary.LittleEndian.PutUint64(h[56:], xxhash.Sum64(h[:56]))
	b = append(b, h[:]...)
	if j.size == HeaderSize {
		return b
	}
	b = append(b, make([]byte, j.size-2*HeaderSize)...)
	return append(b, h[:]...)
}

// decodeJoin decodes one of the two headers of a mark.
func decodeJoin(b []byte) (joinMark, bool) {
	if len(b) < HeaderSize || string(b[:4]) != joinMagic || binary.LittleEndian.Uint64(b[56:]) != xxhash.Sum64(b[:56]) {
		return joinMark{}, false
	}
	j := joinMark{
		size:  int64(binary.LittleEndian.Uint32(b[4:])),
		begin: LSN(binary.LittleEndian.Uint64(b[8:])),
		next:  LSN(binary.LittleEndian.Uint64(b[16:])),
	}
	return j, j.size >= HeaderSize && j.size < 2*HeaderSize+sector && j.begin < j.next
}
