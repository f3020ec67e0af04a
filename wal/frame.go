package wal

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Frame is one or more records, compressed and checksummed as one: the same bytes on disk, on the wire and in the
// archive. It is immutable once made and may be shared by goroutines; handle it as *Frame.
type Frame struct {
	Header
	Bytes []byte // header and stored payload; never modified

	padded  []byte                 // Bytes and a zero terminator in one array, nil if there is no room for it
	raw     atomic.Pointer[[]byte] // decompressed payload, once somebody needed it
	dec     *decoders              // of the log it came through, may be nil
	checked bool                   // hash verified or made here
}

// FrameOptions say what EncodeFrame writes into the header beside the records.
type FrameOptions struct {
	Epoch     Epoch
	Codec     Codec // default CodecS2
	Committed LSN
	Time      time.Time
}

// EncodeFrame builds the frame that follows prev, for tools and tests (a Writer builds its own). The records' LSNs are
// not looked at: they are numbered from prev.LSN+1.
func EncodeFrame(prev Position, o FrameOptions, records []Record) (*Frame, error) {
	if o.Codec == 0 {
		o.Codec = CodecS2
	}
	comp, err := newCompressor(o.Codec)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, HeaderSize)
	for _, r := range records {
		buf = appendRecord(buf, r.Kind, r.Payload)
	}
	if n := len(buf) - HeaderSize; n > MaxFrameBytes {
		return nil, fmt.Errorf("%w: %d bytes of records: want at most %d", ErrTooLarge, n, MaxFrameBytes)
	}
	h := Header{Count: uint32(len(records)), Epoch: o.Epoch, First: prev.LSN + 1, Committed: o.Committed, Time: o.Time, Prev: prev.Hash}
	f, _ := seal(h, buf, comp)
	if err := f.validate(); err != nil {
		return nil, err
	}
	return f, nil
}

// appendRecord appends one record of the raw payload.
func appendRecord(b []byte, kind Kind, payload []byte) []byte {
	b = append(b, byte(kind))
	b = binary.AppendUvarint(b, uint64(len(payload)))
	return append(b, payload...)
}

// recordSize is what appendRecord appends, at most.
func recordSize(payload []byte) int { return 1 + binary.MaxVarintLen32 + len(payload) }

// seal makes a frame of buf: room for a header, then the raw payload. If the payload is stored raw the frame keeps buf
// (kept is true), so that nothing is copied.
func seal(h Header, buf []byte, c *compressor) (f *Frame, kept bool) {
	raw := buf[HeaderSize:]
	if h.Time.IsZero() {
		h.Time = time.Unix(0, 0)
	}
	h.Time = time.Unix(0, h.Time.UnixNano()) // as a decoder will see it
	codec, stored := c.compress(raw)
	h.Codec, h.Raw, h.Stored = codec, uint32(len(raw)), uint32(len(stored))
	var padded []byte
	if kept = codec == CodecNone; kept {
		padded = append(buf, make([]byte, HeaderSize)...)
	} else {
		padded = make([]byte, HeaderSize+len(stored)+HeaderSize)
		copy(padded[HeaderSize:], stored)
	}
	h.encode(padded)
	n := HeaderSize + len(stored)
	h.Hash = chainHash(h.Prev, padded, padded[HeaderSize:n])
	binary.LittleEndian.PutUint64(padded[offHash:], uint64(h.Hash))
	return &Frame{Header: h, Bytes: padded[:n:n], padded: padded, checked: true}, kept
}

// DecodeFrame checks a whole frame by itself: sizes against limit (bytes, stored and raw), then the hash. The frame
// aliases b. Errors wrap ErrCorrupt, ErrVersion or ErrTooLarge.
func DecodeFrame(b []byte, limit uint32) (*Frame, error) {
	h, err := DecodeHeader(b)
	if err != nil {
		return nil, err
	}
	if err := h.checkLimit(limit); err != nil {
		return nil, err
	}
	if int64(len(b)) != h.Size() {
		return nil, fmt.Errorf("%w: frame at LSN %d has %d bytes: want %d", ErrCorrupt, h.First, len(b), h.Size())
	}
	if got := chainHash(h.Prev, b, b[HeaderSize:]); got != h.Hash {
		return nil, fmt.Errorf("%w: frame at LSN %d has hash %v: want %v", ErrCorrupt, h.First, got, h.Hash)
	}
	return &Frame{Header: h, Bytes: b[:len(b):len(b)], checked: true}, nil
}

// readChunk bounds what ReadFrame allocates ahead of the bytes that arrived.
const readChunk = 1 << 20

// ReadFrame reads one frame from a stream. Sizes are checked before anything is allocated, and memory grows with the
// bytes that arrive. io.EOF means the stream ended between frames, io.ErrUnexpectedEOF inside one.
func ReadFrame(r io.Reader, limit uint32) (*Frame, error) {
	head := make([]byte, HeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	h, err := DecodeHeader(head)
	if err != nil {
		return nil, err
	}
	if err := h.checkLimit(limit); err != nil {
		return nil, err
	}
	b, err := readGrowing(r, head, int(h.Stored))
	if err != nil {
		return nil, err
	}
	n := int(h.Size())
	f, err := DecodeFrame(b[:n:n], limit)
	if err != nil {
		return nil, err
	}
	f.padded = b
	return f, nil
}

// readGrowing returns head, n bytes of r and a zero terminator.
func readGrowing(r io.Reader, head []byte, n int) ([]byte, error) {
	b := make([]byte, min(len(head)+n+HeaderSize, len(head)+readChunk))
	got := copy(b, head)
	total := len(head) + n
	for got < total {
		if got == len(b) {
			b = append(b, make([]byte, min(len(b), total+HeaderSize-len(b)))...)
		}
		end := min(len(b), total)
		if _, err := io.ReadFull(r, b[got:end]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		got = end
	}
	if pad := total + HeaderSize - len(b); pad > 0 {
		b = append(b, make([]byte, pad)...)
	}
	return b, nil
}

// Payload returns the raw payload; it decompresses on first use and keeps the result. Errors wrap ErrCorrupt.
func (f *Frame) Payload() ([]byte, error) {
	if f.Codec == CodecNone {
		return f.Bytes[HeaderSize:], nil
	}
	if p := f.raw.Load(); p != nil {
		return *p, nil
	}
	raw, err := decompress(f.Header, f.Bytes[HeaderSize:], f.dec)
	if err != nil {
		return nil, err
	}
	f.raw.Store(&raw)
	return raw, nil
}

// Each calls fn for each record in LSN order until it fails. Payloads alias the frame's memory and may be kept. An error of fn is
// returned as it is; others wrap ErrCorrupt.
func (f *Frame) Each(fn func(Record) error) error {
	b, err := f.Payload()
	if err != nil {
		return err
	}
	for i := range LSN(f.Count) {
		if len(b) < minRecord {
			return fmt.Errorf("%w: frame at LSN %d ends after %d of %d records", ErrCorrupt, f.First, i, f.Count)
		}
		n, w := binary.Uvarint(b[1:])
		if w <= 0 || n > uint64(len(b)-1-w) {
			return fmt.Errorf("%w: record %d has length %d: want at most %d", ErrCorrupt, f.First+i, n, len(b)-1-max(w, 0))
		}
		end := 1 + w + int(n)
		if err := fn(Record{LSN: f.First + i, Kind: Kind(b[0]), Payload: b[1+w : end : end]}); err != nil {
			return err
		}
		b = b[end:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: frame at LSN %d has %d bytes behind its %d records", ErrCorrupt, f.First, len(b), f.Count)
	}
	return nil
}

// cost is what the frame takes in memory at most, with its payload decompressed.
func (f *Frame) cost() int64 {
	n := int64(cap(f.Bytes)) + 256
	if f.Codec != CodecNone {
		n += int64(f.Raw)
	}
	return n
}

// check verifies a frame that was not made by this package's decoders.
func (f *Frame) check(limit uint32) error {
	if f.checked {
		return f.checkLimit(limit)
	}
	d, err := DecodeFrame(f.Bytes, limit)
	if err == nil && (d.Hash != f.Hash || d.First != f.First || d.Count != f.Count) {
		err = fmt.Errorf("%w: frame at LSN %d differs from its own bytes", ErrCorrupt, f.First)
	}
	return err
}
