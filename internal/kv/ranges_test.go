package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// rangesOf divides rows as a snapshot would.
func rangesOf(rows map[string]string, from, to []byte) Ranges {
	r := newRanger(from, to)
	for _, k := range sortedKeys(rows) {
		if k >= string(from) && (len(to) == 0 || k < string(to)) {
			r.add([]byte(k), []byte(rows[k]))
		}
	}
	return r.Ranges
}

func sortedKeys(rows map[string]string) []string {
	keys := make([]string, 0, len(rows))
	for k := range rows {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Whatever two states hold, narrowing down names exactly the rows that differ, within bounds.
func TestRangesNarrowDown(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 30 {
		a := map[string]string{}
		n := []int{0, 1, 3, 200, 5000, 30000}[rnd.IntN(6)]
		for range n {
			a[fmt.Sprintf("\x01k%07d", rnd.IntN(1<<20))] = fmt.Sprint(rnd.IntN(4))
		}
		b, want := map[string]string{}, map[string]bool{}
		for k, v := range a {
			b[k] = v
		}
		keys := sortedKeys(a)
		for range rnd.IntN(20) {
			switch k := fmt.Sprintf("\x01k%07d", rnd.IntN(1<<20)); {
			case rnd.IntN(3) == 0:
				if _, there := a[k]; !there {
					b[k], want[k] = "new", true
				}
			case len(keys) > 0:
				k = keys[rnd.IntN(len(keys))]
				if rnd.IntN(2) == 0 {
					delete(b, k)
				} else {
					b[k] = "changed"
				}
				want[k] = true
			}
		}
		found := map[string]bool{}
		var narrow func(from, to []byte, depth int)
		narrow = func(from, to []byte, depth int) {
			if depth > 6 {
				t.Fatalf("seed %d round %d: no end", seed, round)
			}
			x, y := rangesOf(a, from, to), rangesOf(b, from, to)
			for _, r := range []Ranges{x, y} {
				if err := r.Check(from, to); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			last := from
			CompareRanges(x, y, func(d RangeDiff) {
				if bytes.Compare(d.From, last) < 0 || (len(d.To) > 0 && bytes.Compare(d.To, d.From) < 0) {
					t.Fatalf("seed %d: ranges out of order: %q before %q", seed, last, d.From)
				}
				last = d.From
				if d.Row {
					found[string(d.From)] = true
					return
				}
				narrow(d.From, d.To, depth+1)
			})
		}
		narrow(nil, nil, 0)
		if len(found) != len(want) {
			t.Fatalf("seed %d round %d: found %d rows that differ, want %d", seed, round, len(found), len(want))
		}
		for k := range want {
			if !found[k] {
				t.Fatalf("seed %d round %d: %q is not named", seed, round, k)
			}
		}
	}
}

// Keys of 64 KiB do not make a set of ranges large.
func TestRangesBounded(t *testing.T) {
	r := newRanger(nil, nil)
	for i := range 200 {
		r.add(append(bytes.Repeat([]byte{byte(i)}, MaxKeyBytes), byte(i)), nil)
		if r.keyBytes > maxRangeKeys || len(r.List) > MaxRanges {
			t.Fatalf("%d bytes of keys in %d ranges", r.keyBytes, len(r.List))
		}
	}
	var rows int64
	for _, x := range r.List {
		rows += x.Rows
	}
	if rows != 200 {
		t.Fatalf("%d rows, want 200", rows)
	}
}

// A snapshot's ranges are those of its rows, the same for every history that led to them, and come from the pass that makes the digest.
func TestSnapshotRanges(t *testing.T) {
	s := openTest(t, Options{})
	c := &chain{t: t}
	write(t, s, c, setKeys(3000, 10))
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	whole, err := sn.Digest(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	d, r, err := sn.DigestRanges(t.Context(), 0)
	if err != nil || d != whole {
		t.Fatalf("digest %+v, want %+v: %v", d, whole, err)
	}
	var rows, size int64
	for _, x := range r.List {
		rows, size = rows+x.Rows, size+x.Bytes
	}
	if rows != d.Rows || size != d.Bytes || r.Level == 0 {
		t.Fatalf("ranges hold %d rows of %d bytes at level %d, the digest %d of %d", rows, size, r.Level, d.Rows, d.Bytes)
	}
	from := append([]byte{byte(RowKey)}, "key"...)
	part, err := sn.Ranges(t.Context(), 0, from, nil)
	if err != nil || part.Check(from, nil) != nil {
		t.Fatalf("%v, %v", err, part.Check(from, nil))
	}
	all, err := sn.Ranges(t.Context(), 0, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	CompareRanges(r, all, func(d RangeDiff) { t.Errorf("a snapshot differs from itself at %q", d.From) })
	// One row that is changed behind the store's back.
	if err := s.db.Set(append([]byte{byte(RowKey)}, "aaa"...), []byte("planted"), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	planted, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer planted.Close()
	_, with, err := planted.DigestRanges(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	CompareRanges(all, with, func(d RangeDiff) { n++ })
	if n != 1 {
		t.Fatalf("%d ranges differ for one row", n)
	}
}

func FuzzCompareRanges(f *testing.F) {
	f.Add([]byte("abc"), []byte("abd"), 0, 0)
	f.Fuzz(func(t *testing.T, a, b []byte, la, lb int) {
		make := func(text []byte, level int) Ranges {
			r := Ranges{Level: level & 63, List: []Range{{}}}
			text = slices.Compact(slices.Sorted(slices.Values(text)))
			for i, c := range text {
				r.List = append(r.List, Range{From: []byte{c}, Rows: int64(i)})
			}
			return r
		}
		x, y := make(a, la), make(b, lb)
		last := []byte(nil)
		CompareRanges(x, y, func(d RangeDiff) {
			if bytes.Compare(d.From, last) < 0 {
				t.Fatal("out of order")
			}
			last = d.From
		})
	})
}
