package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// script does one thing a line to a disk: mkdir D, create F TEXT (written, not synced), append F TEXT, sync F or D, mv F F, rm F, ln F F.
func script(t *testing.T, d vfs.FS, lines ...string) {
	t.Helper()
	for _, line := range lines {
		w := strings.Fields(line)
		var err error
		switch w[0] {
		case "mkdir":
			err = d.MkdirAll(w[1], 0o700)
		case "create", "append":
			var f vfs.File
			if w[0] == "create" {
				f, err = d.Create(w[1], vfs.WriteCategoryUnspecified)
			} else {
				f, err = d.OpenReadWrite(w[1], vfs.WriteCategoryUnspecified)
			}
			if err != nil {
				break
			}
			info, serr := f.Stat()
			_, werr := f.WriteAt([]byte(w[2]), info.Size())
			err = errors.Join(serr, werr, f.Close())
		case "sync":
			var f vfs.File
			if f, err = d.OpenDir(w[1]); err == nil {
				err = errors.Join(f.Sync(), f.Close())
			}
		case "mv":
			err = d.Rename(w[1], w[2])
		case "rm":
			err = d.RemoveAll(w[1])
		case "ln":
			err = d.Link(w[1], w[2])
		default:
			t.Fatalf("unknown line %q", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// list is every file of a disk with its content.
func list(t *testing.T, d *Disk) string {
	t.Helper()
	var all []string
	for _, name := range d.Files() {
		all = append(all, name+"="+read(t, d, name))
	}
	return strings.Join(all, " ")
}

func read(t *testing.T, d vfs.FS, name string) string {
	t.Helper()
	f, err := d.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestCrash: what each policy leaves of a few lives (FAULTS D2, D21, D22).
func TestCrash(t *testing.T) {
	synced := []string{"mkdir d", "sync /", "create d/a one", "sync d/a", "sync d"}
	for _, c := range []struct {
		name string
		life []string
		want map[string]Policy // the policies by what they leave
	}{
		{"content without name", []string{"mkdir d", "sync /", "create d/a one", "sync d/a"}, map[string]Policy{"": Nothing(), "d/a=one": Everything()}},
		{"name without content", []string{"mkdir d", "sync /", "create d/a one", "sync d"}, map[string]Policy{"d/a=": Nothing(), "d/a=one": Everything(), "d/a=o": Torn(0, 1)}},
		{"parent not synced", []string{"mkdir d", "create d/a one", "sync d/a", "sync d"}, map[string]Policy{"": Nothing(), "d/a=one": Keep(0)}},
		{"all synced", synced, map[string]Policy{"d/a=one": Nothing()}},
		{"removal", append(slices.Clone(synced), "rm d/a"), map[string]Policy{"d/a=one": Nothing(), "": Everything()}},
		{"rename", append(slices.Clone(synced), "mv d/a d/b"), map[string]Policy{"d/a=one": Nothing(), "d/b=one": Everything()}},
		{"rename over", append(slices.Clone(synced), "create d/b two", "sync d/b", "sync d", "mv d/b d/a"),
			map[string]Policy{"d/a=one d/b=two": Nothing(), "d/a=two": Everything()}},
		{"rename of a lost name", append(slices.Clone(synced), "create d/t two", "sync d/t", "mv d/t d/a"),
			map[string]Policy{"d/a=one": Nothing(), "d/a=two": Lose(0), "d/a=one d/t=two": Lose(1)}},
		{"link", append(slices.Clone(synced), "ln d/a d/b"), map[string]Policy{"d/a=one": Nothing(), "d/a=one d/b=one": Everything()}},
		{"two writes, any of them", append(slices.Clone(synced), "append d/a 22", "append d/a 333"),
			map[string]Policy{"d/a=one": Nothing(), "d/a=one22333": Everything(), "d/a=one22": Lose(1), "d/a=one\x00\x00333": Lose(0), "d/a=one223": Torn(1, 1)}},
		{"tree", append(slices.Clone(synced), "rm d"), map[string]Policy{"d/a=one": Nothing(), "": Everything()}},
		{"directory moved", append(slices.Clone(synced), "mkdir e", "sync /", "mv d e/d", "sync e"), map[string]Policy{"d/a=one": Nothing(), "e/d/a=one": Everything()}},
		{"directory moved, both synced", append(slices.Clone(synced), "mkdir e", "sync /", "mv d e/d", "sync e", "sync /"), map[string]Policy{"e/d/a=one": Nothing()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDisk()
			script(t, d, c.life...)
			alive := list(t, d)
			for want, p := range c.want {
				image := d.Crash(d.Clock().Now(), p)
				if got := list(t, image); got != want {
					t.Errorf("%s leaves %q, want %q", p, got, want)
				}
				if got := list(t, image.Crash(image.Clock().Now(), Nothing())); got != want {
					t.Errorf("%s: a second crash leaves %q, want %q", p, got, want)
				}
			}
			if got := list(t, d); got != alive {
				t.Errorf("the life was changed: %q, was %q", got, alive)
			}
		})
	}
}

// TestCrashPoints: a crash before an operation knows nothing of it and of what came later.
func TestCrashPoints(t *testing.T) {
	d := NewDisk()
	script(t, d, "create a 1", "sync a", "sync /", "append a 2", "sync a", "append a 3")
	want := map[Kind][]string{}
	for _, op := range append(d.Trace(), Op{Index: d.Clock().Now()}) {
		want[op.Kind] = append(want[op.Kind], list(t, d.Crash(op.Index, Nothing()))+"|"+list(t, d.Crash(op.Index, Everything())))
	}
	if got := fmt.Sprint(want[OpSync], want[OpWrite], want[0]); got != "[|a=1 |a=1 a=1|a=12] [|a= a=1|a=1 a=12|a=12] [a=12|a=123]" {
		t.Errorf("%s", got)
	}
	if open := d.Unsynced(d.Clock().Now()); len(open) != 1 || open[0].Kind != OpWrite || open[0].Offset != 2 {
		t.Errorf("unsynced: %v", open)
	}
}

// TestRandom: whatever the seed keeps, what was synced is there, and one seed gives one disk.
func TestRandom(t *testing.T) {
	d := NewDisk()
	script(t, d, "create a "+strings.Repeat("x", 2000), "sync a", "sync /", "append a "+strings.Repeat("y", 2000), "create b "+strings.Repeat("z", 1500), "append b end")
	seen := map[string]bool{}
	for seed := range uint64(200) {
		image := list(t, d.Crash(d.Clock().Now(), Random(seed)))
		if !strings.HasPrefix(image, "a="+strings.Repeat("x", 2000)) {
			t.Fatalf("seed %d: what was synced is gone", seed)
		}
		if again := list(t, d.Crash(d.Clock().Now(), Random(seed))); again != image {
			t.Fatalf("seed %d gives two disks", seed)
		}
		seen[image] = true
	}
	if len(seen) < 50 {
		t.Errorf("200 seeds give only %d disks", len(seen))
	}
}

// TestInOrder: in a directory with a journal a lost name takes the later ones along, elsewhere it does not.
func TestInOrder(t *testing.T) {
	d := NewDisk()
	script(t, d, "mkdir j", "mkdir n", "sync /", "create j/a 1", "create n/a 1", "create j/b 2", "create n/b 2")
	p := Lose(0).InOrder(func(dir string) bool { return dir == "j" })
	if got := list(t, d.Crash(d.Clock().Now(), p)); got != "n/a=1 n/b=2" {
		t.Errorf("%q", got)
	}
	if got := list(t, d.Crash(d.Clock().Now(), Lose(0))); got != "j/b=2 n/a=1 n/b=2" {
		t.Errorf("%q", got)
	}
}

// TestErrors: the errors of a file system are those of the real ones.
func TestErrors(t *testing.T) {
	d := NewDisk()
	script(t, d, "mkdir d", "create d/a 1")
	_, open := d.Open("d/none")
	_, locked := d.Lock("d/lock")
	_, again := d.Lock("d/lock")
	for _, c := range []struct{ got, want error }{
		{open, fs.ErrNotExist}, {d.Link("d/a", "d/a"), fs.ErrExist}, {d.Remove("d"), syscall.ENOTEMPTY}, {d.Remove("x"), fs.ErrNotExist},
		{d.Rename("x", "y"), fs.ErrNotExist}, {d.RemoveAll("x"), nil}, {locked, nil}, {again, syscall.EAGAIN}, {d.MkdirAll("d/a/b", 0o700), syscall.ENOTDIR},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	ro, err := d.Open("d/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ro.Write([]byte("x")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("write to a file open for reading: %v", err)
	}
	if err := errors.Join(ro.Close()); err != nil {
		t.Error(err)
	}
	if err := ro.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("sync of a closed file: %v", err)
	}
}

// TestCapacity: a full disk takes what fits, and what is removed makes room (FAULTS D5).
func TestCapacity(t *testing.T) {
	d := NewDisk()
	script(t, d, "create reserve 12345", "create a 123")
	d.SetCapacity(10)
	f, err := d.OpenReadWrite("a", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.WriteAt([]byte("abcde"), 3); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := f.WriteAt([]byte("ABC"), 0); n != 3 || err != nil {
		t.Errorf("overwrote %d, %v", n, err)
	}
	script(t, d, "rm reserve")
	if n, err := f.WriteAt([]byte("cde"), 5); n != 3 || err != nil {
		t.Errorf("after removal wrote %d, %v", n, err)
	}
	if u, err := d.GetDiskUsage("/"); err != nil || u.AvailBytes != 2 || d.Used() != 8 {
		t.Errorf("usage %+v, %v, used %d", u, err, d.Used())
	}
}

// TestFlip: a flipped bit is there for readers and after crashes, and nothing else is.
func TestFlip(t *testing.T) {
	d := NewDisk()
	script(t, d, "create a abc", "sync a", "sync /", "append a d")
	d.Flip("a", 8)
	for want, disk := range map[string]*Disk{"accd": d, "acc": d.Crash(d.Clock().Now(), Nothing())} {
		if got := read(t, disk, "a"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestOneClock: disks of one clock lose their power at one moment.
func TestOneClock(t *testing.T) {
	clock := &Clock{}
	a, b := NewDiskOn(clock), NewDiskOn(clock)
	script(t, a, "create x 1", "sync x", "sync /")
	middle := clock.Now()
	script(t, b, "create y 2", "sync y", "sync /")
	script(t, a, "append x 3", "sync x")
	for at, want := range map[int]string{middle: "x=1 / ", clock.Now(): "x=13 / y=2"} {
		if got := list(t, a.Crash(at, Nothing())) + " / " + list(t, b.Crash(at, Nothing())); got != want {
			t.Errorf("at %d: %q, want %q", at, got, want)
		}
	}
}

// TestCopy: a copy has the history, and a life of its own.
func TestCopy(t *testing.T) {
	d := NewDisk()
	script(t, d, "create a 1", "sync a", "sync /", "append a 2")
	c := d.Copy()
	script(t, c, "append a 3", "sync a", "create b 4")
	if got := list(t, c.Crash(d.Clock().Now(), Nothing())) + " " + list(t, c) + " " + list(t, d); got != "a=1 a=123 b=4 a=12" {
		t.Errorf("%q", got)
	}
}

// TestLikeMemFS: what is read back is the same as from Pebble's own file system in memory, and Pebble runs on it, also through an FS.
func TestLikeMemFS(t *testing.T) {
	life := []string{"mkdir d/e", "create d/e/f one", "append d/e/f two", "mv d/e/f d/g", "ln d/g d/h", "create d/g new", "rm d/e", "create d/h again"}
	d, mem := NewDisk(), vfs.NewMem()
	script(t, d, life...)
	script(t, mem, life...)
	for _, name := range []string{"d/g", "d/h"} {
		if got, want := read(t, d, name), read(t, mem, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	db, err := pebble.Open("db", &pebble.Options{FS: New(d, 1), Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := db.Set(fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, 100), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}
	db, err = pebble.Open("db", &pebble.Options{FS: d.Crash(d.Clock().Now(), Nothing()), Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	v, c, err := db.Get([]byte("key 999"))
	if err != nil || len(v) != 100 {
		t.Errorf("%q, %v", v, err)
	}
	if err := errors.Join(c.Close(), db.Close()); err != nil {
		t.Error(err)
	}
}

type quiet struct{ *testing.T }

func (quiet) Infof(string, ...any)             {}
func (quiet) Errorf(string, ...any)            {}
func (q quiet) Fatalf(format string, a ...any) { q.T.Errorf(format, a...) }
