package durable

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A file is there after a power cut once its directories are synced, and not before.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	if err := MakeDir(fs, "a/b"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b/kept", "a/b/lost"} {
		if err := WriteFile(fs, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
		if name == "a/b/kept" {
			if err := SyncDir(fs, "a/b"); err != nil {
				t.Fatal(err)
			}
		}
	}
	after := fs.CrashClone(vfs.CrashCloneCfg{}) // nothing that was not synced
	if b, err := ReadFile(after, "a/b/kept", 8); err != nil || string(b) != "a/b/kept" {
		t.Errorf("a synced file: %q, %v", b, err)
	}
	if _, err := after.Stat("a/b/lost"); err == nil {
		t.Error("a file whose directory was not synced is there: the test tests nothing")
	}
	if _, err := ReadFile(fs, "a/b/kept", 7); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file over the limit: %v", err)
	}
}
