package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// allocated is how many bytes fn has allocated, at least.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// claim is a frame that says to hold stored and raw bytes, with a good header check.
func claim(t *testing.T, codec Codec, stored, raw uint32, payload []byte) []byte {
	t.Helper()
	f, err := EncodeFrame(Position{}, FrameOptions{Epoch: 1, Codec: CodecNone}, []Record{{Kind: KindEffects, Payload: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	b := append(bytes.Clone(f.Bytes[:HeaderSize]), payload...)
	b[offCodec] = byte(codec)
	binary.LittleEndian.PutUint32(b[offStored:], stored)
	binary.LittleEndian.PutUint32(b[offRaw:], raw)
	binary.LittleEndian.PutUint16(b[offCheck:], headerCheck(b))
	binary.LittleEndian.PutUint64(b[offHash:], uint64(chainHash(0, b, payload)))
	return b
}

// TestNoMemoryAhead: a frame takes memory as its bytes arrive, whatever its header says; sizes above the limit take none.
// Faults: W12 (a header that claims 500 MiB before 1 KiB)
func TestNoMemoryAhead(t *testing.T) {
	kib := bytes.Repeat([]byte{7}, 1<<10)
	for _, stored := range []uint32{500 << 20, 1<<30 - 1, 1<<32 - 1} {
		var err error
		n := allocated(func() {
			_, err = ReadFrame(bytes.NewReader(claim(t, CodecNone, stored, stored, kib)), DefaultMaxFrameBytes)
		})
		if n > 4<<20 {
			t.Errorf("%d bytes claimed: %d allocated", stored, n)
		}
		if stored <= DefaultMaxFrameBytes && !errors.Is(err, io.ErrUnexpectedEOF) || stored > DefaultMaxFrameBytes && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes claimed: %v", stored, err)
		}
	}
}

// TestBomb: what a kilobyte decompresses to is bounded by what its header says, and that by the frame limit.
// Faults: W12 (zstd of 64 MiB of zeros behind a header that claims less)
func TestBomb(t *testing.T) {
	var packed bytes.Buffer
	enc, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := enc.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []uint32{1 << 20, 8 << 20} {
		b := claim(t, CodecZstd, uint32(packed.Len()), raw, packed.Bytes())
		f, err := DecodeFrame(b, 16<<20)
		if err != nil {
			t.Fatal(err)
		}
		n := allocated(func() { _, err = f.Payload() })
		if !errors.Is(err, ErrCorrupt) || n > 2*uint64(raw)+32<<20 {
			t.Errorf("%d bytes that claim %d became 64 MiB: %v, %d allocated", packed.Len(), raw, err, n)
		}
	}
	if _, err := DecodeFrame(claim(t, CodecZstd, uint32(packed.Len()), 64<<20, packed.Bytes()), 16<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("above the limit: %v", err)
	}
}
