package kv

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestResults follows results by id through a record, the overlay and the applied state, over a FLUSHALL, and out again when their time is over.
func TestResults(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, Options{FS: fs})
	q := &seq{t: t, s: s, q: s.NewSequencer(), c: chain{t: t}}
	until := ms(time.Minute)
	get := func(now time.Time, want string) {
		t.Helper()
		q.record(now, func(x *Txn) {
			r, ok, err := x.Result([]byte("id"))
			if err != nil || ok != (want != "") || string(r.Reply) != want || ok && r.Hash != 7 {
				t.Fatalf("result %q %t %v, want %q", r.Reply, ok, err, want)
			}
		})
	}
	put := func(x *Txn, reply string, at int64) {
		t.Helper()
		if err := x.PutResult([]byte("id"), Result{ExpireAt: at, Hash: 7, Reply: []byte(reply)}); err != nil {
			t.Fatal(err)
		}
	}
	get(t0, "")
	q.record(t0, func(x *Txn) { // aborted: nothing stays
		put(x, ":0\r\n", until)
		if r, ok, _ := x.Result([]byte("id")); !ok || string(r.Reply) != ":0\r\n" || !x.Changed() {
			t.Error("the record does not see its own result")
		}
		x.Abort()
	})
	get(t0, "")
	q.record(t0, func(x *Txn) { mustSet(t, x, "k", "v", 0); put(x, ":1\r\n", until) })
	get(t0, ":1\r\n") // in flight
	q.apply()
	get(t0, ":1\r\n") // applied
	q.record(t0, func(x *Txn) {
		if err := x.Clear(); err != nil {
			t.Fatal(err)
		}
	})
	get(t0, ":1\r\n")
	q.apply()
	get(t0, ":1\r\n") // a FLUSHALL keeps it
	if n := s.keys.Load(); n != 0 {
		t.Errorf("a result counts as one of %d keys", n)
	}
	later := t0.Add(2 * time.Minute)
	get(later, "")
	if ids, err := q.q.ExpiredResults(t0, 10); err != nil || len(ids) != 0 {
		t.Errorf("expired too early: %q %v", ids, err)
	}
	q.record(later, func(x *Txn) { put(x, ":2\r\n", ms(time.Hour)) }) // takes the place of the expired one
	if ids, err := q.q.ExpiredResults(later, 10); err != nil || len(ids) != 0 {
		t.Errorf("one in flight is a candidate: %q %v", ids, err)
	}
	q.apply()
	get(later, ":2\r\n")
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	much := t0.Add(2 * time.Hour)
	ids, err := q.q.ExpiredResults(much, 10)
	if err != nil || len(ids) != 1 || string(ids[0]) != "id" {
		t.Fatalf("expired %q %v", ids, err)
	}
	for i, at := range []time.Time{later, much} {
		q.record(at, func(x *Txn) {
			if ok, err := x.DropResult(ids[0]); err != nil || ok != (i == 1) {
				t.Errorf("drop %d: %t %v", i, ok, err)
			}
		})
	}
	q.apply()
	if ids, err := q.q.ExpiredResults(much, 10); err != nil || len(ids) != 0 {
		t.Errorf("left over: %q %v", ids, err)
	}
	q.record(much, func(x *Txn) { put(x, ":3\r\n", much.Add(time.Hour).UnixMilli()) })
	q.apply()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := VerifyDir(context.Background(), fs, "state", nil); err != nil {
		t.Errorf("verify: %v %v", err, r.Problems)
	}
}

func TestResultLimits(t *testing.T) {
	q := newSeq(t)
	for _, x := range []struct {
		id string
		r  Result
	}{
		{"", Result{ExpireAt: 1}}, {string(make([]byte, MaxIDBytes+1)), Result{ExpireAt: 1}}, {"id", Result{}},
		{"id", Result{ExpireAt: 1, Reply: make([]byte, MaxReplyBytes+1)}},
	} {
		r := q.q.Begin(t0)
		if err := r.PutResult([]byte(x.id), x.r); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes of id, %d of reply: %v", len(x.id), len(x.r.Reply), err)
		}
		r.Abort()
	}
	for _, bad := range []operation{
		{kind: kindSet, key: []byte("\x04"), value: appendResult(nil, Result{ExpireAt: 1})},
		{kind: kindSet, key: []byte("\x04id"), value: []byte("\x01short")},
		{kind: kindSet, key: []byte("\x04id"), value: append([]byte{2}, make([]byte, 16)...)},
		{kind: kindSet, key: []byte("\x05\x00\x00\x00\x00\x00\x00\x00\x01"), value: nil},
		{kind: kindSet, key: []byte("\x05\x00\x00\x00\x00\x00\x00\x00\x01id"), value: []byte("x")},
		{kind: kindDelete, key: []byte("\x06id")},
	} {
		if err := bad.check(); !errors.Is(err, ErrBadEffects) {
			t.Errorf("% x: %v", bad.key, err)
		}
	}
}
