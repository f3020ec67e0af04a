package kv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/wal"
)

// seq drives a sequencer whose records are all in flight until apply.
type seq struct {
	t testing.TB
	s *Store
	q *Sequencer
	c chain
}

func newSeq(t testing.TB) *seq {
	s := openTest(t, Options{})
	return &seq{t: t, s: s, q: s.NewSequencer(), c: chain{t: t}}
}

func (q *seq) record(now time.Time, fn func(x *Txn)) {
	q.t.Helper()
	x := q.q.Begin(now)
	fn(x)
	p := x.Effects()
	if p == nil {
		x.Abort()
		return
	}
	x.Commit(q.c.add(wal.KindEffects, p))
}

func (q *seq) apply() {
	q.t.Helper()
	if f := q.c.cut(); f != nil {
		if err := q.s.Apply([]*wal.Frame{f}); err != nil {
			q.t.Fatal(err)
		}
		q.q.Applied(f.Last())
	}
}

func mustSet(t testing.TB, x *Txn, key, value string, at int64) {
	t.Helper()
	if err := x.Set([]byte(key), []byte(value), at); err != nil {
		t.Fatal(err)
	}
}

// keys lists a range as "a b c".
func keys(t testing.TB, v View, o RangeOptions) string {
	t.Helper()
	it, err := v.Iter(o)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	var list []string
	for it.Next() {
		list = append(list, string(it.Key()))
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return strings.Join(list, " ")
}

func TestIterMerges(t *testing.T) {
	q := newSeq(t)
	q.record(t0, func(x *Txn) {
		for _, k := range []string{"a", "c", "e", "g"} {
			mustSet(t, x, k, "base", 0)
		}
	})
	q.apply()
	q.record(t0, func(x *Txn) {
		mustSet(t, x, "b", "flight", 0)
		mustSet(t, x, "c", "flight", 0)
		_, _ = x.Delete([]byte("e"))
	})
	x := q.q.Begin(t0)
	defer x.Abort()
	mustSet(t, x, "d", "own", 0)
	mustSet(t, x, "a", "own", ms(-time.Second)) // expired at once
	_, _ = x.Delete([]byte("b"))
	for _, tc := range []struct {
		o    RangeOptions
		want string
	}{
		{RangeOptions{}, "c d g"},
		{RangeOptions{Reverse: true}, "g d c"},
		{RangeOptions{Lower: []byte("d")}, "d g"},
		{RangeOptions{Upper: []byte("d")}, "c"},
		{RangeOptions{Lower: []byte("c"), Upper: []byte("g"), Reverse: true}, "d c"},
		{RangeOptions{Lower: []byte("g"), Upper: []byte("c")}, ""},
		{RangeOptions{Lower: []byte("c"), Upper: []byte("c")}, ""},
	} {
		if got := keys(t, x, tc.o); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.o, got, tc.want)
		}
	}
	v := q.s.View(t0)
	defer v.Close()
	if got := keys(t, v, RangeOptions{Lower: []byte("c"), Reverse: true}); got != "g e c" {
		t.Errorf("applied state: %q", got)
	}
}

// TestExpiry: expired keys are hidden, deleting one is no deletion to the caller but one to the state, and a key that was
// written again is not a candidate for expiry.
func TestExpiry(t *testing.T) {
	q := newSeq(t)
	q.record(t0, func(x *Txn) {
		mustSet(t, x, "a", "1", ms(time.Second))
		mustSet(t, x, "b", "1", ms(2*time.Second))
		mustSet(t, x, "c", "1", ms(3*time.Second))
		mustSet(t, x, "stay", "1", 0)
	})
	q.apply()
	later := t0.Add(2 * time.Second)
	v := q.s.View(later)
	defer v.Close()
	if got := keys(t, v, RangeOptions{}); got != "c stay" {
		t.Errorf("visible after 2 s: %q", got)
	}
	if _, ok, err := v.Get([]byte("b")); ok || err != nil {
		t.Errorf("b is due at exactly this millisecond: %v %v", ok, err)
	}
	q.record(later, func(x *Txn) {
		if ok, err := x.SetExpire([]byte("a"), 0); ok || err != nil {
			t.Errorf("SetExpire of an expired key: %v %v", ok, err)
		}
		if existed, err := x.Delete([]byte("a")); existed || err != nil {
			t.Errorf("Delete of an expired key: %v %v", existed, err)
		}
		if existed, _ := x.Delete([]byte("a")); existed || len(x.Effects()) == 0 {
			t.Error("second Delete, or no effects")
		}
		mustSet(t, x, "b", "2", 0)
	})
	if got, err := q.q.Expired(later.Add(time.Hour), 10); err != nil || fmt.Sprintf("%s", got) != "[c]" {
		t.Errorf("expired while a and b are in flight: %s %v", got, err)
	}
	q.apply()
	if n, _ := v.Len(); n != 3 {
		t.Errorf("Len = %d, want 3", n)
	}
	q.record(later, func(x *Txn) { // an earlier expiry than all that was seen
		mustSet(t, x, "early", "1", ms(time.Millisecond))
		if ok, err := x.DeleteExpired([]byte("b")); ok || err != nil {
			t.Errorf("DeleteExpired of a live key: %v %v", ok, err)
		}
	})
	q.apply()
	if got, err := q.q.Expired(later.Add(time.Hour), 10); err != nil || fmt.Sprintf("%s", got) != "[early c]" {
		t.Errorf("expired: %s %v", got, err)
	}
	if got, _ := q.q.Expired(later.Add(time.Hour), 1); len(got) != 1 {
		t.Errorf("limit 1: %s", got)
	}
}

// TestExpiryInFlight: a scan of the index must not skip a row that was on its way while it ran.
func TestExpiryInFlight(t *testing.T) {
	q := newSeq(t)
	q.record(t0, func(x *Txn) { mustSet(t, x, "late", "1", ms(time.Hour)) })
	q.apply()
	q.record(t0, func(x *Txn) { mustSet(t, x, "soon", "1", ms(time.Second)) })
	now := t0.Add(time.Minute)
	if got, err := q.q.Expired(now, 10); err != nil || len(got) != 0 {
		t.Fatalf("before it is applied: %s %v", got, err)
	}
	q.apply()
	if got, err := q.q.Expired(now, 10); err != nil || fmt.Sprintf("%s", got) != "[soon]" {
		t.Fatalf("after: %s %v", got, err)
	}
}

func TestTouched(t *testing.T) {
	q := newSeq(t)
	var got []string
	q.q.Touched(func(key []byte, all bool) { got = append(got, fmt.Sprintf("%s %v", key, all)) })
	q.record(t0, func(x *Txn) { mustSet(t, x, "a", "1", 0); mustSet(t, x, "b", "1", 0); mustSet(t, x, "a", "2", 0) })
	q.record(t0, func(x *Txn) { _, _ = x.Delete([]byte("none")); _, _ = x.Delete([]byte("b")) })
	x := q.q.Begin(t0)
	mustSet(t, x, "aborted", "1", 0)
	x.Abort()
	q.record(t0, func(x *Txn) { _ = x.Clear(); mustSet(t, x, "c", "1", 0) })
	if want := []string{"a false", "b false", "b false", " true", "c false"}; !slices.Equal(got, want) {
		t.Errorf("touched %q, want %q", got, want)
	}
}

// TestClearInFlight: after a Clear in flight nothing of Pebble is seen, and what was written since stays when it is applied.
func TestClearInFlight(t *testing.T) {
	q := newSeq(t)
	q.record(t0, func(x *Txn) { mustSet(t, x, "old", "1", ms(time.Hour)) })
	q.apply()
	q.record(t0, func(x *Txn) { mustSet(t, x, "flight", "1", 0) })
	q.record(t0, func(x *Txn) { _ = x.Clear() })
	q.record(t0, func(x *Txn) {
		if got := keys(t, x, RangeOptions{}); got != "" {
			t.Errorf("keys after Clear: %q", got)
		}
		mustSet(t, x, "old", "2", ms(time.Hour))
	})
	check := func(v View) {
		t.Helper()
		e, ok, err := v.Get([]byte("old"))
		n, _ := v.Len()
		if !ok || err != nil || string(e.Value) != "2" || n != 1 || keys(t, v, RangeOptions{}) != "old" {
			t.Errorf("old = %q %v %v, %d keys", e.Value, ok, err, n)
		}
	}
	x := q.q.Begin(t0)
	check(x)
	x.Abort()
	q.apply()
	x = q.q.Begin(t0)
	check(x)
	x.Abort()
	v := q.s.View(t0)
	defer v.Close()
	check(v)
	if got, err := q.q.Expired(t0.Add(2*time.Hour), 5); err != nil || len(got) != 1 {
		t.Errorf("expiry row written again after Clear: %s %v", got, err)
	}
}

// TestAliases: values that the Txn returned may be arguments, and appending to them does not reach into the state.
func TestAliases(t *testing.T) {
	q := newSeq(t)
	q.record(t0, func(x *Txn) { mustSet(t, x, "base", "0123456789", 0) })
	q.apply()
	q.record(t0, func(x *Txn) {
		for i := range 40 { // over several arrays of the payload
			e, ok, err := x.Get([]byte("base"))
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			if err := x.Set([]byte("base"), append(e.Value, byte('a'+i%26)), 0); err != nil {
				t.Fatal(err)
			}
			e, _, _ = x.Get([]byte("base"))
			if err := x.Set(e.Value, e.Value, 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	want := "0123456789abcdefghijklmnopqrstuvwxyzabcdefghijklmn"
	for range 2 {
		x := q.q.Begin(t0)
		for _, key := range []string{"base", want, want[:11]} {
			if e, ok, _ := x.Get([]byte(key)); !ok || key != "base" && string(e.Value) != key || key == "base" && string(e.Value) != want {
				t.Fatalf("%q = %q %v", key, e.Value, ok)
			}
		}
		x.Abort()
		q.apply()
	}
}

func TestTxnLimits(t *testing.T) {
	q := newSeq(t)
	x := q.q.Begin(t0)
	defer x.Abort()
	mustSet(t, x, strings.Repeat("k", MaxKeyBytes), "v", 0)
	if err := x.Set(make([]byte, MaxKeyBytes+1), nil, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long key: %v", err)
	}
	if x.Effects() != nil {
		t.Error("a failed record has effects")
	}
	if _, _, err := x.Get([]byte("k")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("after the failure: %v", err)
	}
}

// TestPin: a pinned view reads several keys of one state.
func TestPin(t *testing.T) {
	s := openTest(t, Options{})
	c := &chain{t: t}
	put := func(v string) {
		write(t, s, c, func(x *Txn) error { mustSet(t, x, "a", v, 0); mustSet(t, x, "b"+v, v, 0); return nil })
	}
	put("1")
	v := s.View(t0)
	defer v.Close()
	if err := v.Pin(); err != nil {
		t.Fatal(err)
	}
	put("2")
	e, _, err := v.Get([]byte("a"))
	n, _ := v.Len()
	if err != nil || string(e.Value) != "1" || n != 2 || keys(t, v, RangeOptions{}) != "a b1" {
		t.Errorf("pinned: %q, %d keys, %v", e.Value, n, err)
	}
}
