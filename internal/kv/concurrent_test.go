package kv

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"repld/wal"
)

// TestConcurrent holds R7 under load: while records are applied that always write two keys alike, and flushes go on, no pinned view,
// iterator, snapshot or checkpoint sees them differ, and what is seen never goes back.
func TestConcurrent(t *testing.T) {
	s := openTest(t, Options{MemTableBytes: 64 << 10})
	c := &chain{t: t}
	pair := func(i int) func(x *Txn) error {
		size := 500
		if i%50 == 0 {
			size = 40 << 10 // a batch that Pebble does not copy into a memtable
		}
		v := fmt.Appendf(nil, "%08d %0*d", i, size, i)
		return func(x *Txn) error { return errors.Join(x.Set([]byte("a"), v, 0), x.Set([]byte("b"), v, 0)) }
	}
	write(t, s, c, pair(0))
	done := make(chan struct{})
	var wg sync.WaitGroup
	reader := func(see func(i int) (string, error)) {
		wg.Go(func() {
			last := ""
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				v, err := see(i)
				if err != nil || v < last {
					t.Errorf("saw %.8s after %.8s: %v", v, last, err)
					return
				}
				last = v
			}
		})
	}
	reader(func(int) (string, error) {
		v := s.View(t0)
		defer v.Close()
		e, ok, err := v.Get([]byte("a"))
		if !ok {
			err = errors.Join(err, errors.New("a is missing"))
		}
		return string(e.Value), err
	})
	reader(func(i int) (string, error) {
		v := s.View(t0)
		defer v.Close()
		if i%2 == 0 {
			if err := v.Pin(); err != nil {
				return "", err
			}
			e, _, err := v.Get([]byte("a"))
			a := string(e.Value)
			e, _, err2 := v.Get([]byte("b"))
			if a != string(e.Value) {
				return "", fmt.Errorf("pinned: %.8s and %.8s", a, e.Value)
			}
			return a, errors.Join(err, err2)
		}
		got := content(t, v)
		if got["a"] != got["b"] {
			return "", fmt.Errorf("iterator: %.8s and %.8s", got["a"].value, got["b"].value)
		}
		return got["a"].value, nil
	})
	reader(func(i int) (string, error) {
		live := s.Applied()
		durable, err := s.DurablyApplied()
		if err != nil {
			return "", err
		}
		at, err := s.Checkpoint(fmt.Sprint("copy", i))
		if at.LSN < live.LSN || durable.LSN > at.LSN {
			err = errors.Join(err, fmt.Errorf("checkpoint at %s, live %s, durable %s", at, live, durable))
		}
		_ = s.Metrics()
		return fmt.Sprintf("%08d", at.LSN), err
	})
	reader(func(int) (string, error) {
		return "", s.Flush()
	})
	q := s.NewSequencer()
	for i := 1; i <= 1500; i++ {
		x := q.Begin(t0)
		if err := pair(i)(x); err != nil {
			t.Fatal(err)
		}
		x.Commit(c.add(wal.KindEffects, x.Effects()))
		if err := s.Apply([]*wal.Frame{c.cut()}); err != nil {
			t.Fatal(err)
		}
		q.Applied(c.end.LSN)
	}
	close(done)
	wg.Wait()
}
