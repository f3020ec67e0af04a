package snapshot

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/wal"
)

// parts is the content of a snapshot.
type parts map[string]string

func (p parts) manifest(id string) Manifest {
	m := sample()
	m.ID, m.Files = id, nil
	for _, name := range slices.Sorted(maps.Keys(p)) {
		m.Files = append(m.Files, File{name, int64(len(p[name])), wal.Hash(xxhash.Sum64String(p[name]))})
	}
	return m
}

func begin(t *testing.T, fs vfs.FS, m Manifest) (*Receiver, map[string]int64) {
	t.Helper()
	r := NewReceiver(fs, "g/incoming")
	have, err := r.Begin(m)
	if err != nil {
		t.Fatal(err)
	}
	return r, have
}

func send(r *Receiver, name, content string) error {
	w, err := r.File(name)
	if err != nil {
		return err
	}
	for len(content) > 0 {
		n := min(3, len(content))
		if _, err := w.Write([]byte(content[:n])); err != nil {
			return errors.Join(err, w.Close())
		}
		content = content[n:]
	}
	return w.Close()
}

func sendAll(t *testing.T, r *Receiver, p parts, have map[string]int64) {
	t.Helper()
	for name, content := range p {
		if _, ok := have[name]; ok {
			continue
		}
		if err := send(r, name, content); err != nil {
			t.Fatal(err)
		}
	}
}

var abc = parts{"a": "first file", "b": "", "c.sst": "third"}

// TestReceive: a transfer resumes by file, in the same snapshot and in a later one, and damaged content is not kept.
func TestReceive(t *testing.T) {
	fs := vfs.NewMem()
	r, have := begin(t, fs, abc.manifest("one"))
	if len(have) != 0 {
		t.Fatalf("have %v in an empty directory", have)
	}
	if err := send(r, "a", abc["a"]); err != nil {
		t.Fatal(err)
	}
	if err := send(r, "c.sst", "thirt"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("wrong content: %v, want ErrCorrupt", err)
	}
	if err := send(r, "c.sst", "thi"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short content: %v, want ErrCorrupt", err)
	}
	if err := send(r, "c.sst", "third and more"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("long content: %v, want ErrCorrupt", err)
	}
	if err := send(r, "../evil", "x"); !errors.Is(err, ErrUnknownFile) {
		t.Errorf("unknown file: %v, want ErrUnknownFile", err)
	}
	if err := r.Complete("g/state.new"); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Complete without all files: %v, want ErrIncomplete", err)
	}
	if w, err := r.File("b"); err != nil { // left open by a crash
		t.Fatal(err)
	} else if _, err = w.Write(nil); err != nil {
		t.Fatal(err)
	}

	later := maps.Clone(abc)
	later["c.sst"], later["d"] = "changed", "new"
	r, have = begin(t, fs, later.manifest("two"))
	if want := map[string]int64{"a": 10}; !maps.Equal(have, want) {
		t.Fatalf("have %v, want %v", have, want)
	}
	sendAll(t, r, later, have)
	if err := r.Complete("g/state.new"); err != nil {
		t.Fatal(err)
	}
	if err := r.Complete("g/state.new"); !errors.Is(err, ErrClosed) {
		t.Errorf("second Complete: %v", err)
	}
	checkTarget(t, fs, later)
	if names, err := fs.List("g"); err != nil || !slices.Equal(names, []string{"state.new"}) {
		t.Errorf("left in the parent: %v %v", names, err)
	}
}

func checkTarget(t *testing.T, fs vfs.FS, p parts) {
	t.Helper()
	m, err := ReadManifest(fs, "g/state.new")
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(fs, "g/state.new", m); err != nil {
		t.Fatal(err)
	}
	if want := p.manifest(m.ID); !slices.Equal(m.Files, want.Files) {
		t.Fatalf("target holds %v, want %v", m.Files, want.Files)
	}
}

func overwrite(t *testing.T, fs vfs.FS, name, content string) {
	t.Helper()
	if err := durable.WriteFile(fs, name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

// TestCompleteReadsBack: what reached the disk counts, not what was received.
func TestCompleteReadsBack(t *testing.T) {
	fs := vfs.NewMem()
	m := abc.manifest("one")
	r, have := begin(t, fs, m)
	sendAll(t, r, abc, have)
	overwrite(t, fs, "g/incoming/a", "First file")
	if err := r.Complete("g/state.new"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damaged on disk: %v, want ErrCorrupt", err)
	}
	r, have = begin(t, fs, m)
	if _, ok := have["a"]; ok || len(have) != 2 {
		t.Fatalf("have %v", have)
	}
	sendAll(t, r, abc, have)
	overwrite(t, fs, "g/incoming/stranger", "x")
	if err := r.Complete("g/state.new"); !errors.Is(err, ErrUnknownFile) {
		t.Fatalf("stranger: %v, want ErrUnknownFile", err)
	}
	if _, err := fs.Stat("g/state.new"); !isNotExist(err) {
		t.Fatalf("target after refusals: %v", err)
	}
	r, have = begin(t, fs, m)
	if len(have) != 3 {
		t.Fatalf("have %v", have)
	}
	if err := r.Complete("g/state.new"); err != nil {
		t.Fatal(err)
	}
	checkTarget(t, fs, abc)
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		fn   func(t *testing.T, fs vfs.FS)
		want error
	}{
		{"extra", func(t *testing.T, fs vfs.FS) { overwrite(t, fs, "d/x", "") }, ErrUnknownFile},
		{"missing", func(t *testing.T, fs vfs.FS) { _ = fs.Remove("d/b") }, ErrIncomplete},
		{"damaged", func(t *testing.T, fs vfs.FS) { overwrite(t, fs, "d/a", "first filE") }, ErrCorrupt},
		{"longer", func(t *testing.T, fs vfs.FS) { overwrite(t, fs, "d/b", "x") }, ErrCorrupt},
		{"none", func(*testing.T, vfs.FS) {}, nil},
	} {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("d", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range abc {
			overwrite(t, fs, "d/"+name, content)
		}
		tc.fn(t, fs)
		if err := Check(fs, "d", abc.manifest("x")); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// TestInstallCrash holds D22: wherever the power fails, the target is absent, or the old snapshot whole, or the new one whole; and the
// transfer can be resumed.
// Faults: D22 (a power cut at each operation of an install)
func TestInstallCrash(t *testing.T) {
	old := parts{"a": "old", "z": "gone in the new one"}
	for seed := range uint64(40) {
		fs := vfs.NewCrashableMem()
		rng := rand.New(rand.NewPCG(seed, 1))
		if err := fs.MkdirAll("g", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(durable.SyncDir(fs, ""), durable.SyncDir(fs, "g")); err != nil {
			t.Fatal(err)
		}
		if seed%2 == 0 {
			r, have := begin(t, fs, old.manifest("old"))
			sendAll(t, r, old, have)
			if err := r.Complete("g/state.new"); err != nil {
				t.Fatal(err)
			}
		}
		crash := &crashingFS{FS: fs, mem: fs, rng: rng, at: int(seed)}
		r := NewReceiver(crash, "g/incoming")
		if have, err := r.Begin(abc.manifest("new")); err != nil {
			t.Fatal(err)
		} else {
			sendAll(t, r, abc, have)
		}
		if err := r.Complete("g/state.new"); err != nil {
			t.Fatal(err)
		}
		for i, clone := range append(crash.clones, fs.CrashClone(vfs.CrashCloneCfg{})) {
			m, err := ReadManifest(clone, "g/state.new")
			if isNotExist(err) {
				if _, err := clone.Stat("g/state.new"); !isNotExist(err) {
					t.Fatalf("seed %d, crash %d: target without manifest: %v", seed, i, err)
				}
			} else if err == nil {
				err = Check(clone, "g/state.new", m)
				if err != nil {
					t.Fatalf("seed %d, crash %d: %v", seed, i, err)
				}
			} else {
				t.Fatalf("seed %d, crash %d: %v", seed, i, err)
			}
			r, have := begin(t, clone, abc.manifest("again"))
			sendAll(t, r, abc, have)
			if err := r.Complete("g/state.new"); err != nil {
				t.Fatalf("seed %d, crash %d: resume: %v", seed, i, err)
			}
			checkTarget(t, clone, abc)
		}
	}
}

// crashingFS takes what a power cut would leave before each change of a name and each removal.
type crashingFS struct {
	vfs.FS
	mem    *vfs.MemFS
	rng    *rand.Rand
	at     int
	clones []*vfs.MemFS
}

func (c *crashingFS) clone() {
	c.clones = append(c.clones, c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rng.IntN(101), RNG: c.rng}))
}

func (c *crashingFS) Rename(oldname, newname string) error {
	c.clone()
	defer c.clone()
	return c.FS.Rename(oldname, newname)
}

func (c *crashingFS) RemoveAll(name string) error {
	c.clone()
	defer c.clone()
	return c.FS.RemoveAll(name)
}

func (c *crashingFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	c.clone()
	return c.FS.Create(name, cat)
}
