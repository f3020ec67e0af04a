package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"repld/internal/kv"
	"repld/snapshot"
	"repld/wal"
)

// ringOf opens the ring of a state.
func ringOf(t *testing.T, fs vfs.FS, s snapshot.Source, change func(o *snapshot.RingOptions)) *snapshot.Ring {
	t.Helper()
	o := snapshot.RingOptions{FS: fs, Dir: "ring", Live: "state", Cluster: "c", Group: "g", Source: s, Digest: func(ctx context.Context, dir string) (wal.Hash, int64, error) {
		d, keys, err := kv.DigestDir(ctx, fs, dir, 0)
		return d.Hash, keys, err
	}}
	if change != nil {
		change(&o)
	}
	r, err := snapshot.OpenRing(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func take(t *testing.T, r *snapshot.Ring) snapshot.Checkpoint {
	t.Helper()
	c, err := r.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func lsns(r *snapshot.Ring) (out []wal.LSN) {
	for _, c := range r.List() {
		out = append(out, c.Position.LSN)
	}
	return out
}

// TestRing: the newest few are kept, each with the digest of the state at its position, across a restart; a fork is a state of its own.
func TestRing(t *testing.T) {
	fs := vfs.NewMem()
	s := openState(t, fs, "state")
	h := &history{t: t, s: s, q: s.NewSequencer()}
	r := ringOf(t, fs, s, nil)
	want := map[wal.LSN]wal.Hash{}
	for range 5 {
		h.write(100)
		c := take(t, r)
		want[c.Position.LSN] = stateDigest(t, s).Hash
		if c.Digest != want[c.Position.LSN] || c.Keys == 0 || c.Position != h.end || c.Cluster != "c" {
			t.Fatalf("checkpoint %+v, want digest %s at %s", c.Manifest, want[c.Position.LSN], h.end)
		}
	}
	if got := fmt.Sprint(lsns(r)); got != "[500 400 300]" {
		t.Fatalf("kept %s", got)
	}
	if again := take(t, r); again.ID != r.List()[0].ID || len(r.List()) != 3 {
		t.Errorf("nothing was written, and another checkpoint was made: %v", lsns(r))
	}
	h.write(10)
	r = ringOf(t, fs, s, nil)
	if got := fmt.Sprint(lsns(r)); got != "[500 400 300]" {
		t.Fatalf("after a restart %s", got)
	}
	held, ok := r.Acquire(func(m snapshot.Manifest) bool { return m.Position.LSN <= 450 })
	if !ok || held.Manifest().Position.LSN != 400 {
		t.Fatal("no checkpoint at or below 450")
	}
	if err := errors.Join(held.Check(t.Context()), held.Fork("fork")); err != nil {
		t.Fatal(err)
	}
	r.Clear()
	if err := held.Check(t.Context()); err != nil {
		t.Errorf("a checkpoint in use was removed: %v", err)
	}
	held.Release()
	if names, _ := fs.List("ring"); len(names) != 0 || len(r.List()) != 0 {
		t.Errorf("left after Clear: %v", names)
	}
	fork := openState(t, fs, "fork")
	if d := stateDigest(t, fork); d.Position.LSN != 400 || d.Hash != want[400] {
		t.Errorf("fork %+v, want %s", d, want[400])
	}
	(&history{t: t, s: fork, q: fork.NewSequencer(), end: d400(t, fork)}).write(50) // it is written to, and the state stays
	if d := stateDigest(t, s); d.Position.LSN != 510 {
		t.Errorf("state %+v", d)
	}
}

func d400(t *testing.T, s *kv.Store) wal.Position { return stateDigest(t, s).Position }

// TestRingBounds: age and bytes; the space that is counted is what the state does not use itself.
func TestRingBounds(t *testing.T) {
	fs := vfs.NewMem()
	s := openState(t, fs, "state")
	h := &history{t: t, s: s, q: s.NewSequencer()}
	r := ringOf(t, fs, s, func(o *snapshot.RingOptions) { o.Age = time.Hour })
	h.write(500)
	first := take(t, r)
	small, err := r.Extra()
	compacted := small == first.Bytes() // Pebble may do so at any time
	if err != nil || small > first.Bytes() {
		t.Fatalf("a checkpoint of the present state takes %d of its %d bytes: %v", small, first.Bytes(), err)
	}
	for range 20 {
		h.write(500)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	second := take(t, r)
	if extra, err := r.Extra(); err != nil || extra < small || extra == small && !compacted {
		t.Fatalf("after the state was rewritten its checkpoints take %d bytes, before %d: %v", extra, small, err)
	}
	r.Trim(time.Now().Add(2 * time.Hour))
	if got := r.List(); len(got) != 1 || got[0].ID != second.ID {
		t.Fatalf("of two that are too old the newest stays: %v", lsns(r))
	}
	r.Forget(second.Position.LSN - 1)
	if len(r.List()) != 0 {
		t.Fatal("a checkpoint of a history that is given up stays")
	}
	r = ringOf(t, fs, s, func(o *snapshot.RingOptions) { o.Bytes = 1 })
	h.write(1)
	if _, err := r.Take(t.Context()); !errors.Is(err, snapshot.ErrClosed) || len(r.List()) != 0 {
		t.Fatalf("checkpoints of more than their budget: %v, %v", lsns(r), err)
	}
}

// TestRingDamage: every flipped byte of a checkpoint is found, in its manifest when it is opened, in its files when they are checked.
func TestRingDamage(t *testing.T) {
	fs := vfs.NewMem()
	s := openState(t, fs, "state")
	h := &history{t: t, s: s, q: s.NewSequencer()}
	h.write(20)
	c := take(t, ringOf(t, fs, s, nil))
	names, err := fs.List(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	flips := 0
	for _, name := range names {
		if strings.HasPrefix(name, "LOCK") {
			continue
		}
		path := fs.PathJoin(c.Dir, name)
		whole := readAll(t, fs, path)
		for i := range whole {
			flips++
			bad := append([]byte(nil), whole...)
			bad[i] ^= 1 << (i % 8)
			writeAll(t, fs, path, bad)
			if name == snapshot.ManifestName {
				if _, err := snapshot.ReadManifest(fs, c.Dir); !errors.Is(err, snapshot.ErrManifest) {
					t.Fatalf("byte %d of the manifest: %v", i, err)
				}
				continue
			}
			if err := snapshot.Check(fs, c.Dir, c.Manifest); !errors.Is(err, snapshot.ErrCorrupt) {
				t.Fatalf("byte %d of %s: %v", i, name, err)
			}
		}
		writeAll(t, fs, path, whole)
	}
	t.Logf("%d flips in %d files", flips, len(names))
	path := fs.PathJoin(c.Dir, snapshot.ManifestName)
	writeAll(t, fs, path, readAll(t, fs, path)[1:])
	if r := ringOf(t, fs, s, nil); len(r.List()) != 0 {
		t.Error("a checkpoint without a sound manifest is kept")
	}
}

func readAll(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	info, err := fs.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

func writeAll(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRingCrash cuts the power before every operation of making one checkpoint and dropping another: what the ring has afterwards is whole, and nothing else is left.
func TestRingCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var clones []*vfs.MemFS
	on := false
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && (strings.HasPrefix(op.Path, "ring") || op.Path == "") {
			clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{}))
		}
		return nil
	}))
	s := openState(t, fs, "state")
	h := &history{t: t, s: s, q: s.NewSequencer()}
	r := ringOf(t, fs, s, func(o *snapshot.RingOptions) { o.Count = 2 })
	for _, d := range []string{"ring", "."} {
		dir, err := fs.OpenDir(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		h.write(20)
		take(t, r)
	}
	h.write(20)
	on = true
	take(t, r)
	on = false
	if len(clones) < 10 {
		t.Fatalf("only %d operations were seen", len(clones))
	}
	seen := map[string]bool{}
	for i, c := range clones {
		r := ringOf(t, c, s, nil)
		got := fmt.Sprint(lsns(r))
		seen[got] = true
		switch got {
		case "[40 20]", "[60 40 20]", "[60 40]":
		default:
			t.Errorf("cut before operation %d: %s", i, got)
		}
		names, err := c.List("ring")
		if err != nil || len(names) != len(r.List()) {
			t.Errorf("cut before operation %d: left %v for %s: %v", i, names, got, err)
		}
		for _, cp := range r.List() {
			if err := snapshot.Check(c, cp.Dir, cp.Manifest); err != nil {
				t.Errorf("cut before operation %d: %v", i, err)
			}
			if d, _, err := kv.DigestDir(t.Context(), c, cp.Dir, 0); err != nil || d.Position != cp.Position || (cp.Digest != 0 && d.Hash != cp.Digest) {
				t.Errorf("cut before operation %d: digest %+v of %+v: %v", i, d, cp.Manifest, err)
			}
		}
	}
	if len(seen) < 2 {
		t.Errorf("the cuts saw only %v", seen)
	}
}
