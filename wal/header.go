package wal

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"
)

// HeaderSize is the length of a frame header and of the zero terminator behind the last frame.
const HeaderSize = 64

// Offsets in a frame header; all numbers are little endian. The places of magic, check and hash stay where they are in
// every future version, so that an unknown version can be told from damage.
const (
	offMagic     = 0  // "RPF" and the version digit
	offCodec     = 4  // u8
	offFlags     = 5  // u8, zero
	offCheck     = 6  // u16: CRC-16 of bytes 0..5 and 8..55
	offStored    = 8  // u32: payload length in the file
	offRaw       = 12 // u32: payload length decompressed
	offCount     = 16 // u32: records
	offCommitted = 20 // u32: first LSN - 1 - committed LSN; all ones: unknown
	offEpoch     = 24 // u64
	offFirst     = 32 // u64
	offTime      = 40 // i64: unix nanoseconds
	offPrev      = 48 // u64: hash of the frame before
	offHash      = 56 // u64: xxhash64(seed = prev, bytes 0..55 and the stored payload)
)

const (
	frameMagic   = "RPF"
	frameVersion = '1'
	minRecord    = 2 // kind and a length of one byte
)

// Header is a decoded frame header.
type Header struct {
	Codec     Codec
	Stored    uint32    // bytes of payload as stored
	Raw       uint32    // bytes of payload decompressed
	Count     uint32    // records, at least 1
	Epoch     Epoch     // of the active that wrote it
	First     LSN       // of the first record
	Committed LSN       // committed LSN known when it was written; 0 is unknown
	Time      time.Time // wall clock of the active when it was written
	Prev      Hash      // chain hash of the frame before
	Hash      Hash      // chain hash of this frame
}

// Last is the LSN of the frame's last record.
func (h Header) Last() LSN { return h.First + LSN(h.Count) - 1 }

// End is the position at the frame's end.
func (h Header) End() Position { return Position{Epoch: h.Epoch, LSN: h.Last(), Hash: h.Hash} }

// Size is the length of the whole frame in bytes.
func (h Header) Size() int64 { return HeaderSize + int64(h.Stored) }

// encode writes the header but for its hash.
func (h Header) encode(b []byte) {
	copy(b[offMagic:], frameMagic)
	b[3] = frameVersion
	b[offCodec] = byte(h.Codec)
	b[offFlags] = 0
	binary.LittleEndian.PutUint32(b[offStored:], h.Stored)
	binary.LittleEndian.PutUint32(b[offRaw:], h.Raw)
	binary.LittleEndian.PutUint32(b[offCount:], h.Count)
	binary.LittleEndian.PutUint32(b[offCommitted:], committedDelta(h.First, h.Committed))
	binary.LittleEndian.PutUint64(b[offEpoch:], uint64(h.Epoch))
	binary.LittleEndian.PutUint64(b[offFirst:], uint64(h.First))
	binary.LittleEndian.PutUint64(b[offTime:], uint64(h.Time.UnixNano()))
	binary.LittleEndian.PutUint64(b[offPrev:], uint64(h.Prev))
	binary.LittleEndian.PutUint16(b[offCheck:], headerCheck(b))
}

// committedDelta encodes the committed LSN relative to the frame. A distance that does not fit becomes "unknown": a
// header must never claim more committed than there was (R7).
func committedDelta(first, committed LSN) uint32 {
	if committed == 0 {
		return math.MaxUint32
	}
	if committed >= first {
		return 0
	}
	if d := first - 1 - committed; d < math.MaxUint32 {
		return uint32(d)
	}
	return math.MaxUint32
}

// DecodeHeader decodes and checks the header of a frame, all but the hash, which needs the payload. Errors wrap ErrCorrupt
// or ErrVersion.
func DecodeHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: frame header of %d bytes: want %d", ErrCorrupt, len(b), HeaderSize)
	}
	if string(b[:3]) != frameMagic {
		return Header{}, fmt.Errorf("%w: frame magic %q: want %q", ErrCorrupt, b[:4], frameMagic+string(rune(frameVersion)))
	}
	if got, want := binary.LittleEndian.Uint16(b[offCheck:]), headerCheck(b); got != want {
		return Header{}, fmt.Errorf("%w: frame header check %04x: want %04x", ErrCorrupt, got, want)
	}
	if b[3] != frameVersion {
		return Header{}, fmt.Errorf("%w: frame version %q: want %q", ErrVersion, b[3], frameVersion)
	}
	h := Header{
		Codec:  Codec(b[offCodec]),
		Stored: binary.LittleEndian.Uint32(b[offStored:]),
		Raw:    binary.LittleEndian.Uint32(b[offRaw:]),
		Count:  binary.LittleEndian.Uint32(b[offCount:]),
		Epoch:  Epoch(binary.LittleEndian.Uint64(b[offEpoch:])),
		First:  LSN(binary.LittleEndian.Uint64(b[offFirst:])),
		Time:   time.Unix(0, int64(binary.LittleEndian.Uint64(b[offTime:]))),
		Prev:   Hash(binary.LittleEndian.Uint64(b[offPrev:])),
		Hash:   Hash(binary.LittleEndian.Uint64(b[offHash:])),
	}
	if d := binary.LittleEndian.Uint32(b[offCommitted:]); d != math.MaxUint32 && LSN(d) < h.First {
		h.Committed = h.First - 1 - LSN(d)
	}
	if b[offFlags] != 0 {
		return Header{}, fmt.Errorf("%w: frame flags %02x: want 0", ErrVersion, b[offFlags])
	}
	return h, h.validate()
}

// validate checks what holds in every header, before anything is allocated.
func (h Header) validate() error {
	switch {
	case h.Codec != CodecNone && h.Codec != CodecS2 && h.Codec != CodecZstd:
		return fmt.Errorf("%w: frame codec %d", ErrVersion, h.Codec)
	case h.Count == 0 || h.First == 0 || h.Epoch == 0:
		return fmt.Errorf("%w: frame of %d records from LSN %d in epoch %d", ErrCorrupt, h.Count, h.First, h.Epoch)
	case uint64(h.First) > math.MaxUint64-uint64(h.Count):
		return fmt.Errorf("%w: frame of %d records from LSN %d overflows", ErrCorrupt, h.Count, h.First)
	case h.Stored > MaxFrameBytes || h.Raw > MaxFrameBytes:
		return fmt.Errorf("%w: frame of %d bytes stored, %d raw: want at most %d", ErrTooLarge, h.Stored, h.Raw, MaxFrameBytes)
	case uint64(h.Raw) < minRecord*uint64(h.Count):
		return fmt.Errorf("%w: frame of %d records in %d bytes", ErrCorrupt, h.Count, h.Raw)
	case h.Stored == 0 || h.Stored > h.Raw || (h.Codec == CodecNone) != (h.Stored == h.Raw):
		return fmt.Errorf("%w: frame of %d bytes stored by codec %v, %d raw", ErrCorrupt, h.Stored, h.Codec, h.Raw)
	}
	return nil
}

// checkLimit refuses frames above the configured limit, before anything is allocated.
func (h Header) checkLimit(limit uint32) error {
	if h.Stored > limit || h.Raw > limit {
		return fmt.Errorf("%w: frame of %d bytes stored, %d raw: want at most %d", ErrTooLarge, h.Stored, h.Raw, limit)
	}
	return nil
}

// chainHash is the hash of a frame whose first HeaderSize bytes are head (its own hash field is not covered).
func chainHash(prev Hash, head, stored []byte) Hash {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(prev))
	_, _ = d.Write(head[:offHash]) // a Digest's Write never fails
	_, _ = d.Write(stored)
	return Hash(d.Sum64())
}

// headerCheck lets a header be trusted apart from its payload: the length in it tells where a torn frame would have ended.
// A CRC rather than bits of a hash, because it catches every flip of up to three bits and every burst of up to 16.
func headerCheck(b []byte) uint16 {
	return crc16(crc16(0xffff, b[:offCheck]), b[offCheck+2:offHash])
}

// crc16 is CRC-16/CCITT (polynomial 0x1021), four bits at a time.
func crc16(crc uint16, b []byte) uint16 {
	table := [16]uint16{
		0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
		0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
	}
	for _, c := range b {
		crc = crc<<4 ^ table[byte(crc>>12)^c>>4]
		crc = crc<<4 ^ table[byte(crc>>12)^c&15]
	}
	return crc
}
