package wal

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func fuzzFrames(f *testing.F) [][]byte {
	var out [][]byte
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		fr, err := EncodeFrame(Position{Epoch: 1, LSN: 3, Hash: 4}, FrameOptions{Epoch: 2, Codec: codec},
			[]Record{{Kind: KindEffects, Payload: bytes.Repeat([]byte("abc"), 200)}, {Kind: KindMark, Payload: []byte("m")}})
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, fr.Bytes)
	}
	return out
}

// FuzzDecodeFrame: what decodes is whole, within the limit, and decodes to itself.
func FuzzDecodeFrame(f *testing.F) {
	for _, b := range fuzzFrames(f) {
		f.Add(b)
	}
	const limit = 1 << 20
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := DecodeFrame(b, limit)
		if err != nil {
			return
		}
		if fr.Size() != int64(len(b)) || fr.Raw > limit || fr.Last() < fr.First {
			t.Fatalf("header %+v of %d bytes", fr.Header, len(b))
		}
		n := 0
		if err := fr.Each(func(r Record) error { n += len(r.Payload); return nil }); err == nil && n > int(fr.Raw) {
			t.Fatalf("%d bytes of records in %d raw bytes", n, fr.Raw)
		}
	})
}

// FuzzReadFrame: a stream is read as DecodeFrame decodes its first frame, and nothing behind it is touched.
func FuzzReadFrame(f *testing.F) {
	for _, b := range fuzzFrames(f) {
		f.Add(b)
		f.Add(append(bytes.Clone(b), b...))
		f.Add(b[:len(b)-1])
	}
	const limit = 1 << 20
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		fr, err := ReadFrame(r, limit)
		if err != nil {
			return
		}
		n := len(b) - r.Len()
		same, err := DecodeFrame(b[:n], limit)
		if err != nil || !bytes.Equal(same.Bytes, fr.Bytes) || int64(n) != fr.Size() {
			t.Fatalf("read %d bytes: %v", n, err)
		}
	})
}

// FuzzSegmentHead: what decodes encodes to the same bytes.
func FuzzSegmentHead(f *testing.F) {
	f.Add(segmentHead{Identity: Identity{Cluster: "c", Group: "g"}, Seq: 1, Created: time.Unix(0, 1)}.encode())
	f.Add(make([]byte, segmentHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeSegmentHead(b)
		if err != nil {
			return
		}
		again, err := decodeSegmentHead(h.encode())
		if err != nil || again != h {
			t.Fatalf("%+v decodes again to %+v, %v", h, again, err)
		}
	})
}

// FuzzDiverged: a description is refused or consistent.
func FuzzDiverged(f *testing.F) {
	b, err := json.Marshal(Diverged{Format: 1, Cluster: "c", Group: "g", From: Position{1, 2, 3}, To: Position{1, 4, 5}, Frames: 1, Records: 2, Bytes: 100})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeDiverged(b)
		if err == nil && (d.Records == 0 || d.From.LSN >= d.To.LSN || d.Bytes <= 0) {
			t.Fatalf("accepted %+v", d)
		}
	})
}

// FuzzNote: the small files beside the segments.
func FuzzNote(f *testing.F) {
	f.Add([]byte("repld-wal-note 1 0000000000000000\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var n intentNote
		_ = decodeNote(b, &n) // must not panic
	})
}

// FuzzWalk: a walk over any bytes ends, and the search behind its end ends too.
func FuzzWalk(f *testing.F) {
	for _, b := range fuzzFrames(f) {
		f.Add(append(bytes.Clone(b), make([]byte, 200)...))
	}
	j := joinMark{size: 64, begin: 1, next: 4}
	f.Add(append(j.append(nil), fuzzFrames(f)[0]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWalker(bytes.NewReader(b), int64(len(b)), 0, Position{Epoch: 1, LSN: 3, Hash: 4}, 1<<20)
		for {
			st, err := w.look()
			if err != nil {
				t.Fatal(err)
			}
			if st.found != foundFrame {
				if _, err := neverWhole(&w.win, st); err != nil {
					t.Fatal(err)
				}
				break
			}
			w.accept(st)
		}
		if _, err := findLater(&w.win, "f", w.off, w.pos.LSN+1); err != nil {
			t.Fatal(err)
		}
	})
}
