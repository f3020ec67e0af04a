package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/archive"
	"repld/wal"
)

// archived makes a cluster that archives into a folder.
func archived(t *testing.T, more func(name string, o *Options)) (*cluster, string) {
	t.Helper()
	dir := t.TempDir()
	c := three(t, func(name string, o *Options) {
		o.Archive = ArchiveOptions{URL: "file://" + dir, Interval: 20 * time.Millisecond}
		if more != nil {
			more(name, o)
		}
	})
	return c, dir
}

func (c *cluster) openArchive(t *testing.T, dir, key string) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), archive.Options{URL: "file://" + dir, KeyFile: key, Cluster: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (m *member) backup(t *testing.T) admin.BackupResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := m.api().Backup(ctx, admin.BackupRequest{}, ignore)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// digestNow digests the state of a node at the end of its log.
func (m *member) digestNow(t *testing.T) (wal.Position, wal.Hash) {
	t.Helper()
	v, err := m.verified(t.Context())
	if err != nil || !v.OK {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	return v.Nodes[0].Position, v.Nodes[0].Digest
}

// archivedUpTo waits until the archive holds the log of the active.
func (m *member) archivedUpTo(t *testing.T, lsn wal.LSN) {
	t.Helper()
	until(t, func() error {
		if s := m.group.archiver.status(); s.Archived.LSN < lsn {
			return fmt.Errorf("archived up to %s, want %d: %s", s.Archived, lsn, s.Error)
		}
		return nil
	})
}

// A backup and the archived log restore to every kind of moment: the digest is the one that was recorded there; the restored node is of another cluster (R11) and
// serves on its own.
func TestRestoreToMoments(t *testing.T) {
	t.Parallel()
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("key=%t", keyed), func(t *testing.T) {
			t.Parallel()
			key := ""
			if keyed {
				key = filepath.Join(t.TempDir(), "key")
				if _, err := archive.NewKey(key); err != nil {
					t.Fatal(err)
				}
			}
			c, dir := archived(t, func(_ string, o *Options) { o.Archive.KeyFile = key })
			a := c.nodes["a"]
			for i := range 50 {
				a.mustSet(fmt.Sprintf("k%02d", i))
			}
			atFirst, first := a.digestNow(t)
			b := a.backup(t)
			if b.Digest != first || b.Sent == 0 {
				t.Fatalf("backup %+v, want digest %s", b, first)
			}
			for i := range 50 {
				a.mustPut(t, fmt.Sprintf("k%02d", i), "changed")
			}
			atSecond, second := a.digestNow(t)
			between := time.Now()
			a.del(t, "k07", "k08")
			c.promote("b") // the archive goes on from another node, in the next epoch
			c.settled("b")
			n := c.nodes["b"]
			n.mustSet("last")
			atLast, last := n.digestNow(t)
			n.archivedUpTo(t, atLast.LSN)
			ar := c.openArchive(t, dir, key)
			for _, tc := range []struct {
				name   string
				o      RestoreOptions
				at     wal.LSN
				digest wal.Hash
			}{
				{"first", RestoreOptions{ToLSN: atFirst.LSN}, atFirst.LSN, first},
				{"second", RestoreOptions{ToLSN: atSecond.LSN}, atSecond.LSN, second},
				{"time", RestoreOptions{ToTime: between}, atSecond.LSN, second},
				{"latest", RestoreOptions{}, atLast.LSN, last},
			} {
				t.Run(tc.name, func(t *testing.T) {
					o := tc.o
					o.Archive, o.Of, o.Cluster, o.Node, o.Dir = ar, "shop", "shop-restored", "r", filepath.Join(t.TempDir(), "r")
					r, err := Restore(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					if r.Position.LSN != tc.at || r.Digest.Hash != tc.digest {
						t.Fatalf("restored %+v, want LSN %d with digest %s", r, tc.at, tc.digest)
					}
					serveRestored(t, o, r)
				})
			}
			if rep, err := ar.Check(t.Context(), true, nil); err != nil || rep.To.LSN < atLast.LSN || rep.From.LSN != b.Position.LSN {
				t.Fatalf("check %+v: %v", rep, err)
			}
		})
	}
}

// serveRestored opens a restored directory as a node of its own.
func serveRestored(t *testing.T, o RestoreOptions, r RestoreResult) {
	t.Helper()
	if _, err := Restore(t.Context(), o); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("restore over data: %v", err)
	}
	options := Options{Cluster: o.Cluster, Name: o.Node, Dir: o.Dir, SegmentBytes: 256 << 10}
	wrong := options
	wrong.Cluster = "shop"
	if n, err := Open(wrong); err == nil {
		t.Errorf("a restored directory was opened as one of the old cluster (R11)")
		n.Close()
	}
	n, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	m := &member{Node: n, t: t}
	until(t, func() error {
		if !n.group.active() {
			return fmt.Errorf("the restored node is not active: %v", n.group.alarms.list())
		}
		return nil
	})
	if e := n.group.fence.Epoch(); e <= r.Position.Epoch {
		t.Errorf("the restored cluster begins in epoch %d, the history ends in %d", e, r.Position.Epoch)
	}
	m.mustSet("after the restore")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// The moment may lie within a frame.
func TestRestoreWithinFrame(t *testing.T) {
	t.Parallel()
	c, dir := archived(t, nil)
	a := c.nodes["a"]
	a.backup(t)
	lsn, before := a.bigFrame(t)
	a.archivedUpTo(t, a.group.log.End().LSN)
	o := RestoreOptions{Archive: c.openArchive(t, dir, ""), Of: "shop", Cluster: "other", Node: "r", Dir: t.TempDir(), ToLSN: lsn}
	r, err := Restore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Position.LSN != lsn || r.Keys != int64(lsn-before) {
		t.Fatalf("restored %+v, want LSN %d with %d keys", r, lsn, lsn-before)
	}
	serveRestored(t, o, r)
}

// What is in the store is not sent again.
func TestBackupIncremental(t *testing.T) {
	t.Parallel()
	c, _ := archived(t, nil)
	a := c.nodes["a"]
	value := strings.Repeat("0123456789abcdef", 64)
	for i := range 200 {
		a.mustPut(t, fmt.Sprintf("k%04d", i), value)
	}
	full := a.backup(t)
	a.mustPut(t, "k0000", "changed")
	until(t, func() error { // Pebble may have compacted in between: the files that hold it all are new then, once
		next := a.backup(t)
		if next.Position.LSN <= full.Position.LSN || next.Sent*2 > full.Sent {
			return fmt.Errorf("the first backup sent %d bytes, the next %d: %+v", full.Sent, next.Sent, next)
		}
		return nil
	})
}

// faulty is a store that is out of order while down is set.
type faulty struct {
	archive.Store
	down atomic.Bool
}

var errDown = errors.New("out of order")

func (f *faulty) Put(ctx context.Context, key string, r io.Reader, n int64) error {
	if f.down.Load() {
		return errDown
	}
	return f.Store.Put(ctx, key, r, n)
}

func (f *faulty) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if f.down.Load() {
		return nil, errDown
	}
	return f.Store.Get(ctx, key)
}

// While the archive is out of order, writes go on, an alarm says so, and afterwards nothing is missing.
func TestArchiveOutage(t *testing.T) {
	t.Parallel()
	store, err := archive.OpenStore("file://" + t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{Store: store}
	c := three(t, func(_ string, o *Options) { o.Archive = ArchiveOptions{Store: f, Interval: 10 * time.Millisecond} })
	a := c.nodes["a"]
	a.backup(t)
	a.mustSet("one")
	a.archivedUpTo(t, a.group.log.End().LSN)
	f.down.Store(true)
	a.mustSet("two")
	until(t, func() error {
		if a.group.alarms.get(alarmArchive) == "" {
			return errors.New("no alarm while the archive is out of order")
		}
		return nil
	})
	a.mustSet("three")
	if s := a.group.archiver.status(); s.LagRecords == 0 || s.Error == "" {
		t.Fatalf("status %+v", s)
	}
	f.down.Store(false)
	a.archivedUpTo(t, a.group.log.End().LSN)
	until(t, func() error {
		if text := a.group.alarms.get(alarmArchive); text != "" {
			return fmt.Errorf("the alarm stays: %s", text)
		}
		return nil
	})
	ar, err := archive.Open(t.Context(), archive.Options{Store: f, Cluster: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	at, digest := a.digestNow(t)
	a.archivedUpTo(t, at.LSN)
	r, err := Restore(t.Context(), RestoreOptions{Archive: ar, Of: "shop", Cluster: "x", Node: "r", Dir: t.TempDir(), ToLSN: at.LSN})
	if err != nil || r.Digest.Hash != digest {
		t.Fatalf("restored %+v, want digest %s: %v", r, digest, err)
	}
}

// An archive that was away while the log was trimmed has a gap: it is said, and a backup closes it.
func TestArchiveGap(t *testing.T) {
	t.Parallel()
	store, err := archive.OpenStore("file://" + t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{Store: store}
	c := newCluster(t, 0, func(_ string, o *Options) {
		o.Archive = ArchiveOptions{Store: f, Interval: 10 * time.Millisecond}
		o.SegmentBytes, o.LogBudget, o.Trim, o.Codec = 64<<10, 64<<10, 10*time.Millisecond, wal.CodecNone
	}, "a")
	c.start()
	a := c.nodes["a"]
	a.backup(t)
	a.mustSet("one")
	before, first := a.digestNow(t)
	a.archivedUpTo(t, before.LSN)
	f.down.Store(true)
	value := strings.Repeat("x", 8<<10)
	until(t, func() error { // the log goes on, and does not grow beyond its budget for the archive's sake (R12)
		a.mustPut(t, fmt.Sprintf("k%d", a.group.log.End().LSN%50), value)
		if a.group.log.Start().LSN < 30 {
			return errors.New("the log was not trimmed")
		}
		return nil
	})
	if alarm := a.group.alarms.get(alarmArchive); !strings.Contains(alarm, "not archived since") {
		t.Errorf("no alarm while the archive is out of order: %q", alarm)
	}
	until(t, func() error {
		if n := a.group.log.Bytes(); n > 2*64<<10+64<<10 { // and the segment that is written
			return fmt.Errorf("the log takes %d bytes, its budget is 64 KiB and as much again", n)
		}
		return nil
	})
	gone := a.group.log.Start().LSN
	f.down.Store(false)
	until(t, func() error {
		if !strings.Contains(a.group.alarms.get(alarmArchive), "misses records") {
			return fmt.Errorf("no alarm of the gap: %q", a.group.alarms.get(alarmArchive))
		}
		return nil
	})
	if s := a.group.nodeStatus().Archive; s == nil || s.Gap < gone {
		t.Errorf("status %+v, records up to LSN %d are gone", s, gone)
	}
	ar, err := archive.Open(t.Context(), archive.Options{Store: f, Cluster: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	// What the gap means: a moment in or behind it cannot be restored, and is not guessed at; one before it can.
	r, err := Restore(t.Context(), RestoreOptions{Archive: ar, Of: "shop", Cluster: "x", Node: "r", Dir: t.TempDir(), ToLSN: before.LSN})
	if err != nil || r.Digest.Hash != first {
		t.Fatalf("restored before the gap %+v, want digest %s: %v", r, first, err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{Archive: ar, Of: "shop", Cluster: "x", Node: "r", Dir: t.TempDir(), ToLSN: gone + 1}); err == nil {
		t.Error("a moment behind a gap was restored without a backup")
	}
	a.backup(t)
	until(t, func() error {
		if text := a.group.alarms.get(alarmArchive); text != "" {
			return fmt.Errorf("the alarm stays after a backup: %s", text)
		}
		return nil
	})
	// It would have been closed by the backup of another node, too.
	a.group.archiver.mu.Lock()
	a.group.archiver.mu.gap = gone
	a.group.archiver.mu.Unlock()
	until(t, func() error {
		if s := a.group.archiver.status(); s.Gap != 0 {
			return fmt.Errorf("a backup lies in the archive, and the gap stays: %+v", s)
		}
		return nil
	})
	at, digest := a.digestNow(t)
	a.archivedUpTo(t, at.LSN)
	r, err = Restore(t.Context(), RestoreOptions{Archive: ar, Of: "shop", Cluster: "x", Node: "r", Dir: t.TempDir(), ToLSN: at.LSN})
	if err != nil || r.Digest.Hash != digest {
		t.Fatalf("restored behind the gap %+v, want digest %s: %v", r, digest, err)
	}
}

// A restore that was broken off leaves a directory that no node opens, and that the next restore begins anew. What force replaces is moved aside.
func TestRestoreBrokenOff(t *testing.T) {
	t.Parallel()
	c, dir := archived(t, nil)
	a := c.nodes["a"]
	for i := range 100 {
		a.mustSet(fmt.Sprintf("k%02d", i))
	}
	a.backup(t)
	at, digest := a.digestNow(t)
	a.archivedUpTo(t, at.LSN)
	ar := c.openArchive(t, dir, "")
	target := filepath.Join(t.TempDir(), "r")
	o := RestoreOptions{Archive: ar, Of: "shop", Cluster: "x", Node: "r", Dir: target, ToLSN: at.LSN}
	done := false
	for stop := 1; !done && stop < 100; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		o.Progress = func(string, float64) {
			if n++; n == stop {
				cancel()
			}
		}
		r, err := Restore(ctx, o)
		cancel()
		if err == nil {
			if r.Digest.Hash != digest {
				t.Fatalf("restored %+v, want digest %s", r, digest)
			}
			done = true
			continue
		}
		if _, err := Open(Options{Cluster: "x", Name: "r", Dir: target}); !errors.Is(err, ErrRestoring) {
			t.Fatalf("a node in a half-restored directory: %v", err)
		}
	}
	if !done {
		t.Fatal("no restore ended well")
	}
	o.Progress, o.Force = nil, true
	r, err := Restore(t.Context(), o)
	if err != nil || r.Aside == "" {
		t.Fatalf("forced: %+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(r.Aside, "identity")); err != nil {
		t.Fatalf("what was there is not aside: %v", err)
	}
	if _, err := CheckIdentity(vfs.Default, target); err != nil {
		t.Fatal(err)
	}
}
