package lossyfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func mounted(t *testing.T) *FS {
	t.Helper()
	if why := Available(); why != "" {
		t.Skip(why)
	}
	dir := t.TempDir()
	f, err := New(filepath.Join(dir, "below"), filepath.Join(dir, "mnt"))
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What was synced is on the disk, what was not is read back and is not on the disk, and a cut takes it away.
func TestCut(t *testing.T) {
	f := mounted(t)
	synced, lost, kept := bytes.Repeat([]byte("s"), 5000), bytes.Repeat([]byte("l"), 700), 0
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		name := filepath.Join(f.Mount, "file")
		x, err := os.Create(name)
		must(t, err)
		_, err = x.WriteAt(synced, 0)
		must(t, err)
		must(t, x.Sync())
		_, err = x.WriteAt(lost, 4500)
		must(t, err)
		seen, err := os.ReadFile(name)
		must(t, err)
		if want := append(bytes.Repeat([]byte("s"), 4500), lost...); !bytes.Equal(seen, want) {
			t.Fatalf("reads %d bytes, not what was written", len(seen))
		}
		if i, err := os.Stat(name); err != nil || i.Size() != 5200 {
			t.Fatalf("size %v, %v", i, err)
		}
		must(t, x.Close())
		must(t, f.Cut(rnd))
		left, err := os.ReadFile(name)
		must(t, err)
		if len(left) < 5000 || !bytes.Equal(left[:4500], synced[:4500]) {
			t.Fatalf("%d bytes are left, of 5000 that were synced", len(left))
		}
		if len(left) > 5000 || left[4500] == 'l' {
			kept++
		}
	}
	if s := f.Stats(); kept == 0 || kept == 20 || s.Lost == 0 || s.Kept < kept {
		t.Errorf("%d of 20 cuts kept a write; %+v", kept, s)
	}
}

// A sync that fails has dropped what it was to make durable; the next one succeeds and does not bring it back (D4).
func TestFailSync(t *testing.T) {
	f := mounted(t)
	x, err := os.Create(filepath.Join(f.Mount, "file"))
	must(t, err)
	defer x.Close()
	f.FailSync("another")
	_, err = x.WriteString("one")
	must(t, err)
	must(t, x.Sync())
	f.FailSync("file")
	_, err = x.WriteString("two")
	must(t, err)
	if err := x.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	must(t, x.Sync())
	below, err := os.ReadFile(filepath.Join(f.Below, "file"))
	must(t, err)
	if string(below) != "one" {
		t.Fatalf("on the disk: %q", below)
	}
}

// Renamed, truncated and removed files are what they would be on any file system.
func TestNames(t *testing.T) {
	f := mounted(t)
	a, b := filepath.Join(f.Mount, "a"), filepath.Join(f.Mount, "b")
	must(t, os.WriteFile(a, []byte("not synced"), 0o600))
	must(t, os.Rename(a, b))
	must(t, os.Truncate(b, 3))
	if text, err := os.ReadFile(b); err != nil || string(text) != "not" {
		t.Fatalf("%q, %v", text, err)
	}
	must(t, os.Remove(b))
	must(t, os.WriteFile(b, []byte("new"), 0o600)) // perhaps with the inode number of the old one
	if text, err := os.ReadFile(b); err != nil || string(text) != "new" {
		t.Fatalf("%q, %v", text, err)
	}
}
