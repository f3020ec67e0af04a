package faultfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// faulty is a file of ten bytes, "0123456789", synced, behind an FS with one rule.
func faulty(t *testing.T, r Rule) (*Disk, *FS, vfs.File, *Active) {
	t.Helper()
	d := NewDisk()
	script(t, d, "create f 0123456789", "create g ..........", "sync f", "sync g", "sync /")
	fsys := New(d, 1)
	a := fsys.Add(r)
	f, err := fsys.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return d, fsys, f, a
}

// TestFaults: what each fault does to a write of "abcd" at 2, and what it says (FAULTS D1, D3, D8, D13, D14).
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault Fault
		f, g  string
		n     int
		err   error
	}{
		{"fail", Fail(syscall.EIO), "0123456789", "..........", 0, syscall.EIO},
		{"short", Short(2, syscall.EINTR), "01ab456789", "..........", 2, syscall.EINTR},
		{"short, silent", Short(2, nil), "01ab456789", "..........", 2, nil},
		{"cut", Cut(3), "01abc56789", "..........", 4, nil},
		{"lost", Lost(), "0123456789", "..........", 4, nil},
		{"elsewhere", Misdirect(4), "012345abcd", "..........", 4, nil},
		{"to another file", MisdirectTo("g"), "0123456789", "..abcd....", 4, nil},
		{"flipped", FlipBit(8), "01accd6789", "..........", 4, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, fsys, f, rule := faulty(t, Rule{Ops: []Kind{OpWrite}, Path: "f", Times: 1, Fault: c.fault})
			n, err := f.WriteAt([]byte("abcd"), 2)
			if n != c.n || !errors.Is(err, c.err) {
				t.Errorf("write said %d, %v", n, err)
			}
			if got, other := read(t, d, "f"), read(t, d, "g"); got != c.f || other != c.g {
				t.Errorf("files hold %q and %q, want %q and %q", got, other, c.f, c.g)
			}
			if n, err := f.WriteAt([]byte("X"), 0); n != 1 || err != nil || rule.Hits() != 1 || len(fsys.Hits()) != 1 {
				t.Errorf("next write: %d, %v; hits %v", n, err, fsys.Hits())
			}
		})
	}
}

// TestReads: a reader gets a flipped bit, or less, or what was there before (FAULTS D10, D15).
func TestReads(t *testing.T) {
	for name, c := range map[string]struct {
		fault Fault
		want  string
	}{"flipped": {FlipBit(0), "\x60b23"}, "short": {Short(2, io.ErrUnexpectedEOF), "ab"}, "stale": {Stale(), "0123"}} {
		_, _, f, _ := faulty(t, Rule{Ops: []Kind{OpRead}, Path: "f", Fault: c.fault})
		if _, err := f.WriteAt([]byte("ab"), 0); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		n, _ := f.ReadAt(b, 0)
		if string(b[:n]) != c.want {
			t.Errorf("%s: %q, want %q", name, b[:n], c.want)
		}
	}
}

// TestDropPages: the sync fails, the content is the old one, the next sync succeeds and saves nothing of what was dropped; before the failure it may have
// reached the disk (FAULTS D4).
func TestDropPages(t *testing.T) {
	d, _, f, _ := faulty(t, Rule{Ops: []Kind{OpSync}, Path: "f", Times: 1, Fault: DropPages(syscall.EIO)})
	if _, err := f.WriteAt([]byte("new and longer"), 0); err != nil {
		t.Fatal(err)
	}
	before := d.Clock().Now()
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	if got := read(t, d, "f"); got != "0123456789" {
		t.Errorf("read after the failure: %q", got)
	}
	if _, err := f.WriteAt([]byte("later"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncData(); err != nil {
		t.Fatalf("second sync: %v", err)
	}
	for want, got := range map[string]string{
		"later56789":     read(t, d.Crash(d.Clock().Now(), Nothing()), "f"),
		"new and longer": read(t, d.Crash(before, Everything()), "f"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if d.Used() != 20 {
		t.Errorf("used %d", d.Used())
	}
}

// TestRules: by path, occurrence and chance.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"*.sst", "data/state/1.sst", true}, {"wal/*", "data/wal/1.seg", true}, {"wal/*", "wal", false}, {"wal", "data/wal", true},
		{"state/*.sst", "data/wal/1.sst", false}, {"data/wal/1.seg", "wal/1.seg", false}, {"", "anything", true},
	} {
		if r := (&Rule{Path: c.pattern}); r.matches(Op{Path: c.path}) != c.want {
			t.Errorf("pattern %q on %q: want %t", c.pattern, c.path, c.want)
		}
	}
	_, fsys, f, rule := faulty(t, Rule{Ops: []Kind{OpWrite}, After: 2, Times: 3, Fault: Fail(syscall.EIO)})
	chance := fsys.Add(Rule{Ops: []Kind{OpSync}, Chance: 0.25, Fault: Fail(syscall.EIO)})
	fsys.Record()
	failed := ""
	for range 8 {
		_, err := f.Write([]byte("x"))
		failed += map[bool]string{true: "-", false: "x"}[err == nil]
	}
	if failed != "--xxx---" || rule.Hits() != 3 {
		t.Errorf("%s, %d hits", failed, rule.Hits())
	}
	for range 400 {
		_ = f.Sync()
	}
	if h := chance.Hits(); h < 60 || h > 140 {
		t.Errorf("%d of 400 at a chance of a quarter", h)
	}
	if tr := fsys.Trace(); len(tr) != 408 || tr[7].Kind != OpWrite || tr[7].Offset != 4 || tr[7].Length != 1 {
		t.Errorf("trace of %d: %v", len(tr), tr[7])
	}
	chance.Stop()
	if err := f.Sync(); err != nil {
		t.Errorf("after Stop: %v", err)
	}
}

// TestStuck: an operation waits until it is released, and the others do not (FAULTS D16, D17).
func TestStuck(t *testing.T) {
	entered, release := make(chan Op, 1), make(chan struct{})
	_, _, f, _ := faulty(t, Rule{Ops: []Kind{OpSync}, Path: "f", Times: 1, Fault: Stuck(entered, release)})
	done := make(chan error)
	go func() { done <- f.Sync() }()
	if op := <-entered; op.Kind != OpSync || op.Path != "f" {
		t.Errorf("%v", op)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Errorf("not stuck: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	_, _, f, slow := faulty(t, Rule{Ops: []Kind{OpSync}, Fault: Slow(time.Millisecond)})
	if err := f.Sync(); err != nil || slow.Hits() != 1 {
		t.Errorf("slow: %v", err)
	}
}

// TestReal: an FS stands on real files too; what needs a Disk says so.
func TestReal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	fsys := New(vfs.Default, 1)
	fsys.Add(Rule{Ops: []Kind{OpWrite}, After: 1, Times: 1, Fault: Lost()})
	fsys.Add(Rule{Ops: []Kind{OpSync}, Fault: DropPages(syscall.EIO)})
	f, err := fsys.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two", "three"} {
		if _, err := f.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); !errors.Is(err, errUnable) {
		t.Errorf("sync: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "one\x00\x00\x00three" {
		t.Errorf("%q, %v", b, err)
	}
}
