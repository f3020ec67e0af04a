package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/archive"
)

// seeded makes a cluster that archives and whose logs are short, with a backup and writes behind it, and c stopped with an empty disk: a new node that is to be seeded from the archive.
func seeded(t *testing.T, store archive.Store, more func(name string, o *Options)) *cluster {
	t.Helper()
	c := three(t, func(name string, o *Options) {
		small(128<<10)(name, o)
		o.Archive = ArchiveOptions{Store: store, Interval: 10 * time.Millisecond, Seed: "archive"}
		if more != nil {
			more(name, o)
		}
	})
	a := c.nodes["a"]
	a.mustSet("oldest")
	a.fillArchived(t, 512<<10)
	a.backup(t)
	a.mustPut(t, "oldest", "changed")
	a.fillArchived(t, 512<<10)
	until(t, func() error {
		if a.group.log.Start().LSN <= a.group.log.End().LSN/2 {
			return fmt.Errorf("the log of the active is not trimmed: it begins behind %d", a.group.log.Start().LSN)
		}
		return nil
	})
	c.stop("c")
	c.disks["c"] = vfs.NewMem()
	a.archivedUpTo(t, a.group.log.End().LSN)
	return c
}

// fillArchived is fill, as fast as the archive is: a log that is trimmed before it is archived leaves a gap.
func (m *member) fillArchived(t *testing.T, bytes int64) {
	t.Helper()
	const step = 64 << 10
	for range bytes / step {
		m.fill(step)
		m.archivedUpTo(t, m.group.log.End().LSN)
	}
}

func folder(t *testing.T) (archive.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := archive.OpenStore("file://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// seedOf waits until c follows a and counts, and returns where its state came from. The copies are equal then.
func (c *cluster) seedOf(t *testing.T, active string) admin.SeedStatus {
	t.Helper()
	c.nodes[active].mustSet("after the seeding")
	c.settled(active)
	c.nodes[active].equal(t)
	s := c.nodes["c"].group.nodeStatus().Seed
	if s == nil || s.Running {
		t.Fatalf("seed of c: %+v", s)
	}
	return *s
}

// A blank standby takes state and log from the archive and the rest from the active, which sends no snapshot; it counts only when it has what the active had (R11).
func TestSeedFromArchive(t *testing.T) {
	t.Parallel()
	store, _ := folder(t)
	c := seeded(t, store, nil)
	c.start("c")
	s := c.seedOf(t, "a")
	if s.From != "archive" || s.Snapshot == "" || s.Archived <= s.Position.LSN || s.Note != "" {
		t.Fatalf("seed %+v", s)
	}
	if exists(c.disks["c"], "data/groups/default/"+seedNote) {
		t.Error("the note of the seeding is still there")
	}
	// It is not blank any more: the next life asks the active alone.
	c.stop("c")
	c.start("c")
	c.nodes["a"].mustSet("and on")
	c.settled("a")
	if s := c.nodes["c"].group.nodeStatus().Seed; s != nil {
		t.Errorf("seeded again: %+v", s)
	}
}

// What the archive cannot give, the active gives, and status says why.
func TestSeedFallsBack(t *testing.T) {
	t.Parallel()
	remove := func(folder string) func(t *testing.T, dir string, f *faulty) {
		return func(t *testing.T, dir string, _ *faulty) {
			until(t, func() error { return os.RemoveAll(filepath.Join(dir, "shop", "default", folder)) }) // the archiver may be writing there
		}
	}
	each := func(folder string, change func(b []byte) []byte) func(t *testing.T, dir string, f *faulty) {
		return func(t *testing.T, dir string, _ *faulty) {
			err := filepath.Walk(filepath.Join(dir, "shop", "default", folder), func(path string, i os.FileInfo, err error) error {
				if err != nil || i.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				return os.WriteFile(path, change(b), 0o600)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(b []byte) []byte {
		if len(b) > 0 { // a state has empty files
			b[len(b)/2] ^= 1
		}
		return b
	}
	for _, tc := range []struct {
		name, from, says string
		harm             func(t *testing.T, dir string, f *faulty)
	}{
		{"no archive", "a", "there is no archive of cluster shop", remove("about.json")},
		{"no backup", "a", "there is no backup of shop", remove("backups")},
		{"damaged files", "a", "object is damaged", each("objects", flip)},
		{"files are missing", "a", "no such object", remove("objects")},
		{"damaged manifest", "a", "checksum does not match", each("backups", flip)},
		{"no log", "a", "the active's log begins behind LSN|gap in the archived log", remove("log")},
		{"damaged log", "a", "the archived log could be taken up to LSN", each("log", flip)},
		{"out of order", "a", "out of order", func(_ *testing.T, _ string, f *faulty) { f.down.Store(true) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			store, dir := folder(t)
			f := &faulty{Store: store}
			c := seeded(t, f, nil)
			tc.harm(t, dir, f)
			c.start("c")
			s := c.seedOf(t, "a")
			if s.From != tc.from || !regexp.MustCompile(tc.says).MatchString(s.Note) {
				t.Fatalf("seed %+v, want %q from %s", s, tc.says, tc.from)
			}
		})
	}
}

// slowStore stands still after some reads of files, until its reader gives up.
type slowStore struct {
	archive.Store
	left    atomic.Int64
	reached chan struct{} // capacity 1
	reads   atomic.Int64
}

func (s *slowStore) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if strings.Contains(key, "/objects/") {
		s.reads.Add(1)
		if s.left.Add(-1) < 0 {
			select {
			case s.reached <- struct{}{}:
			default:
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
	return s.Store.Get(ctx, key)
}

// A seeding ends with the node, and with an epoch of another node (R3), and goes on where it was: files that are here are not fetched again.
func TestSeedingIsInterrupted(t *testing.T) {
	t.Parallel()
	store, _ := folder(t)
	slow := &slowStore{Store: store, reached: make(chan struct{}, 1)}
	slow.left.Store(1 << 30)
	c := seeded(t, slow, func(_ string, o *Options) { o.Archive.candidateWait = patience })
	ar, err := archive.Open(t.Context(), archive.Options{Store: store, Cluster: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	all, err := ar.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files := int64(len(all[len(all)-1].Files))
	slow.reads.Store(0)
	interrupted := 0
	for { // one more file a life, at least: an empty one that was begun is whole
		slow.left.Store(1)
		select {
		case <-slow.reached: // of the life before
		default:
		}
		c.start("c")
		stands := false
		until(t, func() error {
			select {
			case <-slow.reached:
				stands = true
			default:
				if c.nodes["c"].group.answer().Blank {
					return errors.New("it neither reads the archive nor has a state")
				}
			}
			return nil
		})
		if !stands {
			break
		}
		if interrupted++; interrupted == 2 { // and once it is the epoch that ends it
			c.promote("b")
			c.nodes["b"].mustSet("of the new epoch")
			c.promote("a")
		}
		c.stop("c")
	}
	c.settled("a")
	if interrupted < 3 {
		t.Errorf("interrupted %d times", interrupted)
	}
	if s := c.seedOf(t, "a"); s.From != "archive" || s.Note != "" {
		t.Fatalf("seed %+v", s)
	}
	if n := slow.reads.Load(); n < files || n > 3*files {
		t.Errorf("%d reads of %d files", n, files)
	}
}

// The archive holds records that a promotion has given up: the node that was seeded with them keeps them aside and has the active's history in the end (R9, R15).
func TestSeedOfAnotherHistory(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} { // the backup lies behind the parting
		t.Run(fmt.Sprintf("backup=%t", applied), func(t *testing.T) {
			t.Parallel()
			store, _ := folder(t)
			c := newCluster(t, 0, func(name string, o *Options) {
				if name != "b" {
					o.Archive = ArchiveOptions{Store: store, Interval: 10 * time.Millisecond, Seed: "archive"}
				}
			}, "a", "b", "c")
			c.start()
			c.promote("a")
			c.settled("a")
			c.stop("c")
			c.disks["c"] = vfs.NewMem()
			a := c.nodes["a"]
			a.load(t, 300)
			c.settled("a")
			if !applied {
				a.backup(t)
			}
			c.stop("b")
			a.mustSet("given up")
			if applied {
				a.backup(t)
			}
			a.archivedUpTo(t, a.group.log.End().LSN)
			c.stop("a")
			c.start("b")
			b := c.nodes["b"]
			until(t, func() error {
				_, err := b.promote(admin.PromoteRequest{AllowDataLoss: true})
				return err
			})
			b.mustSet("of b")
			c.start("c")
			s := c.seedOf2(t, "b")
			n := c.nodes["c"]
			if got := n.get("given up") + n.get("of b"); got != "of b" {
				t.Errorf("c has %q", got)
			}
			want := "archive"
			if applied {
				want = "b"
			}
			if s.From != want {
				t.Errorf("seed %+v, want it from %s", s, want)
			}
			if saved := n.group.nodeStatus().Diverged; saved == 0 && !applied {
				t.Error("what the active does not have was not kept (R9)")
			}
		})
	}
}

// seedOf2 is seedOf in a cluster of which a node is down.
func (c *cluster) seedOf2(t *testing.T, active string) admin.SeedStatus {
	t.Helper()
	until(t, func() error {
		x, y := c.nodes[active].digestHere(t), c.nodes["c"].digestHere(t)
		s := c.nodes["c"].group.nodeStatus().Seed
		if x.Hash != y.Hash || s == nil || s.Running || !c.nodes["c"].group.fence.Voter() {
			return fmt.Errorf("%+v, %+v, seed %+v", x, y, s)
		}
		return nil
	})
	return *c.nodes["c"].group.nodeStatus().Seed
}

// A running standby whose state is wrong gets one from the archive while it goes on acking and voting; its log stays as it is (R1, R11).
func TestReseedFromArchive(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		budget int64 // of the log: it reaches back to the backup, or not
	}{{"own log", 1 << 30}, {"archived log", 128 << 10}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			store, _ := folder(t)
			c := three(t, func(name string, o *Options) {
				small(tc.budget)(name, o)
				o.Archive = ArchiveOptions{Store: store, Interval: 10 * time.Millisecond}
			})
			a := c.nodes["a"]
			a.load(t, 2000)
			a.backup(t)
			a.mustPut(t, "m000001", "changed")
			a.fillArchived(t, 512<<10)
			c.settled("a")
			a.archivedUpTo(t, a.group.log.End().LSN)
			c.stop("b")
			c.plant("b", "\x01m000777", "\x00\x00planted")
			c.start("b")
			c.settled("a")
			b := c.nodes["b"]
			end := b.group.log.End()
			r := b.reseed(t, admin.ReseedRequest{Archive: true, Only: true})
			if r.From != "archive" || r.Applied.LSN < r.Position.LSN || r.Note != "" { // how far it is applied is what the active said is committed: a.equal waits for the rest
				t.Fatalf("%+v", r)
			}
			if tc.budget < 1<<30 && b.group.log.Start().LSN <= r.Position.LSN-1 && b.group.log.Start().LSN == 0 {
				t.Errorf("the log was not trimmed: %s", b.group.log.Start())
			}
			if !b.group.fence.Voter() || b.group.log.End().LSN < end.LSN {
				t.Errorf("voter %t, log to %s, was %s", b.group.fence.Voter(), b.group.log.End(), end)
			}
			a.equal(t)
			if got := b.get("m000777") + b.get("m000001"); got != "m000777changed" {
				t.Errorf("b has %q", got)
			}
			if s := b.group.nodeStatus().Seed; s == nil || s.From != "archive" || s.Snapshot != r.Backup {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func (m *member) reseed(t *testing.T, req admin.ReseedRequest) admin.ReseedResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := m.api().Reseed(ctx, req, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// With a damaged archive a reseed says so and takes the active's state, or changes nothing if only the archive will do. What is no running standby is refused.
func TestReseedRefusedOrFromActive(t *testing.T) {
	t.Parallel()
	store, dir := folder(t)
	c := three(t, func(name string, o *Options) {
		if name != "c" {
			o.Archive = ArchiveOptions{Store: store, Interval: 10 * time.Millisecond}
		}
	})
	a, b := c.nodes["a"], c.nodes["b"]
	a.load(t, 500)
	a.backup(t)
	c.settled("a")
	matches, err := filepath.Glob(filepath.Join(dir, "shop", "default", "objects", "*", "*"))
	if err != nil || len(matches) == 0 {
		t.Fatal(matches, err)
	}
	for _, path := range matches {
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try := func(n *member, req admin.ReseedRequest) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := n.api().Reseed(ctx, req, ignore)
		return err
	}
	for _, req := range []admin.ReseedRequest{{}, {Archive: true}, {Node: "a", Archive: true}} {
		if err := try(a, req); !refused(err) {
			t.Errorf("reseed of the active: %v", err)
		}
	}
	before := b.group.state.applied()
	if err := try(a, admin.ReseedRequest{Node: "b", Archive: true, Only: true}); !refused(err) || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("a damaged archive: %v", err)
	}
	if lacks, now := b.group.state.lacking(), b.group.state.applied(); lacks != "" || now.LSN < before.LSN { // it goes on applying
		t.Errorf("a refused reseed changed the state: applied %s, was %s, lacks %q", now, before, lacks)
	}
	if exists(c.disks["b"], "data/groups/default/"+incomingBackup) {
		t.Error("a refused reseed leaves files")
	}
	var usage *admin.Error
	if err := try(c.nodes["c"], admin.ReseedRequest{Archive: true}); !errors.As(err, &usage) || usage.Code != admin.CodeUsage {
		t.Errorf("without an archive: %v", err)
	}
	if err := b.group.holdNow("test"); err != nil {
		t.Fatal(err)
	}
	if err := try(b, admin.ReseedRequest{Archive: true}); !refused(err) {
		t.Errorf("reseed of a held node: %v", err)
	}
	if err := b.group.release(); err != nil {
		t.Fatal(err)
	}
	r := b.reseed(t, admin.ReseedRequest{Archive: true})
	if r.From != "a" || !strings.Contains(r.Note, "damaged") {
		t.Fatalf("%+v", r)
	}
	a.equal(t)
}

// A lagged standby is not brought ahead of its delay.
func TestReseedOfLagged(t *testing.T) {
	t.Parallel()
	store, _ := folder(t)
	c := three(t, func(name string, o *Options) {
		laggedC(name, o)
		o.Archive = ArchiveOptions{Store: store, Interval: 10 * time.Millisecond, Seed: "archive"}
	})
	a, lag := c.nodes["a"], c.nodes["c"]
	a.load(t, 100)
	c.settled("a")
	a.backup(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := lag.api().Reseed(ctx, admin.ReseedRequest{Archive: true, Only: true}, ignore); !refused(err) {
		t.Fatalf("a backup that is ahead of the delay: %v", err)
	}
	if at := lag.group.state.applied().LSN; at >= a.group.state.applied().LSN {
		t.Errorf("the lagged standby has applied LSN %d", at)
	}
}
