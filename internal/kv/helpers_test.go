package kv

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// t0 is the time at which tests evaluate.
var t0 = time.UnixMilli(1_800_000_000_000)

func ms(d time.Duration) int64 { return t0.Add(d).UnixMilli() }

func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	if o.Dir == "" {
		o.Dir = "state"
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 1 << 20
	}
	if o.OnFatal == nil {
		o.OnFatal = func(err error) { t.Errorf("unexpected OnFatal: %v", err) }
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// chain makes frames that follow each other.
type chain struct {
	t    testing.TB
	end  wal.Position
	recs []wal.Record // of the frame being gathered
}

// add appends a record to the frame being gathered and returns its LSN.
func (c *chain) add(kind wal.Kind, payload []byte) wal.LSN {
	lsn := c.end.LSN + wal.LSN(len(c.recs)) + 1
	c.recs = append(c.recs, wal.Record{LSN: lsn, Kind: kind, Payload: slices.Clone(payload)})
	return lsn
}

// cut ends the frame; nil if it is empty.
func (c *chain) cut() *wal.Frame {
	c.t.Helper()
	if len(c.recs) == 0 {
		return nil
	}
	f, err := wal.EncodeFrame(c.end, wal.FrameOptions{Epoch: 1, Codec: wal.CodecNone, Time: t0}, c.recs)
	if err != nil {
		c.t.Fatal(err)
	}
	c.recs, c.end = nil, f.End()
	return f
}

func (c *chain) frame(kind wal.Kind, payloads ...[]byte) *wal.Frame {
	c.t.Helper()
	for _, p := range payloads {
		c.add(kind, p)
	}
	return c.cut()
}

// effects evaluates fn alone on an applied store, and neither commits nor applies.
func effects(t testing.TB, s *Store, fn func(x *Txn) error) []byte {
	t.Helper()
	x := s.NewSequencer().Begin(t0)
	defer x.Abort()
	if err := fn(x); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(x.Effects())
}

// write evaluates fn, and applies it as a frame of its own.
func write(t testing.TB, s *Store, c *chain, fn func(x *Txn) error) {
	t.Helper()
	if err := s.Apply([]*wal.Frame{c.frame(wal.KindEffects, effects(t, s, fn))}); err != nil {
		t.Fatal(err)
	}
}

func setKeys(n, size int) func(x *Txn) error {
	return func(x *Txn) error {
		for i := range n {
			if err := x.Set(fmt.Appendf(nil, "key-%06d", i), make([]byte, size), 0); err != nil {
				return err
			}
		}
		return nil
	}
}

// content reads everything visible through a view, forwards and backwards.
func content(t testing.TB, v View) map[string]mval {
	t.Helper()
	got := map[string]mval{}
	var keys, back []string
	for _, reverse := range []bool{false, true} {
		it, err := v.Iter(RangeOptions{Reverse: reverse})
		if err != nil {
			t.Fatal(err)
		}
		for it.Next() {
			if reverse {
				back = append(back, string(it.Key()))
				continue
			}
			keys = append(keys, string(it.Key()))
			got[string(it.Key())] = mval{string(it.Entry().Value), it.Entry().ExpireAt}
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Reverse(back)
	if !slices.IsSorted(keys) || !slices.Equal(keys, back) {
		t.Fatalf("iterators disagree or do not sort: %q and reversed %q", keys, back)
	}
	return got
}

type mval struct {
	value    string
	expireAt int64
}

// model is what the state should be, expired keys included.
type model map[string]mval

func (m model) visible(now int64) map[string]mval {
	v := maps.Clone(map[string]mval(m))
	maps.DeleteFunc(v, func(_ string, e mval) bool { return expiredAt(e.expireAt, now) })
	return v
}

func (m model) check(t testing.TB, v View, what string) {
	t.Helper()
	if got, want := content(t, v), m.visible(v.Now().UnixMilli()); !maps.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
	if n, err := v.Len(); err != nil || n != int64(len(m)) {
		t.Fatalf("%s: Len = %d, %v, want %d", what, n, err, len(m))
	}
}
