package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
	"repld/snapshot"
	"repld/wal"
)

// history writes records of one SET each into a store.
type history struct {
	t   *testing.T
	s   *kv.Store
	q   *kv.Sequencer
	end wal.Position
}

func (h *history) write(n int) []*wal.Frame {
	h.t.Helper()
	var frames []*wal.Frame
	for range n {
		x := h.q.Begin(time.UnixMilli(1))
		lsn := h.end.LSN + 1
		if err := x.Set(fmt.Appendf(nil, "key-%d", lsn%500), make([]byte, 200), 0); err != nil {
			h.t.Fatal(err)
		}
		f, err := wal.EncodeFrame(h.end, wal.FrameOptions{Epoch: 1}, []wal.Record{{LSN: lsn, Kind: wal.KindEffects, Payload: x.Effects()}})
		if err != nil {
			h.t.Fatal(err)
		}
		x.Commit(lsn)
		h.end = f.End()
		frames = append(frames, f)
	}
	if err := h.s.Apply(frames); err != nil {
		h.t.Fatal(err)
	}
	h.q.Applied(h.end.LSN)
	return frames
}

func openState(t *testing.T, fs vfs.FS, dir string) *kv.Store {
	t.Helper()
	s, err := kv.Open(kv.Options{FS: fs, Dir: dir, MemTableBytes: 64 << 10, OnFatal: func(err error) { t.Errorf("OnFatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func stateDigest(t *testing.T, s *kv.Store) kv.Digest {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	d, err := sn.Digest(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// transfer copies at most limit files and reports whether all are there.
func transfer(t *testing.T, s *snapshot.Snapshot, r *snapshot.Receiver, limit int) (had int, done bool) {
	t.Helper()
	b, err := s.Manifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	have, err := r.Begin(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		if _, ok := have[f.Name]; ok {
			continue
		}
		if limit--; limit < 0 {
			return len(have), false
		}
		if err := copyFile(s, r, f.Name); err != nil {
			t.Fatal(err)
		}
	}
	return len(have), true
}

func copyFile(s *snapshot.Snapshot, r *snapshot.Receiver, name string) error {
	in, err := s.Open(name)
	if err != nil {
		return err
	}
	out, err := r.File(name)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), in.Close())
}

// TestTransfer seeds a blank node with a state: it resumes by file after a break, in a newer snapshot, and continues from
// the snapshot's position to the sender's state, while the sender goes on writing (R11, R15).
func TestTransfer(t *testing.T) {
	fs, target := vfs.NewMem(), vfs.NewMem()
	src := openState(t, fs, "g/state")
	h := &history{t: t, s: src, q: src.NewSequencer()}
	h.write(2000)
	m := snapshot.NewManager(snapshot.ManagerOptions{
		FS: fs, Dir: "g/staging", Cluster: "c", Group: "g", Source: src, Fresh: time.Nanosecond,
	})
	defer m.Close()
	first := acquire(t, m)
	if _, done := transfer(t, first, snapshot.NewReceiver(target, "g/incoming"), 2); done {
		t.Fatal("two files were all; the test needs more")
	}
	h.write(500)
	first.Release()

	second := acquire(t, m)
	defer second.Release()
	pos := second.Manifest().Position
	r := snapshot.NewReceiver(target, "g/incoming")
	had, done := transfer(t, second, r, 1000)
	if !done || had == 0 {
		t.Fatalf("resumed with %d files, done %v", had, done)
	}
	frames := h.write(1000) // compactions and flushes meanwhile
	if err := r.Complete("g/state.new"); err != nil {
		t.Fatal(err)
	}
	man, err := snapshot.ReadManifest(target, "g/state.new")
	if err != nil || man.Position != pos || pos.LSN != 2500 {
		t.Fatalf("installed at %s, %v, want %s", man.Position, err, pos)
	}
	if at, err := kv.ReadPosition(target, "g/state.new"); err != nil || at != pos {
		t.Fatalf("state at %s, %v, want %s", at, err, pos)
	}
	if err := target.Rename("g/state.new", "g/state"); err != nil {
		t.Fatal(err)
	}
	dst := openState(t, target, "g/state")
	if err := dst.Apply(frames); err != nil {
		t.Fatal(err)
	}
	if a, b := stateDigest(t, src), stateDigest(t, dst); a != b {
		t.Fatalf("digests differ: %+v and %+v", a, b)
	}
}

func acquire(t *testing.T, m *snapshot.Manager) *snapshot.Snapshot {
	t.Helper()
	s, err := m.Acquire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
