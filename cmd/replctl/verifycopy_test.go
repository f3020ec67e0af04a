package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/archive"
	"repld/snapshot"
	"repld/wal"
)

// checkpoint puts a checkpoint of the state with its manifest into the group's directory.
func (g *group) checkpoint(name string) (string, snapshot.Manifest) {
	g.t.Helper()
	staging := filepath.Join(g.t.TempDir(), "staging")
	m := snapshot.NewManager(snapshot.ManagerOptions{FS: vfs.Default, Dir: staging, Cluster: "shop", Group: "default", Source: g.store, LogStart: func() wal.LSN { return 0 }})
	defer m.Close()
	s, err := m.Acquire(g.t.Context())
	g.must(err)
	defer s.Release()
	text, err := s.Manifest().Encode()
	g.must(err)
	dir := filepath.Join(g.path, "checkpoints", name)
	g.must(os.MkdirAll(filepath.Dir(dir), 0o700))
	g.must(os.CopyFS(dir, os.DirFS(s.Dir())))
	g.must(os.WriteFile(filepath.Join(dir, snapshot.ManifestName), text, 0o600))
	return dir, s.Manifest()
}

// flips calls check with every n-th byte of a file changed in one bit, and puts it back.
func flips(t *testing.T, path string, size, first, n int, check func(at int) bool) (flipped int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if size < 0 || size > len(text) {
		size = len(text)
	}
	for at := first; at < size; at += n {
		bad := bytes.Clone(text)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if !check(at) {
			t.Errorf("%s: a flipped bit in byte %d of %d is not found", path, at, len(text))
		}
		flipped++
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return flipped
}

// A flipped bit anywhere in a data directory's log, state, epoch file and identity, and in every file of a checkpoint, is found. Sampled; every byte with NIGHTLY=1. (Exhaustive in any
// case: the state in internal/kv, the log in wal, the archive in internal/archive.)
func TestVerifyFindsFlips(t *testing.T) {
	g := sample(t)
	dir, _ := g.checkpoint("one")
	end := 0
	g.close()
	if out, _, code := replctl(t, "verify", g.dir); code != exitOK || !strings.Contains(out, "checkpoints/one manifest") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if out, _, code := replctl(t, "verify", dir); code != exitOK || !strings.Contains(out, "each as its hash says") {
		t.Fatalf("a checkpoint: exit %d\n%s", code, out)
	}
	step := 40
	if os.Getenv("NIGHTLY") != "" {
		step = 1
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 3))
	t.Logf("seed %d", seed)
	damaged := func(int) bool {
		r := verifyGroup(t.Context(), g.path, false)
		return dirCode(dirReport{Groups: []groupReport{r}}) == exitDifference
	}
	logs, err := filepath.Glob(filepath.Join(g.path, "wal", "*.seg"))
	g.must(err)
	text, err := os.ReadFile(logs[0])
	g.must(err)
	end = bytes.LastIndexFunc(text, func(r rune) bool { return r != 0 }) + 1 // zeros behind it are room, not log
	n := flips(t, logs[0], end, rnd.IntN(step), step, damaged)
	text, err = os.ReadFile(filepath.Join(g.path, "epoch"))
	g.must(err)
	slot := len(bytes.TrimRight(text[:len(text)/2], "\x00")) // the rest of a slot is room
	n += flips(t, filepath.Join(g.path, "epoch"), slot, rnd.IntN(slot), step, damaged)
	for _, pattern := range []string{"*.sst", "MANIFEST-*"} {
		files, err := filepath.Glob(filepath.Join(g.path, "state", pattern))
		g.must(err)
		for _, f := range files {
			n += flips(t, f, -1, rnd.IntN(step), step, damaged)
		}
	}
	if n < 40 {
		t.Fatalf("only %d bytes were flipped", n)
	}
	// A checkpoint has a hash of every file, so every byte of every file counts.
	files, err := os.ReadDir(dir)
	g.must(err)
	for _, f := range files {
		flips(t, filepath.Join(dir, f.Name()), -1, rnd.IntN(step), step, func(int) bool {
			var c groupReport
			verifyStateCopy(t.Context(), &c, dir)
			return dirCode(dirReport{Groups: []groupReport{c}}) == exitDifference
		})
	}
	if out, _, code := replctl(t, "verify", g.dir); code != exitOK {
		t.Fatalf("the test spoiled the directory: exit %d\n%s", code, out)
	}
}

func TestVerifyArchiveAndState(t *testing.T) {
	g := sample(t)
	dir, m := g.checkpoint("one")
	g.close()
	folder := t.TempDir()
	ar, err := archive.Open(t.Context(), archive.Options{URL: "file://" + folder, Cluster: "shop", Create: true})
	g.must(err)
	src := archive.Source{FS: vfs.Default, Dir: dir, Node: "a", Position: m.Position, Digest: 7}
	for _, f := range m.Files {
		src.Files = append(src.Files, archive.File{Name: f.Name, Size: f.Size, Hash: f.Hash})
	}
	if _, err := ar.Create(t.Context(), src, nil); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{folder, "file://" + folder} {
		if out, _, code := replctl(t, "verify", what); code != exitOK || !strings.Contains(out, "shop/default") || !strings.Contains(out, "1 backups") {
			t.Fatalf("%s: exit %d\n%s", what, code, out)
		}
	}
	objects, err := filepath.Glob(filepath.Join(folder, "shop", "default", "objects", "*", "*"))
	g.must(err)
	flips(t, objects[0], 1, 0, 1, func(int) bool {
		out, _, code := replctl(t, "verify", folder)
		return code == exitDifference && strings.Contains(out, verdictDamaged)
	})
	if _, _, code := replctl(t, "verify", "file://"+folder+"/nothing"); code != exitError {
		t.Fatalf("no archive: exit %d", code)
	}
	if _, err := os.Stat(folder + "/nothing"); err == nil {
		t.Fatal("verifying made a folder")
	}
	// A bare state says what was not looked at.
	if out, _, code := replctl(t, "verify", filepath.Join(g.path, "state")); code != exitOK || !strings.Contains(out, "not part of it") {
		t.Fatalf("exit %d\n%s", code, out)
	}
}
