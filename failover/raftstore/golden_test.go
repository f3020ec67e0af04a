package raftstore

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
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
