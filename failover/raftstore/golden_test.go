package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
)

var writeGolden = flag.Bool("write", false, "make the golden journals anew; only for a version that adds some")

// golden is where test/golden keeps the journals of version 1.0: what a voter has written that lived `life`.
const golden = "../../test/golden/1.0/raft"

func journalIn(t *testing.T, dir string) *journal {
	t.Helper()
	o := Options{FS: vfs.Default, Dir: dir, Node: "a", Voters: []string{"a"}, MaxJournal: 2000}
	o.EnsureDefaults()
	j, err := openJournal(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// text is a journal's state but for its id, which is drawn.
func text(t *testing.T, j *journal) (s string) {
	t.Helper()
	j.view(func(st *state) {
		b, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		s = string(b)
	})
	return s
}

// TestGoldenJournals: the journals of version 1.0 are opened, and hold what was done then.
func TestGoldenJournals(t *testing.T) {
	if *writeGolden {
		if err := os.Mkdir(golden, 0o755); err != nil {
			t.Fatal(err)
		}
		j := journalIn(t, golden)
		for _, c := range life() {
			if err := j.do(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden+"/../raft.json", []byte(text(t, j)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	j := journalIn(t, dir)
	defer j.close()
	want, err := os.ReadFile(golden + "/../raft.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, j) + "\n"; got != string(want) {
		t.Fatalf("the journals hold\n%s, want\n%s", got, want)
	}
}

// A journal of a newer version is refused by name; nothing is cut from it, and it is not taken for damage that the other journal mends.
func TestNewerJournalIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	kept := map[string][]byte{}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[3]++
		n := binary.LittleEndian.Uint32(b[4:])
		binary.LittleEndian.PutUint64(b[16:], recordHash(0, b[:recordHeader+int(n)]))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		kept[path] = b
	}
	o := Options{FS: vfs.Default, Dir: dir, Node: "a", Voters: []string{"a"}}
	o.EnsureDefaults()
	j, err := openJournal(o)
	if err == nil {
		_ = j.close()
	}
	if !errors.Is(err, failover.ErrVersion) || !strings.Contains(err.Error(), "RPJ2") {
		t.Fatalf("a newer journal: %v", err)
	}
	for path, want := range kept {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s was changed: %v", path, err)
		}
	}
}
