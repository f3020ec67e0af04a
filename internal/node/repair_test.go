package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/wal"
)

// tiny makes segments and memtables small, so that little data makes several files.
func tiny(_ string, o *Options) {
	o.SegmentBytes, o.MemTableBytes, o.RepairWait = 8<<10, 64<<10, patience
}

// fillKeys writes keys with values that do not compress.
func (m *member) fillKeys(from, to int) {
	m.t.Helper()
	for i := from; i < to; i++ {
		value := make([]byte, 300)
		rng := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
		_, _ = rng.Read(value) // it never fails
		until(m.t, func() error { return m.set(fmt.Sprintf("key-%05d", i), string(value)) })
	}
}

// change rewrites a file of a stopped node.
func change(t *testing.T, fs vfs.FS, path string, fn func(b []byte) []byte) {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = out.Write(fn(b))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// filesOf lists the files of a directory that end with a suffix, by their names.
func filesOf(t *testing.T, fs vfs.FS, dir, suffix string) (paths []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, suffix) {
			paths = append(paths, fs.PathJoin(dir, n))
		}
	}
	slices.Sort(paths)
	return paths
}

const walDir, stateDir = "data/groups/default/wal", "data/groups/default/state"

// sameState has all nodes agree on their digests.
func (c *cluster) sameState(active string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.nodes[active].verified(ctx); err != nil {
		c.t.Fatal(err)
	}
}

// TestRepairFromPeer: a standby whose log was damaged while it was stopped fetches what is missing from a peer, says so, and is what it was, its vote included (R1, R8).
// Faults: D8, D9, D12 (bytes overwritten in the log of a stopped node: middle, end, header); D19 (a segment removed)
func TestRepairFromPeer(t *testing.T) {
	c := three(t, tiny)
	c.nodes["a"].fillKeys(0, 120)
	c.settled("a")
	noise := bytes.Repeat([]byte("not a frame, whatever one may think. "), 30)
	for name, harm := range map[string]func(s []wal.SegmentInfo){
		"middle": func(s []wal.SegmentInfo) {
			change(t, c.disks["b"], s[1].Path, func(b []byte) []byte { copy(b[2000:], noise); return b })
		},
		"header": func(s []wal.SegmentInfo) {
			change(t, c.disks["b"], s[2].Path, func(b []byte) []byte { b[40] ^= 1; return b })
		},
		"removed": func(s []wal.SegmentInfo) { errorless(t, c.disks["b"].Remove(s[1].Path)) },
		"end": func(s []wal.SegmentInfo) {
			last := s[len(s)-1]
			change(t, c.disks["b"], last.Path, func(b []byte) []byte { copy(b[last.Bytes-100:last.Bytes], noise); return b })
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			voter, segments := c.nodes["b"].group.fence.Voter(), c.nodes["b"].group.log.Segments()
			c.stop("b")
			harm(segments)
			c.start("b")
			g := c.nodes["b"].group
			if !voter || !g.fence.Voter() {
				t.Error("repaired, it does not count")
			}
			if g.alarms.get(alarmLog) == "" || g.repairs.Load() == 0 {
				t.Error("nothing says that the log was repaired")
			}
			c.settled("a")
			c.sameState("a")
		})
	}
	c.t = t
}

func errorless(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRepairAsks: a node with a damaged log that reaches nobody refuses to start, says what is damaged, and changes nothing; while it waits it answers its peers that it is being
// repaired, and takes part in nothing (R8, R11, R12).
// Faults: D8 (bytes overwritten; the peers are away)
func TestRepairAsks(t *testing.T) {
	c := three(t, tiny)
	c.nodes["a"].fillKeys(0, 60)
	c.settled("a")
	c.stop("b")
	segments := filesOf(t, c.disks["b"], walDir, ".seg")
	change(t, c.disks["b"], segments[1], func(b []byte) []byte { b[1000] ^= 1; return b })
	c.wire.partition()
	o := c.options("b")
	o.RepairWait = 200 * time.Millisecond
	_, err := Open(o)
	if !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), segments[1]) || !strings.Contains(err.Error(), "no peer could repair it") {
		t.Fatalf("%v", err)
	}
	opened := make(chan error, 1)
	var n *Node
	go func() {
		var err error
		n, err = Open(c.options("b"))
		opened <- err
	}()
	c.wire.heal()
	if err := soon(t, opened, "the repair"); err != nil {
		t.Fatal(err)
	}
	errorless(t, n.Close())
	c.start("b")
	c.settled("a")
}

// TestRepairGivenUp: a log that no peer can repair, because they have trimmed theirs, is given up once another node is active: its files are kept, and the node is filled
// anew and does not count until then (R8, R9, R11).
// Faults: D8 (bytes overwritten; the peers' logs begin later)
func TestRepairGivenUp(t *testing.T) {
	c := three(t, func(name string, o *Options) {
		tiny(name, o)
		if name != "b" {
			o.LogBudget, o.Trim = 16<<10, 10*time.Millisecond
		}
	})
	c.nodes["a"].fillKeys(0, 60)
	c.settled("a")
	c.stop("b")
	c.nodes["a"].fillKeys(60, 200)
	until(t, func() error {
		for _, n := range []string{"a", "c"} {
			if at := c.nodes[n].group.log.Start(); at.LSN < 60 {
				return fmt.Errorf("log of %s begins at %s", n, at)
			}
		}
		return nil
	})
	change(t, c.disks["b"], filesOf(t, c.disks["b"], walDir, ".seg")[1], func(b []byte) []byte { clear(b[300:3000]); return b })
	n := c.open("b")
	if n.group.fence.Voter() {
		t.Errorf("a node that lost acked records counts: %s %v", c, n.group.alarms.list())
	}
	errorless(t, n.Close())
	c.start("b")
	c.settled("a")
	c.sameState("a")
	if kept := filesOf(t, c.disks["b"], "data/groups/default/diverged", ""); len(kept) == 0 {
		t.Error("nothing was kept")
	}
}

// TestStateRebuilt: a state that is damaged is built anew: from the node's own log when that reaches back to the beginning, otherwise from a peer's snapshot. The node keeps its vote, because
// its log is whole, but is not promoted as long as it has no state.
// Faults: D10 (a table overwritten, found when it is read or checked); D7 (a MANIFEST damaged, removed, or cut so that it opens as an empty state)
func TestStateRebuilt(t *testing.T) {
	harms := map[string]func(fs vfs.FS) error{
		"manifest overwritten": func(fs vfs.FS) error {
			change(t, fs, filesIn(t, fs, "MANIFEST")[0], func(b []byte) []byte { copy(b[len(b)/2:], "damaged"); return b })
			return nil
		},
		"manifest empty": func(fs vfs.FS) error {
			change(t, fs, filesIn(t, fs, "MANIFEST")[0], func([]byte) []byte { return nil })
			return nil
		},
		"table missing": func(fs vfs.FS) error { return fs.Remove(filesOf(t, fs, stateDir, ".sst")[0]) },
		"half made": func(fs vfs.FS) error {
			for _, p := range filesIn(t, fs, "MANIFEST") {
				errorless(t, fs.Remove(p))
			}
			return nil
		},
		"gone": func(fs vfs.FS) error { return fs.RemoveAll(stateDir) },
		"suspected table": func(fs vfs.FS) error {
			change(t, fs, filesOf(t, fs, stateDir, ".sst")[0], func(b []byte) []byte { b[len(b)/3] ^= 1; return b })
			return writeWhole(fs, "data/groups/default/"+suspectNote, []byte("test\n"))
		},
	}
	for _, trimmed := range []bool{false, true} {
		t.Run(fmt.Sprintf("log trimmed=%t", trimmed), func(t *testing.T) {
			c := three(t, func(name string, o *Options) {
				tiny(name, o)
				if trimmed {
					o.LogBudget, o.Trim = 24<<10, 10*time.Millisecond
				}
			})
			c.nodes["a"].fillKeys(0, 150)
			c.settled("a")
			if trimmed {
				until(t, func() error {
					if at := c.nodes["b"].group.log.Start(); at.LSN == 0 {
						return errors.New("log not trimmed")
					}
					return nil
				})
			}
			for name, harm := range harms {
				if testing.Short() && name != "manifest empty" && name != "suspected table" {
					continue
				}
				c.stop("b")
				errorless(t, harm(c.disks["b"]))
				n := c.open("b")
				if !n.group.fence.Voter() {
					t.Errorf("%s: a node whose log is whole does not count", name)
				}
				if lacks := n.group.state.lacking(); lacks != "" && !trimmed {
					t.Errorf("%s: state lacks %q", name, lacks)
				}
				errorless(t, n.Close())
				c.start("b")
				if trimmed {
					_, err := c.nodes["b"].promote(admin.PromoteRequest{})
					if g := c.nodes["b"].group; err == nil && g.state.lacking() != "" {
						t.Errorf("%s: promoted without a state", name)
					}
					if err == nil { // the snapshot was faster
						c.promote("a")
					}
				}
				c.settled("a")
				until(t, func() error {
					if g := c.nodes["b"].group; g.state.applied() != c.nodes["a"].group.state.applied() {
						return fmt.Errorf("%s: %s of %s applied, lacks %q", name, g.state.applied(), c.nodes["a"].group.state.applied(), g.state.lacking())
					}
					return nil
				})
				c.sameState("a")
			}
		})
	}
}

// filesIn lists the files of the state whose names begin with a prefix.
func filesIn(t *testing.T, fs vfs.FS, prefix string) (paths []string) {
	for _, p := range filesOf(t, fs, stateDir, "") {
		if strings.HasPrefix(fs.PathBase(p), prefix) {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 {
		t.Fatalf("no file %s…", prefix)
	}
	return paths
}

// TestStateAlone: a node without peers builds its state from its log; when the log has been trimmed it refuses, says what to do, and keeps what it has.
func TestStateAlone(t *testing.T) {
	for _, trimmed := range []bool{false, true} {
		c := newCluster(t, 0, func(name string, o *Options) {
			tiny(name, o)
			if trimmed {
				o.LogBudget, o.Trim = 24<<10, 10*time.Millisecond
			}
		}, "a")
		c.start()
		c.nodes["a"].fillKeys(0, 120)
		if trimmed {
			until(t, func() error {
				if at := c.nodes["a"].group.log.Start(); at.LSN == 0 {
					return errors.New("log not trimmed")
				}
				return nil
			})
		}
		want := c.nodes["a"].get("key-00007")
		c.stop("a")
		change(t, c.disks["a"], filesIn(t, c.disks["a"], "MANIFEST")[0], func([]byte) []byte { return nil })
		if trimmed {
			for range 2 {
				if _, err := Open(c.options("a")); err == nil || !strings.Contains(err.Error(), "restore") {
					t.Fatalf("%v", err)
				}
			}
			continue
		}
		c.start()
		until(t, func() error {
			if got := c.nodes["a"].get("key-00007"); got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}
}
