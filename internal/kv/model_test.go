package kv

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// world runs random writes against a model: evaluated, in flight, applied, crashed.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	fs      *vfs.MemFS
	s       *Store
	q       *Sequencer
	log     chain
	newest  model                  // after everything evaluated
	history map[wal.Position]model // at each frame's end
	frames  []*wal.Frame           // all
	applied int                    // how many of them
	now     time.Time
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), fs: vfs.NewCrashableMem(), newest: model{}, now: t0}
	w.log.t = t
	w.history = map[wal.Position]model{{}: {}}
	w.s = w.open(w.fs)
	w.q = w.s.NewSequencer()
	return w
}

func (w *world) open(fs vfs.FS) *Store {
	return openTest(w.t, Options{FS: fs, MemTableBytes: 64 << 10})
}

// key draws from few keys, so that records touch each other's; some are prefixes of others.
func (w *world) key() []byte {
	n := w.rng.IntN(25)
	return fmt.Appendf(nil, "%s%d", []string{"", "k", "k\x00", "\xff"}[n%4], n)
}

func (w *world) expiry() int64 {
	if w.rng.IntN(2) == 0 {
		return 0
	}
	return w.now.UnixMilli() + int64(w.rng.IntN(400))
}

// evaluate makes one record of random operations, and checks what each of them sees.
func (w *world) evaluate() {
	x := w.q.Begin(w.now)
	m := maps.Clone(w.newest)
	now := w.now.UnixMilli()
	for range 1 + w.rng.IntN(12) {
		w.operate(x, m, now)
		if w.rng.IntN(20) == 0 {
			m.check(w.t, x, "txn")
		}
	}
	payload := x.Effects()
	if payload == nil || w.rng.IntN(8) == 0 {
		x.Abort()
		return
	}
	if err := WalkEffects(payload, func(Effect) error { return nil }); err != nil {
		w.t.Fatal(err)
	}
	x.Commit(w.log.add(wal.KindEffects, payload))
	w.newest = m
}

func (w *world) operate(x *Txn, m model, now int64) {
	key := w.key()
	old, present := m[string(key)]
	live := present && !expiredAt(old.expireAt, now)
	var ok bool
	var err error
	switch n := w.rng.IntN(60); {
	case n < 25:
		v, at := fmt.Sprint("v", w.rng.IntN(1000)), w.expiry()
		m[string(key)] = mval{v, at}
		ok, err = live, x.Set(key, []byte(v), at)
	case n < 35:
		delete(m, string(key))
		ok, err = x.Delete(key)
	case n < 42:
		at := w.expiry()
		if live {
			m[string(key)] = mval{old.value, at}
		}
		ok, err = x.SetExpire(key, at)
	case n < 46:
		if present && !live {
			delete(m, string(key))
		}
		ok, err = x.DeleteExpired(key)
		live = present && !live
	case n == 46:
		clear(m)
		ok, err = live, x.Clear()
	default:
		var e Entry
		e, ok, err = x.Get(key)
		if ok && (string(e.Value) != old.value || e.ExpireAt != old.expireAt) {
			w.t.Fatalf("get %q: %q until %d, want %v", key, e.Value, e.ExpireAt, old)
		}
	}
	if err != nil || ok != live {
		w.t.Fatalf("operation on %q: %v, %v, want %v", key, ok, err, live)
	}
}

func (w *world) cut() {
	if f := w.log.cut(); f != nil {
		w.frames = append(w.frames, f)
		w.history[f.End()] = maps.Clone(w.newest)
	}
}

// apply applies some of the frames in flight; some that are applied already come again.
func (w *world) apply() {
	n := w.rng.IntN(len(w.frames) - w.applied + 1)
	from := max(0, w.applied-w.rng.IntN(3))
	if err := w.s.Apply(w.frames[from : w.applied+n]); err != nil {
		w.t.Fatal(err)
	}
	w.applied += n
	if w.rng.IntN(4) > 0 { // the sequencer may hear of it late
		w.q.Applied(w.s.Applied().LSN)
	}
	v := w.s.View(w.now)
	defer v.Close()
	w.history[w.s.Applied()].check(w.t, v, "applied state")
}

// expire deletes what is due, as the active's expirer does.
func (w *world) expire() {
	keys, err := w.q.Expired(w.now, 1+w.rng.IntN(5))
	if err != nil {
		w.t.Fatal(err)
	}
	x := w.q.Begin(w.now)
	for _, key := range keys {
		ok, err := x.DeleteExpired(key)
		if err != nil || !ok {
			w.t.Fatalf("expired key %q: %v %v", key, ok, err)
		}
		delete(w.newest, string(key))
	}
	if p := x.Effects(); p != nil {
		x.Commit(w.log.add(wal.KindEffects, p))
	}
	x.Abort()
}

// crash opens what a power cut would leave now, checks that it is an exact prefix, and brings it up to date.
func (w *world) crash() {
	durable, err := w.s.DurablyApplied()
	if err != nil {
		w.t.Fatal(err)
	}
	live := w.s.Applied()
	s := w.open(w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(101), RNG: w.rng}))
	defer s.Close()
	at := s.Applied()
	if at.LSN < durable.LSN || at.LSN > live.LSN {
		w.t.Fatalf("recovered at %s, durable %s, live %s", at, durable, live)
	}
	m, ok := w.history[at]
	if !ok {
		w.t.Fatalf("recovered at %s, which was never the end of a frame", at)
	}
	v := s.View(w.now)
	m.check(w.t, v, "recovered state")
	_ = v.Close()
	for i := 0; i < w.applied; { // in groups of other sizes than the first time
		n := min(1+w.rng.IntN(5), w.applied-i)
		if err := s.Apply(w.frames[i : i+n]); err != nil {
			w.t.Fatal(err)
		}
		i += n
	}
	if a, b := digest(w.t, w.s), digest(w.t, s); a != b {
		w.t.Fatalf("digests differ: live %+v, recovered %+v", a, b)
	}
}

func digest(t testing.TB, s *Store) Digest {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	d, err := sn.Digest(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestModel holds R7: what a write sees is every earlier write, applied or not; what a reader sees is a state at some
// frame's end; what a crash leaves is one too, at or above what was durable, and the log makes the rest of it.
func TestModel(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 1500 {
				switch n := w.rng.IntN(100); {
				case n < 60:
					w.evaluate()
				case n < 80:
					w.cut()
				case n < 92:
					w.apply()
				case n < 95:
					w.now = w.now.Add(time.Duration(w.rng.IntN(150)) * time.Millisecond)
				case n < 98:
					w.expire()
				case n == 98:
					if err := w.s.Flush(); err != nil {
						t.Fatal(err)
					}
				default:
					w.crash()
				}
			}
			w.cut()
			if err := w.s.Apply(w.frames); err != nil {
				t.Fatal(err)
			}
			w.applied = len(w.frames)
			w.q.Applied(w.s.Applied().LSN)
			if n := w.q.InFlight(); n != 0 || len(w.q.over.keys) != 0 {
				t.Fatalf("overlay holds %d records, %d keys after all was applied", n, len(w.q.over.keys))
			}
			w.crash()
			if err := w.s.Flush(); err != nil {
				t.Fatal(err)
			}
			want := digest(t, w.s)
			if err := w.s.Close(); err != nil {
				t.Fatal(err)
			}
			rep, err := VerifyDir(context.Background(), w.fs, "state", nil)
			if err != nil || rep.Digest != want {
				t.Fatalf("verify: %+v, %v, want %+v", rep, err, want)
			}
		})
	}
}
