package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"repld/wal"
)

// Ranges is the digest of a state, or of a part of it, by ranges of keys: what two nodes compare to find out where they differ.
//
// # Format
//
// The rows of [From, To), the applied position's excepted, are divided by what the keys themselves say, so that two nodes divide alike wherever they hold the same keys:
//
//	h(row)    xxhash64 over uvarint length · key · uvarint length · value
//	z(key)    number of trailing zero bits of xxhash64(key)
//
// At level L a row with z(key) ≥ L begins a range, which ends where the next one begins. Level 0 is one row a range; each level halves their number. Before the first such row
// there is one more range, which begins at From and may be empty. A range is summed up as
//
//	sum       the sum of h over its rows, modulo 2^64
//	rows, bytes (of keys and values)
//
// Sums of neighbours add up, so ranges of a lower level turn into those of a higher one without being read again. Of a set of at most MaxRanges ranges the level is the lowest
// that keeps it so small: one pass, bounded memory, whatever the size of the state.
//
// To narrow a difference down, the ranges of [From, To) of one range that differs are taken in turn: with the factor of MaxRanges a level, two steps reach single rows in a
// state of four million rows, three in eight billion.
type Ranges struct {
	From  []byte  `json:"from,omitempty"` // of the whole; empty: from the beginning
	To    []byte  `json:"to,omitempty"`   // exclusive; empty: to the end
	Level int     `json:"level"`
	List  []Range `json:"list"` // in order, without gaps; never empty
}

// Range sums up some rows.
type Range struct {
	From  []byte   `json:"from,omitempty"` // where it begins; it ends where the next one does
	Sum   wal.Hash `json:"sum"`
	Rows  int64    `json:"rows"`
	Bytes int64    `json:"bytes"`
}

const (
	// MaxRanges bounds the number of ranges of a set.
	MaxRanges = 2048
	// maxRangeKeys bounds the bytes of their first keys.
	maxRangeKeys = 256 << 10
)

// ranger divides rows that come in order.
type ranger struct {
	Ranges
	zeros    []int // of each range's first key; those of the first range do not count
	keyBytes int
	row      []byte // scratch
}

func newRanger(from, to []byte) *ranger {
	return &ranger{
		Ranges: Ranges{From: from, To: to, List: []Range{{From: from}}},
		zeros:  []int{0},
	}
}

// add takes the next row.
func (r *ranger) add(key, value []byte) {
	if z := bits.TrailingZeros64(xxhash.Sum64(key)); z >= r.Level {
		r.List = append(r.List, Range{From: bytes.Clone(key)})
		r.zeros = append(r.zeros, z)
		r.keyBytes += len(key)
		for len(r.List) > MaxRanges || r.keyBytes > maxRangeKeys {
			r.coarsen()
		}
	}
	last := &r.List[len(r.List)-1]
	last.Sum += r.hash(key, value)
	last.Rows++
	last.Bytes += int64(len(key) + len(value))
}

// hash is h(row).
func (r *ranger) hash(key, value []byte) wal.Hash {
	r.row = binary.AppendUvarint(r.row[:0], uint64(len(key)))
	r.row = append(r.row, key...)
	r.row = binary.AppendUvarint(r.row, uint64(len(value)))
	if len(value) <= 4<<10 {
		r.row = append(r.row, value...)
		return wal.Hash(xxhash.Sum64(r.row))
	}
	d := xxhash.New() // a large value is not copied
	_, _ = d.Write(r.row)
	_, _ = d.Write(value)
	return wal.Hash(d.Sum64())
}

// coarsen goes one level up.
func (r *ranger) coarsen() {
	r.Level++
	kept := r.List[:1]
	zeros := r.zeros[:1]
	r.keyBytes = 0
	for i := 1; i < len(r.List); i++ {
		if r.zeros[i] >= r.Level {
			kept, zeros = append(kept, r.List[i]), append(zeros, r.zeros[i])
			r.keyBytes += len(r.List[i].From)
			continue
		}
		kept[len(kept)-1].take(r.List[i])
	}
	clear(r.List[len(kept):])
	r.List, r.zeros = kept, zeros
}

// take adds what follows to a range.
func (x *Range) take(next Range) {
	x.Sum += next.Sum
	x.Rows += next.Rows
	x.Bytes += next.Bytes
}

// same reports whether two ranges hold the same rows.
func (x Range) same(y Range) bool { return x.Sum == y.Sum && x.Rows == y.Rows && x.Bytes == y.Bytes }

// RangeDiff is a range of keys whose rows are not the same in A and B.
type RangeDiff struct {
	From, To []byte // To is exclusive; empty: to the end
	A, B     Range
	// Row: both were divided into single rows, so that From is the key of the one row that is there, or differs.
	Row bool
}

// Check says whether r is what a node may answer to a question for [from, to): another node's word is not believed.
func (r Ranges) Check(from, to []byte) error {
	if !bytes.Equal(r.From, from) || !bytes.Equal(r.To, to) || len(r.List) == 0 || len(r.List) > MaxRanges || r.Level < 0 || r.Level > 64 || !bytes.Equal(r.List[0].From, from) {
		return errors.New("digest of ranges: not what was asked for")
	}
	for i := 1; i < len(r.List); i++ {
		if bytes.Compare(r.List[i].From, r.List[i-1].From) < 0 || (i > 1 && bytes.Equal(r.List[i].From, r.List[i-1].From)) {
			return errors.New("digest of ranges: out of order")
		}
	}
	return nil
}

// CompareRanges calls fn for each range in which a and b, of the same keys, differ, in order.
func CompareRanges(a, b Ranges, fn func(RangeDiff)) {
	rows := a.Level == 0 && b.Level == 0
	as, bs := a.folded(), b.folded()
	for len(as)+len(bs) > 0 {
		from, _ := firstOf(as, bs)
		d := RangeDiff{From: from, Row: rows}
		for { // up to the next place where both begin a range; rows stand for themselves
			at, _ := firstOf(as, bs)
			if len(as) > 0 && bytes.Equal(as[0].From, at) {
				d.A.take(as[0])
				as = as[1:]
			}
			if len(bs) > 0 && bytes.Equal(bs[0].From, at) {
				d.B.take(bs[0])
				bs = bs[1:]
			}
			if next, both := firstOf(as, bs); rows || both || len(as)+len(bs) == 0 {
				if d.To = a.To; len(as)+len(bs) > 0 {
					d.To = next
				}
				break
			}
		}
		if !d.A.same(d.B) {
			fn(d)
		}
	}
}

// folded is the list without the empty range in front of a row that From names exactly.
func (r Ranges) folded() []Range {
	if len(r.List) < 2 || !bytes.Equal(r.List[0].From, r.List[1].From) {
		return r.List
	}
	list := append([]Range{r.List[0]}, r.List[2:]...)
	list[0].take(r.List[1])
	return list
}

// firstOf returns the first key at which a range of either list begins, and whether one of both does.
func firstOf(a, b []Range) (key []byte, both bool) {
	switch {
	case len(a) == 0 && len(b) == 0:
		return nil, false
	case len(a) == 0:
		return b[0].From, false
	case len(b) == 0:
		return a[0].From, false
	}
	c := bytes.Compare(a[0].From, b[0].From)
	if c <= 0 {
		return a[0].From, c == 0
	}
	return b[0].From, false
}

// DigestRanges is Digest, with the ranges of the whole state from the same pass.
func (sn *Snapshot) DigestRanges(ctx context.Context, rate int64) (Digest, Ranges, error) {
	if sn.sn == nil {
		return Digest{}, Ranges{}, fmt.Errorf("digest: %w", ErrClosed)
	}
	d, r := newDigester(ctx, rate, sn.busy), newRanger(nil, nil)
	err := walkRows(sn.sn, func(key, value []byte) error {
		if string(key) != positionRow {
			r.add(key, value)
		}
		return d.add(key, value)
	})
	if err != nil {
		return Digest{}, Ranges{}, fmt.Errorf("digest at %s: %w", sn.pos, err)
	}
	return d.sum(sn.pos), r.Ranges, nil
}

// Ranges reads the rows of [from, to) at no more than rate bytes per second (0 = as fast as it can).
func (sn *Snapshot) Ranges(ctx context.Context, rate int64, from, to []byte) (Ranges, error) {
	if sn.sn == nil {
		return Ranges{}, fmt.Errorf("digest: %w", ErrClosed)
	}
	o := pebble.IterOptions{}
	if len(from) > 0 {
		o.LowerBound = from
	}
	if len(to) > 0 {
		o.UpperBound = to
	}
	d, r := newDigester(ctx, rate, sn.busy), newRanger(from, to)
	err := walkBounded(sn.sn, &o, func(key, value []byte) error {
		if string(key) != positionRow {
			r.add(key, value)
		}
		return d.add(key, value)
	})
	if err != nil {
		return Ranges{}, fmt.Errorf("digest of ranges at %s: %w", sn.pos, err)
	}
	return r.Ranges, nil
}

// DescribeRow says in words what a row of the state is about, for people; bound "" is either end.
func DescribeRow(key []byte) string {
	if len(key) == 0 {
		return "the beginning"
	}
	switch Row(key[0]) {
	case RowSystem:
		if string(key) == countRow {
			return "the number of keys"
		}
	case RowKey:
		return fmt.Sprintf("key %q", key[1:])
	case RowExpiry:
		if len(key) >= expiryHead {
			at, user := splitExpiryRow(key)
			return fmt.Sprintf("expiry at %d of key %q", at, user)
		}
	case RowOnce:
		return fmt.Sprintf("result of id %q", key[1:])
	case RowOnceExpiry:
		if len(key) >= expiryHead {
			at, id := splitExpiryRow(key)
			return fmt.Sprintf("expiry at %d of the result of id %q", at, id)
		}
	}
	return fmt.Sprintf("row %q", key)
}
