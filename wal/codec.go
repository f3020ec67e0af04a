package wal

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec says how a frame's payload is compressed.
type Codec uint8

// Codecs. Zero is none of them, so that zeroed bytes and unset options are seen.
const (
	CodecNone Codec = 1
	CodecS2   Codec = 2
	CodecZstd Codec = 3
)

// compressFrom is the raw size below which compression is not tried: measured, it saves too few bytes there for its time.
const compressFrom = 256

// String returns the codec's name as configuration and dumps write it.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecS2:
		return "s2"
	case CodecZstd:
		return "zstd"
	}
	return fmt.Sprintf("codec-%d", uint8(c))
}

// ParseCodec is the inverse of Codec.String.
func ParseCodec(s string) (Codec, error) {
	for _, c := range []Codec{CodecNone, CodecS2, CodecZstd} {
		if c.String() == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("codec %q: want none, s2 or zstd", s)
}

// compressor compresses frame payloads into its own scratch memory. One goroutine owns it.
type compressor struct {
	codec   Codec
	scratch []byte
	zstd    *zstd.Encoder
}

func newCompressor(c Codec) (*compressor, error) {
	comp := &compressor{codec: c}
	if c == CodecZstd {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd encoder: %w", err)
		}
		comp.zstd = enc
	}
	return comp, nil
}

// compress returns raw itself (CodecNone) when it is small or does not shrink, else scratch memory that is good until the
// next call.
func (c *compressor) compress(raw []byte) (Codec, []byte) {
	if c.codec == CodecNone || len(raw) < compressFrom {
		return CodecNone, raw
	}
	var out []byte
	if c.codec == CodecZstd {
		out = c.zstd.EncodeAll(raw, c.scratch[:0])
	} else {
		out = s2.Encode(c.scratch[:cap(c.scratch)], raw)
	}
	if cap(out) > cap(c.scratch) && cap(out) <= 2*s2.MaxEncodedLen(DefaultFrameBytes) {
		c.scratch = out[:0]
	}
	if len(out) >= len(raw) {
		return CodecNone, raw
	}
	return c.codec, out
}

// decoders keeps zstd decoders for the frames of one log. They belong to the log and not to the package, because one made
// inside a synctest bubble must not be used outside. A nil *decoders makes a decoder for each frame.
type decoders struct{ pool sync.Pool }

func (d *decoders) get() (*zstd.Decoder, error) {
	if d != nil {
		if dec, ok := d.pool.Get().(*zstd.Decoder); ok {
			return dec, nil
		}
	}
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxFrameBytes))
}

func (d *decoders) put(dec *zstd.Decoder) {
	if d != nil {
		d.pool.Put(dec)
	} else {
		dec.Close()
	}
}

// decompress returns the raw payload of a frame with a good checksum. It allocates what the header says, no more, and
// only after the compressed form agrees with it.
func decompress(h Header, stored []byte, d *decoders) ([]byte, error) {
	switch h.Codec {
	case CodecNone:
		return stored, nil
	case CodecS2:
		if n, err := s2.DecodedLen(stored); err != nil || n != int(h.Raw) {
			return nil, fmt.Errorf("%w: s2 payload of frame at LSN %d says %d raw bytes: want %d", ErrCorrupt, h.First, n, h.Raw)
		}
		raw, err := s2.Decode(make([]byte, h.Raw), stored)
		if err != nil {
			return nil, fmt.Errorf("%w: frame at LSN %d: %w", ErrCorrupt, h.First, err)
		}
		return raw, nil
	case CodecZstd:
		return decompressZstd(h, stored, d)
	}
	return nil, fmt.Errorf("%w: codec %v", ErrVersion, h.Codec)
}

func decompressZstd(h Header, stored []byte, d *decoders) ([]byte, error) {
	var zh zstd.Header
	if err := zh.Decode(stored); err != nil || !zh.HasFCS || zh.FrameContentSize != uint64(h.Raw) {
		return nil, fmt.Errorf("%w: zstd payload of frame at LSN %d says %d raw bytes: want %d", ErrCorrupt, h.First, zh.FrameContentSize, h.Raw)
	}
	dec, err := d.get()
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	defer d.put(dec)
	raw, err := dec.DecodeAll(stored, make([]byte, 0, h.Raw))
	if err != nil || len(raw) != int(h.Raw) {
		return nil, fmt.Errorf("%w: zstd payload of frame at LSN %d has %d raw bytes: want %d (%v)", ErrCorrupt, h.First, len(raw), h.Raw, err)
	}
	return raw, nil
}
