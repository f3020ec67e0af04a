package snapshot

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
)

// kept makes a directory as Complete leaves it: files, and the manifest beside them.
func kept(t *testing.T, fs vfs.FS, p parts) (names []string) {
	t.Helper()
	r, have := begin(t, fs, p.manifest("x"))
	for name, content := range p {
		if _, ok := have[name]; !ok {
			w, err := r.File(name)
			if err == nil {
				_, err = w.Write([]byte(content))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		names = append(names, name)
	}
	if err := r.Complete("g/state.new"); err != nil {
		t.Fatal(err)
	}
	return append(names, ManifestName)
}

// sound reads a directory back: its manifest, then every file that it names.
func sound(fs vfs.FS) error {
	m, err := ReadManifest(fs, "g/state.new")
	if err != nil {
		return err
	}
	return Check(fs, "g/state.new", m)
}

// A single flipped byte in any file of a checkpoint, the manifest among them, is found: every byte of a small one, a sample of a large one.
func TestEveryFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	large := parts{}
	for _, name := range []string{"000001.sst", "000002.sst", "MANIFEST-000003", "OPTIONS-000004"} {
		large[name] = strings.Repeat(name+" and what is in it; ", 8000)
	}
	for what, p := range map[string]parts{"small": abc, "large": large} {
		fs := vfs.NewMem()
		names := kept(t, fs, p)
		if err := sound(fs); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := "g/state.new/" + name
			whole, err := durable.ReadFile(fs, path, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			try := func(at int) {
				b := append([]byte(nil), whole...)
				b[at] ^= 1 << (at % 8)
				if err := durable.WriteFile(fs, path, b); err != nil {
					t.Fatal(err)
				}
				if sound(fs) == nil {
					t.Errorf("%s, seed %d: a flipped bit in byte %d of %s is not found", what, seed, at, name)
				}
			}
			if what == "small" {
				for at := range whole {
					try(at)
				}
			} else {
				for range 20 {
					try(rnd.IntN(len(whole)))
				}
			}
			if err := durable.WriteFile(fs, path, append([]byte(nil), whole...)); err != nil {
				t.Fatal(err)
			}
		}
		if err := sound(fs); err != nil {
			t.Fatalf("the test spoiled the directory: %v", err)
		}
	}
}
