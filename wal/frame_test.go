package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestFrameGolden pins the format: a change of these bytes is a new version.
func TestFrameGolden(t *testing.T) {
	f, err := EncodeFrame(Position{Epoch: 2, LSN: 9, Hash: 0x0102030405060708}, FrameOptions{Epoch: 3, Codec: CodecNone, Committed: 7, Time: time.Unix(1, 5)},
		[]Record{{Kind: KindEffects, Payload: []byte("ab")}, {Kind: KindMark, Payload: nil}})
	if err != nil {
		t.Fatal(err)
	}
	const want = "52504631" + "01" + "00" + "11d8" + "06000000" + "06000000" + "02000000" + "02000000" +
		"0300000000000000" + "0a00000000000000" + "05ca9a3b00000000" + "0807060504030201"
	got := hex.EncodeToString(f.Bytes)
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "01026162"+"0300") {
		t.Fatalf("frame bytes\n got %s\nwant %s…", got, want)
	}
	if h := f.Hash.String(); h != "d03e405d798fa674" {
		t.Fatalf("hash %s", h)
	}
	if f.End() != (Position{Epoch: 3, LSN: 11, Hash: f.Hash}) || f.Last() != 11 {
		t.Fatalf("end %v", f.End())
	}
}

func TestFrameRoundTrip(t *testing.T) {
	rng := seed(t)
	payloads := map[string][]byte{
		"empty":        {},
		"small":        []byte("x"),
		"random":       randomBytes(rng, 5000),
		"compressible": bytes.Repeat([]byte("repeat "), 1000),
		"zeros":        make([]byte, 100_000),
	}
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		for name, p := range payloads {
			t.Run(fmt.Sprintf("%v/%s", codec, name), func(t *testing.T) {
				o := FrameOptions{Epoch: 7, Codec: codec, Committed: 41, Time: time.Unix(0, 1234567890)}
				recs := []Record{{LSN: 43, Kind: KindEffects, Payload: p}, {LSN: 44, Kind: KindEpochStart, Payload: p}}
				f, err := EncodeFrame(Position{Epoch: 6, LSN: 42, Hash: 99}, o, recs)
				if err != nil {
					t.Fatal(err)
				}
				decoded, err := DecodeFrame(f.Bytes, DefaultMaxFrameBytes)
				if err != nil {
					t.Fatal(err)
				}
				if decoded.Header != f.Header {
					t.Fatalf("header %+v, want %+v", decoded.Header, f.Header)
				}
				if decoded.Committed != 41 || !decoded.Time.Equal(o.Time) || decoded.Epoch != 7 || decoded.Prev != 99 {
					t.Fatalf("header %+v", decoded.Header)
				}
				if int(f.Stored) > int(f.Raw) || name == "zeros" && codec != CodecNone && f.Stored > 5000 || name == "random" && f.Stored < 5000 {
					t.Fatalf("stored %d of %d by %v", f.Stored, f.Raw, f.Codec)
				}
				checkRecords(t, decoded, recs)
			})
		}
	}
}

func checkRecords(t *testing.T, f *Frame, want []Record) {
	t.Helper()
	var got []Record
	for range 2 { // the second pass comes from the cache
		got = nil
		if err := f.Each(func(r Record) error { got = append(got, r); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].LSN != want[i].LSN || got[i].Kind != want[i].Kind || !bytes.Equal(got[i].Payload, want[i].Payload) {
			t.Fatalf("record %d is %v %v %d bytes", i, got[i].LSN, got[i].Kind, len(got[i].Payload))
		}
	}
}

// TestCommittedDelta holds R7: a frame never claims more committed than there was, also when the distance does not fit.
func TestCommittedDelta(t *testing.T) {
	for _, c := range []struct{ first, committed, want LSN }{
		{1, 0, 0}, {10, 0, 0}, {10, 9, 9}, {10, 3, 3}, {10, 10, 9}, {10, 99, 9},
		{math.MaxUint32 + 10, 10, 10}, {math.MaxUint32 + 10, 9, 0}, {math.MaxUint32 * 2, 1, 0},
	} {
		h := Header{Codec: CodecNone, Stored: 2, Raw: 2, Count: 1, Epoch: 1, First: c.first, Committed: c.committed, Time: time.Unix(0, 0)}
		b := make([]byte, HeaderSize)
		h.encode(b)
		got, err := DecodeHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.Committed != c.want {
			t.Errorf("first %d committed %d: decoded %d, want %d", c.first, c.committed, got.Committed, c.want)
		}
	}
}

func TestDecodeHeaderRefuses(t *testing.T) {
	good := chain(t, Position{}, 1, 1, 10, FrameOptions{})[0].Bytes[:HeaderSize]
	change := func(fn func(b []byte)) []byte {
		b := bytes.Clone(good)
		fn(b)
		sum := headerCheck(b)
		b[offCheck], b[offCheck+1] = byte(sum), byte(sum>>8)
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"short":            {good[:63], ErrCorrupt},
		"magic":            {change(func(b []byte) { b[0] = 'X' }), ErrCorrupt},
		"version":          {change(func(b []byte) { b[3] = '2' }), ErrVersion},
		"flags":            {change(func(b []byte) { b[offFlags] = 1 }), ErrVersion},
		"codec":            {change(func(b []byte) { b[offCodec] = 9 }), ErrVersion},
		"no records":       {change(func(b []byte) { clear(b[offCount : offCount+4]) }), ErrCorrupt},
		"LSN 0":            {change(func(b []byte) { clear(b[offFirst : offFirst+8]) }), ErrCorrupt},
		"LSN overflow":     {change(func(b []byte) { copy(b[offFirst:], bytes.Repeat([]byte{255}, 8)) }), ErrCorrupt},
		"epoch 0":          {change(func(b []byte) { clear(b[offEpoch : offEpoch+8]) }), ErrCorrupt},
		"stored 4 GiB":     {change(func(b []byte) { copy(b[offStored:], bytes.Repeat([]byte{255}, 8)) }), ErrTooLarge},
		"stored > raw":     {change(func(b []byte) { b[offStored]++ }), ErrCorrupt},
		"count > raw":      {change(func(b []byte) { b[offCount+2] = 1 }), ErrCorrupt},
		"version and rot":  {func() []byte { b := bytes.Clone(good); b[3] = '2'; return b }(), ErrCorrupt},
		"check of garbage": {func() []byte { b := bytes.Clone(good); b[20]++; return b }(), ErrCorrupt},
	} {
		if _, err := DecodeHeader(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestEveryFlipOfAFrame: no flipped bit of a frame goes unnoticed, and none of its header gets as far as the payload's size.
func TestEveryFlipOfAFrame(t *testing.T) {
	f := chain(t, Position{Epoch: 1, LSN: 5, Hash: 77}, 1, 3, 20, FrameOptions{})[0]
	for i := range len(f.Bytes) * 8 {
		b := bytes.Clone(f.Bytes)
		b[i/8] ^= 1 << (i % 8)
		if _, err := DecodeFrame(b, DefaultMaxFrameBytes); err == nil {
			t.Fatalf("flip of bit %d of byte %d not noticed", i%8, i/8)
		}
		if _, err := DecodeHeader(b); err == nil && i/8 < offHash {
			t.Fatalf("flip of bit %d of header byte %d not noticed by the header's check", i%8, i/8)
		}
	}
}

func TestReadFrame(t *testing.T) {
	frames := chain(t, Position{}, 3, 2, 700_000, FrameOptions{Codec: CodecNone})
	frames = append(frames, chain(t, frames[2].End(), 2, 1, 3, FrameOptions{})...)
	var stream bytes.Buffer
	for _, f := range frames {
		stream.Write(f.Bytes)
	}
	whole := stream.Bytes()
	r := iotest.HalfReader(bytes.NewReader(whole))
	var got []*Frame
	for {
		f, err := ReadFrame(r, DefaultMaxFrameBytes)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !allZero(f.padded[len(f.Bytes):]) || len(f.padded) != len(f.Bytes)+HeaderSize {
			t.Fatal("no terminator behind the frame")
		}
		got = append(got, f)
	}
	sameFrames(t, got, frames)
	if _, err := ReadFrame(bytes.NewReader(whole), 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("above the limit: %v", err)
	}
	for _, n := range []int{1, 63, 64, 1000, len(frames[0].Bytes) - 1} {
		if _, err := ReadFrame(bytes.NewReader(whole[:n]), DefaultMaxFrameBytes); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
}

// TestReadFrameAllocates: a header that promises a gigabyte costs no more memory than the bytes that arrive (W12).
// Faults: W12 (a header that promises a gigabyte)
func TestReadFrameAllocates(t *testing.T) {
	h := Header{Codec: CodecNone, Stored: MaxFrameBytes, Raw: MaxFrameBytes, Count: 1, Epoch: 1, First: 1, Time: time.Unix(0, 0)}
	b := make([]byte, HeaderSize+5000)
	h.encode(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 10
	for range runs {
		if _, err := ReadFrame(bytes.NewReader(b), MaxFrameBytes); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > 2*readChunk {
		t.Fatalf("%d bytes allocated for %d that arrived", got, len(b))
	}
}

// TestBombs: a payload that decompresses to something else than the header says is refused before memory is spent.
func TestBombs(t *testing.T) {
	for _, codec := range []Codec{CodecS2, CodecZstd} {
		f, err := EncodeFrame(Position{}, FrameOptions{Epoch: 1, Codec: codec}, []Record{{Kind: KindEffects, Payload: make([]byte, 1<<20)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range []uint32{f.Stored + 1, f.Raw - 1, f.Raw + 1, MaxFrameBytes} {
			bad := &Frame{Header: f.Header, Bytes: f.Bytes}
			bad.Raw = raw
			if err := bad.Each(func(Record) error { return nil }); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v says %d raw bytes: %v", codec, raw, err)
			}
		}
	}
}

func TestRecordsMustFit(t *testing.T) {
	for name, raw := range map[string]string{
		"length too long": "\x01\x05ab", "rest": "\x01\x01a\x01\x01bxx", "too few": "\x01\x02ab", "endless length": "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		comp, _ := newCompressor(CodecNone)
		f, _ := seal(Header{Count: 2, Epoch: 1, First: 1, Time: time.Unix(0, 0)}, append(make([]byte, HeaderSize), raw...), comp)
		if err := f.Each(func(Record) error { return nil }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("stop")
	f := chain(t, Position{}, 1, 2, 1, FrameOptions{})[0]
	if err := f.Each(func(Record) error { return stop }); err != stop {
		t.Errorf("error of fn: %v", err)
	}
}

func TestSegmentHead(t *testing.T) {
	h := segmentHead{Identity: testIdentity(), Seq: 12, Prev: Position{Epoch: 3, LSN: 44, Hash: 5}, Created: time.Unix(0, 99)}
	b := h.encode()
	got, err := decodeSegmentHead(b)
	if err != nil || got != h {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	for i := range len(b) * 8 {
		c := bytes.Clone(b)
		c[i/8] ^= 1 << (i % 8)
		if _, err := decodeSegmentHead(c); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("flip of bit %d: %v", i, err)
		}
	}
}

// TestJoinSector: a frame's header and the last 64 bytes of the mark before it lie in one sector, wherever the mark begins.
func TestJoinSector(t *testing.T) {
	for off := int64(segmentHeader); off < segmentHeader+2*sector; off++ {
		j := joinMark{size: joinSize(off), begin: 5, next: 9}
		b := j.append(nil)
		if int64(len(b)) != j.size {
			t.Fatalf("mark at %d has %d bytes, want %d", off, len(b), j.size)
		}
		first, ok1 := decodeJoin(b)
		second, ok2 := decodeJoin(b[len(b)-HeaderSize:])
		if !ok1 || !ok2 || first != j || second != j {
			t.Fatalf("mark at %d decodes to %+v and %+v", off, first, second)
		}
		head := off + j.size
		if (head-HeaderSize)/sector != (head+HeaderSize-1)/sector {
			t.Fatalf("mark at %d: header at %d is not in the mark's sector", off, head)
		}
	}
}

func TestPositionText(t *testing.T) {
	p := Position{Epoch: 3, LSN: 8, Hash: 0xabc}
	if got := p.String(); got != "3/8/0000000000000abc" {
		t.Fatal(got)
	}
	var h Hash
	if err := h.UnmarshalText([]byte("zz")); err == nil {
		t.Fatal("bad hash accepted")
	}
	for _, c := range []Codec{CodecNone, CodecS2, CodecZstd} {
		if got, err := ParseCodec(c.String()); err != nil || got != c {
			t.Fatalf("codec %v: %v, %v", c, got, err)
		}
	}
	if _, err := ParseCodec("gzip"); err == nil {
		t.Fatal("unknown codec accepted")
	}
}
