package wal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crasher cuts the power before every operation that changes the disk, in several ways each: nothing unsynced survives, all
// of it, or a random part. It checks what recovery makes of each remains.
type crasher struct {
	t   *testing.T
	fs  *vfs.MemFS
	o   Options
	rng *rand.Rand

	mu      sync.Mutex
	history map[LSN]*Frame // by last LSN: what the log holds, or may hold
	acked   Position       // durable by a call that returned
	start   LSN            // the log may begin at or below
	ends    []Position     // a cut or reset is under way: the log ends at one of these, the first being the old end
	points  int
	clones  int
}

func newCrasher(t *testing.T) *crasher {
	c := &crasher{t: t, fs: vfs.NewCrashableMem(), rng: seed(t), history: map[LSN]*Frame{}}
	c.o = testOptions(errorfs.Wrap(c.fs, errorfs.InjectorFunc(c.before)))
	c.o.SegmentBytes = 24 << 10
	c.o.MemoryBytes = 1
	return c
}

// before runs ahead of each operation.
func (c *crasher) before(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.points++
	for _, percent := range []int{0, 100, 50} {
		c.clones++
		c.apart(c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng}), fmt.Sprintf("%d%% kept before %v of %s", percent, op.Kind, op.Path))
	}
	return nil
}

// apart checks on a goroutine of its own, because a failure ends the goroutine, and the one that does the operation may be the
// log's.
func (c *crasher) apart(fs *vfs.MemFS, when string) {
	if c.t.Failed() {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.check(fs, when)
	}()
	<-done
}

// check opens what a crash left: never refused, nothing acked missing, nothing else than history; then it goes on writing,
// and finds that again.
func (c *crasher) check(fs *vfs.MemFS, when string) {
	o := c.o
	o.FS = fs
	l, rec, err := Open(o)
	if err != nil {
		c.t.Fatalf("%s (point %d): %v", when, c.points, err)
	}
	defer l.Close()
	if c.ends != nil {
		c.checkChange(fs, rec, when)
	} else if rec.End.LSN < c.acked.LSN || rec.Start.LSN > c.start {
		c.t.Fatalf("%s (point %d): log of %v to %v, acked %v: %+v", when, c.points, rec.Start, rec.End, c.acked, rec.Cut)
	}
	frames := readAll(c.t, l, rec.Start.LSN)
	for _, f := range frames {
		if want := c.history[f.Last()]; want == nil || want.Hash != f.Hash {
			c.t.Fatalf("%s (point %d): frame of LSN %d to %d was never written", when, c.points, f.First, f.Last())
		}
	}
	more := chain(c.t, rec.End, 2, 1, 3000, FrameOptions{Epoch: rec.End.Epoch + 1})
	mustAppend(c.t, l, more...)
	again := o
	again.FS = fs.CrashClone(vfs.CrashCloneCfg{})
	l2, rec2, err := Open(again)
	if err != nil {
		c.t.Fatalf("%s (point %d), second crash: %v", when, c.points, err)
	}
	defer l2.Close()
	if rec2.Start != rec.Start || rec2.End != more[1].End() || rec2.Cut != nil && (!rec.Doubt || rec2.Cut.Offset != rec.Cut.Offset) {
		c.t.Fatalf("%s (point %d), second crash: %+v after %+v", when, c.points, rec2, rec)
	}
	sameFrames(c.t, readAll(c.t, l2, rec2.Start.LSN), append(frames, more...))
}

// checkChange checks the remains of an interrupted cut or reset: it happened or it did not, and what is gone was saved (R9).
func (c *crasher) checkChange(fs *vfs.MemFS, rec Recovery, when string) {
	if !slices.Contains(c.ends, rec.End) {
		c.t.Fatalf("%s (point %d): log ends at %v, not at one of %v", when, c.points, rec.End, c.ends)
	}
	if rec.End == c.ends[0] {
		return
	}
	list, err := ListDiverged(fs, "diverged")
	if err != nil || !slices.ContainsFunc(list, func(d Diverged) bool { return d.To == c.ends[0] }) {
		c.t.Fatalf("%s (point %d): suffix up to %v not saved: %+v, %v", when, c.points, c.ends[0], list, err)
	}
}

func (c *crasher) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// append appends frames as one call; they are acked when it returns.
func (c *crasher) append(l *Log, frames ...*Frame) {
	c.set(func() {
		for _, f := range frames {
			c.history[f.Last()] = f
		}
	})
	mustAppend(c.t, l, frames...)
	c.set(func() { c.acked = l.Durable() })
}

// TestCrashEverywhere is one scripted life of a log with a power cut before each of its operations (P1, P2, D1, D2, D21, D22;
// R1, R8, R9).
// Faults: P1, P2, D2, D21, D22 (a power cut before every operation of a scripted life)
func TestCrashEverywhere(t *testing.T) {
	c := newCrasher(t)
	l, _ := testOpen(t, c.o)
	for i := range 6 {
		c.append(l, chain(t, l.End(), 1, 2, 1500+700*i, FrameOptions{})...)
		c.append(l, chain(t, l.End(), 1+i%4, 1, 2500, FrameOptions{})...)
	}
	keep := l.End().LSN - 4
	for !headIs(l, keep) { // recycle, and use what was recycled
		c.set(func() { c.start = keep })
		if _, err := l.TruncateHead(keep); err != nil {
			t.Fatal(err)
		}
		c.append(l, chain(t, l.End(), 3, 1, 3000, FrameOptions{})...)
	}
	for range 8 {
		c.append(l, chain(t, l.End(), 1, 1, 4000, FrameOptions{})...)
		c.append(l, chain(t, l.End(), 2, 3, 900, FrameOptions{})...)
	}
	c.cutAndReset(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, rec := testOpen(t, c.o)
	if !rec.Clean {
		t.Fatalf("%+v", rec)
	}
	c.append(l, chain(t, l.End(), 2, 2, 600, FrameOptions{})...)
	t.Logf("%d crash points, %d crashes", c.points, c.clones)
}

func headIs(l *Log, keep LSN) bool { return l.Segments()[0].Last > keep }

// cutAndReset cuts the tail, writes another history, resets, and writes on.
func (c *crasher) cutAndReset(l *Log) {
	end, to := l.End(), Position{}
	to, err := l.PositionAt(end.LSN - 12)
	if err != nil {
		c.t.Fatal(err)
	}
	c.set(func() { c.ends = []Position{end, to} })
	if _, err := l.TruncateTail(to, SaveOptions{Dir: "diverged"}); err != nil {
		c.t.Fatal(err)
	}
	c.set(func() { c.ends, c.acked = nil, to })
	for range 4 {
		c.append(l, chain(c.t, l.End(), 2, 2, 1700, FrameOptions{Epoch: 2})...)
	}
	to = Position{Epoch: 3, LSN: l.End().LSN - 5, Hash: 7}
	c.set(func() { c.ends = []Position{l.End(), to} })
	if err := l.Reset(to, SaveOptions{Dir: "diverged"}); err != nil {
		c.t.Fatal(err)
	}
	c.set(func() { c.ends, c.acked, c.start, c.history = nil, to, to.LSN, map[LSN]*Frame{} })
	for range 4 {
		c.append(l, chain(c.t, l.End(), 2, 2, 1700, FrameOptions{Epoch: 3})...)
	}
	list, err := ListDiverged(c.fs, "diverged")
	if err != nil || len(list) != 2 {
		c.t.Fatalf("saved %+v, %v", list, err)
	}
}

// TestCrashUnderWriter cuts the power while callers write through a Writer (group commit, background preparation and trimming
// included): whatever OnDurable had reported is there (R1).
func TestCrashUnderWriter(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions(fs)
	o.SegmentBytes = 32 << 10
	rng := seed(t)
	l, _ := testOpen(t, o)
	var mu sync.Mutex
	var durable Position
	moved := make(chan struct{}, 1)
	w, err := l.NewWriter(WriterOptions{Epoch: 1, FrameBytes: 8 << 10, OnDurable: func(p Position) {
		mu.Lock()
		defer mu.Unlock()
		durable = p
		select {
		case moved <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			payload := randomBytes(rand.New(rand.NewPCG(uint64(i), 1)), 900)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := w.Admit(t.Context()); err != nil {
					t.Error(err)
					return
				}
				lsn, err := w.Append(KindEffects, payload)
				if err != nil {
					t.Error(err)
					return
				}
				if lsn%64 == 0 {
					if _, err := l.TruncateHead(max(lsn, 500) - 500); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 60 {
		<-moved
		mu.Lock()
		acked := durable
		mu.Unlock()
		co := o
		co.FS = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
		cl, rec, err := Open(co)
		if err != nil {
			t.Fatalf("acked %v: %v", acked, err)
		}
		if rec.End.LSN < acked.LSN {
			t.Fatalf("acked %v, recovered %v: %+v", acked, rec.End, rec.Cut)
		}
		readAll(t, cl, rec.Start.LSN)
		if err := cl.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
