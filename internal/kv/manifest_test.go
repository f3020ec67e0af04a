package kv

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// TestManifestFlip holds N3 and D10 for Pebble's MANIFEST: a flipped bit may cost files, but never leaves a state that was not the
// state at its applied position; the log, or a gap in it, tells the rest.
// Faults: D10 (bits of the MANIFEST flipped)
func TestManifestFlip(t *testing.T) {
	base := vfs.NewMem()
	s := openTest(t, Options{FS: base})
	c := &chain{t: t}
	history := map[wal.Position]map[string]mval{{}: {}}
	for i := range 8 {
		write(t, s, c, func(x *Txn) error {
			mustSet(t, x, fmt.Sprint("key", i%3), fmt.Sprint(i), 0)
			return nil
		})
		v := s.View(t0)
		history[c.end] = content(t, v)
		_ = v.Close()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := base.List("state")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	for _, n := range names {
		if !strings.HasPrefix(n, "MANIFEST") {
			continue
		}
		info, err := base.Stat("state/" + n)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < info.Size(); at += max(1, info.Size()/300) {
			fs := vfs.NewMem()
			if _, err := vfs.Clone(base, fs, "state", "state"); err != nil {
				t.Fatal(err)
			}
			flip(t, fs, "state/"+n, at)
			s, err := Open(Options{FS: fs, Dir: "state"})
			if err != nil {
				outcomes["refused"]++
				if !errors.Is(err, ErrCorrupt) {
					outcomes["refused without ErrCorrupt: "+err.Error()]++
				}
				continue
			}
			v := s.View(t0)
			if want, ok := history[s.Applied()]; !ok || !maps.Equal(content(t, v), want) {
				t.Errorf("%s flipped at %d: state at %s is %v, want %v", n, at, s.Applied(), content(t, v), want)
			}
			outcomes[fmt.Sprint("opened at ", s.Applied().LSN)]++
			_ = v.Close()
			_ = s.Close()
		}
	}
	t.Log(outcomes)
}
