package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/faultfs"
	"repld/wal"
)

func openSightings(files vfs.FS) *sightings {
	s := new(sightings)
	s.open(files, ".", slog.New(slog.DiscardHandler))
	return s
}

func beatOf(inc string, epoch wal.Epoch, lsn wal.LSN) failover.Beat {
	return failover.Beat{Node: "b", Inc: inc, Position: wal.Position{Epoch: epoch, LSN: lsn, Hash: wal.Hash(lsn)}}
}

// TestSightings: of one incarnation the most advanced position stays, over restarts and power cuts (R11).
// Faults: H2 (what others remember of a node)
func TestSightings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := faultfs.NewDisk()
		s := openSightings(faultfs.New(disk, 1))
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- s.run(ctx) }()
		expect := func(what string, s *sightings, inc string, epoch wal.Epoch, lsn wal.LSN) {
			t.Helper()
			if got := s.all()["b"]; got.Incarnation != inc || got.Position.Epoch != epoch || got.Position.LSN != lsn {
				t.Errorf("%s: %+v", what, got)
			}
		}
		s.heard(beatOf("1", 2, 20))
		s.heard(beatOf("1", 2, 10))
		s.heard(beatOf("1", 1, 30))
		s.heard(beatOf("", 9, 90)) // a version that does not say who it is
		expect("heard", s, "1", 2, 20)
		time.Sleep(seenEvery + time.Millisecond) // simulated
		cut := disk.Crash(disk.Clock().Now(), faultfs.Nothing())
		expect("after a power cut", openSightings(faultfs.New(cut, 1)), "1", 2, 20)
		s.heard(beatOf("1", 3, 5))
		expect("a newer epoch with a shorter log", s, "1", 3, 5)
		s.heard(beatOf("2", 1, 1))
		expect("another incarnation", s, "2", 1, 1)
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		cut = disk.Crash(disk.Clock().Now(), faultfs.Nothing())
		expect("after a clean stop", openSightings(faultfs.New(cut, 1)), "2", 1, 1)
	})
}

// TestSightingsDamaged: what cannot be read is no evidence, and no reason not to start: every bit of the file flipped, every length.
func TestSightingsDamaged(t *testing.T) {
	write := func(b []byte) *sightings {
		files := vfs.NewMem()
		f, err := files.Create(seenFile, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return openSightings(files)
	}
	files := vfs.NewMem()
	want := map[string]failover.Sighting{"b": {Incarnation: "1", Position: wal.Position{Epoch: 2, LSN: 20, Hash: 7}}}
	if err := writeSeen(files, ".", want); err != nil {
		t.Fatal(err)
	}
	f, err := files.Open(seenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole := make([]byte, 1000)
	n, _ := f.Read(whole)
	whole = whole[:n]
	if got := write(append([]byte{}, whole...)).all()["b"]; got != want["b"] {
		t.Fatalf("%q was read as %+v", whole, got)
	}
	for i := range 8 * len(whole) {
		b := append([]byte{}, whole...)
		b[i/8] ^= 1 << (i % 8)
		if got := write(b).all(); len(got) > 0 && got["b"] != want["b"] { // the names of the JSON's fields may change without harm: then there is nothing, or the same
			t.Errorf("bit %d: %+v", i, got)
		}
	}
	for i := range whole {
		if got := write(append([]byte{}, whole[:i]...)).all(); len(got) > 0 {
			t.Errorf("%d bytes: %+v", i, got)
		}
	}
}

// TestOlderCopy holds R11 and R5: an older copy of b's directory is put back while nobody runs. It looks sound to itself; c remembers what b had, so b does not count until an active has shown it the
// rest, and nothing that b acked is given up unasked.
// Faults: H2 (put back while no active runs)
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	c.nodes["a"].mustSet("one")
	c.settled("a")
	c.stop("b")
	older := vfs.NewMem()
	if ok, err := vfs.Clone(c.disks["b"], older, "data", "data", vfs.CloneSync); !ok || err != nil {
		t.Fatalf("copy: %v, %v", ok, err)
	}
	c.start("b")
	c.settled("a")
	c.nodes["a"].mustSet("two")
	c.settled("a")
	until(t, func() error {
		has := c.nodes["b"].group.log.Durable()
		if saw := c.nodes["c"].group.sightings.all()["b"].Position; saw != has {
			return fmt.Errorf("c saw b at %v, it is at %v", saw, has)
		}
		return nil
	})
	for _, n := range c.names {
		c.stop(n)
	}
	c.disks["b"] = older
	c.start("b", "c")
	for n, why := range map[string]string{"b": "older copy", "c": "2 of [b c]"} {
		until(t, func() error {
			_, err := c.nodes[n].promote(admin.PromoteRequest{})
			switch {
			case err == nil:
				t.Fatalf("%s was promoted: %s", n, c)
			case !strings.Contains(err.Error(), why):
				return fmt.Errorf("promote %s: %w", n, err)
			}
			return nil
		})
	}
	c.start("a")
	c.promote("c")
	c.settled("c")
	c.stop("a")
	c.promote("b") // it has caught up: together with c it is enough
	c.settled("b")
	if got := c.nodes["b"].get("two"); got != "two" {
		t.Errorf("what b had acked is %q", got)
	}
}
