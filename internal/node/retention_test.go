package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/replicate"
	"repld/wal"
)

// small makes a log of few small segments, whose size does not depend on what is in it.
func small(budget int64) func(string, *Options) {
	return func(_ string, o *Options) {
		o.LogBudget, o.SegmentBytes, o.Codec, o.Trim = budget, 64<<10, wal.CodecNone, 20*time.Millisecond
	}
}

// fill overwrites 128 keys with 8 KiB of noise each, until so many bytes are written.
func (m *member) fill(bytes int64) {
	m.t.Helper()
	noise := rand.NewChaCha8([32]byte{})
	value := make([]byte, 8<<10)
	for i := range bytes / int64(len(value)) {
		_, _ = noise.Read(value) // never fails
		if err := m.set(fmt.Sprint("key ", i%128), string(value)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// The head of the log is cut to the budget, never beyond what the state has surely flushed: the node starts again from a clean stop and from a power cut at any time,
// and has everything (R1).
func TestTrimmedLogStartsAgain(t *testing.T) {
	t.Parallel()
	const budget = 256 << 10
	c := newCluster(t, 0, small(budget), "a")
	disk := vfs.NewCrashableMem()
	c.disks["a"] = disk
	c.start()
	a := c.nodes["a"]
	a.mustSet("oldest")
	var cuts []*vfs.MemFS
	for i := range uint64(6) {
		a.fill(256 << 10)
		a.mustSet(fmt.Sprint("after ", i))
		cuts = append(cuts, disk.CrashClone(crash(50*int(i%3), i)))
	}
	until(t, func() error {
		if n := a.group.log.Bytes(); n > budget || a.group.log.Start().LSN == 0 {
			return fmt.Errorf("the log has %d bytes from %v on, budget %d", n, a.group.log.Start(), budget)
		}
		return nil
	})
	start := a.group.log.Start()
	c.stop("a")
	c.start()
	if got := c.nodes["a"].get("oldest"); got != "oldest" || c.nodes["a"].group.log.Start().LSN < start.LSN {
		t.Fatalf("started again: %q, log from %v on", got, c.nodes["a"].group.log.Start())
	}
	c.stop("a")
	for i, disk := range cuts {
		c.disks["a"] = disk
		c.start()
		a := c.nodes["a"]
		a.mustSet("goes on")
		for _, key := range []string{"oldest", fmt.Sprint("after ", i)} {
			if got := a.get(key); got != key {
				t.Errorf("cut %d: %q is gone: %q", i, key, got)
			}
		}
		c.stop("a")
	}
}

// What a standby needs is kept up to twice the budget, and no further (R12).
func TestTrimKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	const budget = 512 << 10
	c := newCluster(t, 0, func(name string, o *Options) {
		small(budget)(name, o)
		o.Trim = time.Hour // the test trims
	}, "a")
	c.start()
	a := c.nodes["a"]
	a.mustSet("first")
	g := a.group
	var needed wal.LSN
	g.retention.needed = func() (wal.LSN, bool) { return needed, needed != 0 }
	once := func() (start wal.LSN, bytes int64) {
		t.Helper()
		if err := g.retention.trim(); err != nil {
			t.Fatal(err)
		}
		return g.log.Start().LSN, g.log.Bytes()
	}
	trim := func() (start wal.LSN, bytes int64) {
		t.Helper()
		once() // what was needed at the trim before is still kept
		return once()
	}
	a.fill(budget / 2)
	if start, _ := trim(); start != 0 {
		t.Fatalf("cut to %d within the budget", start)
	}
	a.fill(budget)
	needed = 1
	if start, bytes := trim(); start != 0 || bytes <= budget {
		t.Fatalf("cut to %d, %d bytes are left, although a standby needs 1 and twice the budget is not reached", start, bytes)
	}
	segments := g.log.Segments()
	needed = segments[1].First
	if start, _ := trim(); start != segments[0].Last {
		t.Fatalf("cut to %d, want %d: a standby needs %d", start, segments[0].Last, needed)
	}
	a.fill(2 * budget)
	if start, bytes := trim(); start < needed || bytes > 2*budget || bytes <= budget {
		t.Fatalf("cut to %d, %d bytes are left: want more than the budget and at most twice as much, although a standby needs %d", start, bytes, needed)
	}
	needed = 0 // for a moment: the standby is between its snapshot and its stream
	was := g.log.Start().LSN
	if start, _ := once(); start != was {
		t.Fatalf("cut from %d to %d, although that was needed a moment ago", was, start)
	}
	if _, bytes := trim(); bytes > budget {
		t.Fatalf("%d bytes are left, budget %d, nobody needs them", bytes, budget)
	}
	// A snapshot that is kept for a standby needs the log behind it, whether or not the standby is connected now.
	if lsn, ok := g.needed(); ok {
		t.Fatalf("%d is needed by nobody", lsn)
	}
	s, err := g.AcquireID(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if lsn, ok := g.needed(); !ok || lsn != s.Manifest().Position.LSN+1 {
		t.Fatalf("%d, %t is needed behind a snapshot at %v", lsn, ok, s.Manifest().Position)
	}
}

// A blank standby is seeded once although more is written meanwhile than the log's budget: what it needs behind its snapshot is kept (R11, R12).
func TestSeedingUnderLoad(t *testing.T) {
	t.Parallel()
	const budget = 512 << 10
	c := newCluster(t, 0, func(name string, o *Options) {
		small(budget)(name, o)
		o.BulkRate, o.Trim = 512<<10, 200*time.Millisecond
	}, "a", "b")
	c.start("a", "b")
	c.promote("a")
	c.settled("a")
	c.stop("b")
	a := c.nodes["a"]
	a.fill(4 * budget)
	until(t, func() error {
		if a.group.log.Start().LSN < 5 {
			return errors.New("the log still reaches to its beginning")
		}
		return nil
	})
	c.disks["b"] = vfs.NewMem() // b lost its disk
	c.start("b")
	seeds := map[string]bool{}
	seeding := func() (s replicate.StandbyStatus) {
		for _, s := range a.group.sender.Standbys() {
			if s.Purpose == replicate.Follow {
				if s.Seeding != nil {
					seeds[s.Seeding.ID] = true
				}
				return s
			}
		}
		return s
	}
	until(t, func() error {
		if seeding().Seeding == nil {
			return errors.New("b is not being seeded")
		}
		return nil
	})
	a.fill(budget * 5 / 4)
	over := a.group.log.Bytes() > budget && seeding().Seeding != nil
	until(t, func() error {
		if s := seeding(); !s.Counts {
			return fmt.Errorf("b is at %+v after %d snapshots", s, len(seeds))
		}
		return nil
	})
	if len(seeds) != 1 {
		t.Errorf("b was seeded with %d snapshots", len(seeds))
	}
	if !over {
		t.Log("b was seeded before the log was over its budget: this run says little")
	}
	c.settled("a")
	until(t, func() error {
		if n := a.group.log.Bytes(); n > budget {
			return fmt.Errorf("the log has %d bytes, budget %d, and nobody needs them any more", n, budget)
		}
		return nil
	})
	if v, err := a.verified(t.Context()); err != nil || !v.OK {
		t.Fatalf("%+v, %v", v, err)
	}
}
