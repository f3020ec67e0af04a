package kv

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

const benchValue = 100

// benchFrames makes frames of perFrame records that each set one of n keys, as a sequencer would have written them.
func benchFrames(b *testing.B, n, frames, perFrame int) []*wal.Frame {
	b.Helper()
	c := &chain{t: b}
	rng := rand.New(rand.NewPCG(1, 2))
	seen := make([]bool, n)
	value := make([]byte, benchValue)
	var count int64
	var p payload
	list := make([]*wal.Frame, frames)
	for i := range list {
		for range perFrame {
			k := rng.IntN(n)
			isNew := !seen[k]
			seen[k] = true
			if isNew {
				count++
			}
			binary.LittleEndian.PutUint64(value, rng.Uint64())
			p.reset(p.buf)
			p.setKey(fmt.Appendf(nil, "key:%012d", k), value, 0)
			c.add(wal.KindEffects, p.finish(count, isNew))
		}
		list[i] = c.cut()
	}
	return list
}

// BenchmarkApply is the replay rate: records of 100 B values over a million keys, in frames of 500, on the real file system.
func BenchmarkApply(b *testing.B) {
	const frames, perFrame = 1200, 500
	list := benchFrames(b, 1_000_000, frames, perFrame)
	for _, group := range []int{1, 8} {
		b.Run(fmt.Sprintf("frames=%d", group), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := openTest(b, Options{FS: vfs.Default, Dir: b.TempDir(), MemTableBytes: 32 << 20})
				b.StartTimer()
				for i := 0; i < frames; i += group {
					if err := s.Apply(list[i:min(i+group, frames)]); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				_ = s.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*frames*perFrame)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// benchStore is a store with 200,000 keys, most of them in files.
func benchStore(b *testing.B) *Store {
	s := openTest(b, Options{FS: vfs.Default, Dir: b.TempDir(), MemTableBytes: 32 << 20})
	if err := s.Apply(benchFrames(b, 200_000, 1000, 500)); err != nil {
		b.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	keys := make([][]byte, 4096)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key:%012d", i*48)
	}
	for name, miss := range map[string]byte{"hit": 'k', "miss": 'm'} {
		b.Run(name, func(b *testing.B) {
			for i := range keys {
				keys[i][0] = miss
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				v := s.View(t0)
				if _, _, err := v.Get(keys[i%len(keys)]); err != nil {
					b.Fatal(err)
				}
				_ = v.Close()
			}
		})
	}
}

// BenchmarkTxnSet evaluates one SET a record with 256 records in flight; nothing is applied, so Pebble is read only.
func BenchmarkTxnSet(b *testing.B) {
	s := benchStore(b)
	q := s.NewSequencer()
	value := make([]byte, benchValue)
	key := make([]byte, 0, 32)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key = fmt.Appendf(key[:0], "key:%012d", i*7919%200_000)
		x := q.Begin(t0)
		if err := x.Set(key, value, 0); err != nil {
			b.Fatal(err)
		}
		if x.Effects() == nil {
			b.Fatal("no effects")
		}
		lsn := wal.LSN(i + 1)
		x.Commit(lsn)
		if lsn > 256 {
			q.Applied(lsn - 256)
		}
	}
}

// BenchmarkWalkEffects is the price of looking at a payload before it is trusted.
func BenchmarkWalkEffects(b *testing.B) {
	var p payload
	p.reset(nil)
	p.setKey([]byte("key:000000000001"), make([]byte, benchValue), 0)
	payload := p.finish(1, true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseEffects(payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDigestRanges is what a comparison of all copies costs a node: one pass over 200,000 rows of 100 B.
func BenchmarkDigestRanges(b *testing.B) {
	s := benchStore(b)
	sn, err := s.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	defer sn.Close()
	b.ReportAllocs()
	var rows int64
	for b.Loop() {
		d, _, err := sn.DigestRanges(b.Context(), 0)
		if err != nil {
			b.Fatal(err)
		}
		rows += d.Rows
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}
