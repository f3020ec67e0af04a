package node

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
)

// spoil overwrites bytes of a file that a node has open.
func spoil(t *testing.T, fs vfs.FS, path string, off int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("bit rot "), 90), off) // longer than any padding between frames
	errorless(t, errors.Join(err, f.Sync(), f.Close()))
}

// TestScrubRepairs: bytes that rot under a running node are found by the scrub and fetched from a peer, while it goes on (R1, R8).
// Faults: D25 (bytes changed under a running node; the scrub finds them before anybody reads them)
func TestScrubRepairs(t *testing.T) {
	c := three(t, func(name string, o *Options) {
		tiny(name, o)
		o.ScrubEvery, o.ScrubRate = 20*time.Millisecond, -1
	})
	for _, name := range []string{"b", "a"} { // a standby, and the active
		c.nodes["a"].fillKeys(0, 60)
		c.settled("a")
		g := c.nodes[name].group
		found, repaired := g.scrub.Status().Found, g.scrub.Status().Repaired
		spoil(t, c.disks[name], g.log.Segments()[1].Path, 3000)
		until(t, func() error {
			if s := g.scrub.Status(); s.Found == found || s.Repaired == repaired || g.alarms.get(alarmLog) == "" {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		c.stop(name)
		c.start(name)
		if n := c.nodes[name].group.repairs.Load(); n > 0 {
			t.Errorf("%s had to repair its log again", name)
		}
		c.promote("a")
		c.settled("a")
	}
	c.sameState("a")
}

// TestScrubState: a table that rots under a running standby is found; the node ends with the reason, and is built anew at its next start (D10).
// Faults: D25, D10 (a table changed under a running node)
func TestScrubState(t *testing.T) {
	c := three(t, func(name string, o *Options) {
		tiny(name, o)
		o.ScrubEvery, o.ScrubRate = time.Hour, -1
	})
	c.nodes["a"].fillKeys(0, 60)
	c.settled("a")
	c.stop("b")
	c.start("b")
	c.settled("a")
	b := c.forget("b")
	tables := filesOf(t, c.disks["b"], stateDir, ".sst")
	if len(tables) == 0 {
		t.Fatal("no table")
	}
	spoil(t, c.disks["b"], tables[0], 700)
	b.group.scrub.now()
	if err := soon(t, b.ended, "the end of b"); err == nil {
		t.Fatal("no reason")
	}
	c.start("b")
	c.settled("a")
	c.sameState("a")
	if g := c.nodes["b"].group; g.alarms.get(alarmState) == "" && g.nodeStatus().Seed == nil { // built from its log: the alarm stays; from a snapshot: status has it
		t.Error("nothing says that the state was built anew")
	}
}

// TestCandidateScrubbed: a node whose newest log is damaged on its disk is not promoted; it is repaired, and then it is.
// Faults: D9, D25 (the newest frames changed under a candidate)
func TestCandidateScrubbed(t *testing.T) {
	c := three(t, tiny)
	c.nodes["a"].fillKeys(0, 30)
	c.settled("a")
	g := c.nodes["b"].group
	last := g.log.Segments()[len(g.log.Segments())-1]
	spoil(t, c.disks["b"], last.Path, last.Bytes-50) // over its end
	if _, err := c.nodes["b"].promote(admin.PromoteRequest{}); err == nil {
		t.Fatal("promoted with a damaged log")
	}
	c.promote("b")
	c.settled("b")
	c.sameState("b")
}
