package kv

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// What recent knows of a key is what was put last, or nothing.
func TestRecentNeverLies(t *testing.T) {
	type meta struct {
		present  bool
		expireAt int64
	}
	rng := rand.New(rand.NewPCG(1, 2))
	r := newRecent(8 << 10) // 128 buckets for 2,000 keys
	model := map[uint64]meta{}
	known := 0
	for n := range 200_000 {
		k := rng.Uint64N(2000)
		key := binary.BigEndian.AppendUint64(nil, k)
		switch {
		case n%50_000 == 49_999:
			r.forget()
			clear(model)
		case rng.IntN(2) == 0:
			m := meta{rng.IntN(3) > 0, 0}
			if m.present && rng.IntN(2) == 0 {
				m.expireAt = rng.Int64N(maxRecentExpiry + 1)
			}
			if rng.IntN(100) == 0 {
				m.expireAt = maxRecentExpiry + 1 // does not fit: must become unknown
			}
			r.put(key, m.present, m.expireAt)
			model[k] = m
		}
		present, expireAt, ok := r.get(key)
		if !ok {
			continue
		}
		known++
		if want, put := model[k]; !put || want != (meta{present, expireAt}) {
			t.Fatalf("step %d: key %d: present %v, expires %d; put was %v %+v", n, k, present, expireAt, put, want)
		}
	}
	if known < 50_000 {
		t.Errorf("known in %d of 200,000 looks: it remembers nothing", known)
	}
}

// What is made ahead of a promotion is taken by it, once, whoever makes it and however often.
func TestPrepareSequencer(t *testing.T) {
	s := openTest(t, Options{})
	s.Prepare()
	ahead := s.spare.Load()
	s.Prepare()
	if s.spare.Load() != ahead {
		t.Fatal("made again")
	}
	q := s.NewSequencer()
	if &q.recent.buckets[0] != &ahead.buckets[0] || s.spare.Load() != nil {
		t.Fatal("what was made ahead is not used, or stays for the next one too")
	}
	if next := s.NewSequencer(); len(next.recent.buckets) != len(ahead.buckets) {
		t.Fatalf("without preparation there are %d buckets, want %d", len(next.recent.buckets), len(ahead.buckets))
	}
}
