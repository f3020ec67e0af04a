package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// TestApplyRefuses holds R7 and N3: a frame of another history, a gap and a malformed record change nothing.
func TestApplyRefuses(t *testing.T) {
	s := openTest(t, Options{})
	c := &chain{t: t}
	one := c.frame(wal.KindEffects, effects(t, s, setKeys(2, 10)))
	if err := s.Apply([]*wal.Frame{one, one}); err != nil {
		t.Fatal(err)
	}
	at := c.end
	two := c.frame(wal.KindEffects, effects(t, s, setKeys(3, 10)))
	three := c.frame(wal.KindMark, []byte("m"))

	other := &chain{t: t}
	otherOne := other.frame(wal.KindEffects, effects(t, s, setKeys(3, 20)))
	otherTwo := other.frame(wal.KindEffects, effects(t, s, setKeys(3, 30)))
	bad := &chain{t: t, end: at}
	straddle := &chain{t: t}
	straddle.add(wal.KindMark, nil)

	for _, tc := range []struct {
		name   string
		frames []*wal.Frame
		want   error
	}{
		{"gap", []*wal.Frame{three}, ErrGap},
		{"same LSN, other hash", []*wal.Frame{otherOne}, ErrDiverged},
		{"next LSN, other hash", []*wal.Frame{otherTwo}, ErrDiverged},
		{"begins below the position", []*wal.Frame{straddle.frame(wal.KindMark, nil, nil)}, ErrDiverged},
		{"malformed", []*wal.Frame{bad.frame(wal.KindEffects, []byte("nonsense"))}, ErrBadEffects},
		{"unknown kind", []*wal.Frame{(&chain{t: t, end: at}).frame(wal.Kind(9), nil)}, ErrVersion},
	} {
		before := digest(t, s)
		if err := s.Apply(tc.frames); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if after := digest(t, s); after != before || s.Applied() != at {
			t.Errorf("%s: state changed from %+v to %+v", tc.name, before, after)
		}
	}
	var se *SequenceError
	if err := s.Apply([]*wal.Frame{three}); !errors.As(err, &se) || se.Applied != at || se.First != 3 {
		t.Errorf("SequenceError = %+v", se)
	}
	// Good frames before a bad one are applied.
	if err := s.Apply([]*wal.Frame{two, otherTwo}); !errors.Is(err, ErrDiverged) || s.Applied() != two.End() {
		t.Errorf("good and bad frame: %v, applied %s, want %s", err, s.Applied(), two.End())
	}
	if err := s.Apply([]*wal.Frame{one, two, three}); err != nil || s.Applied() != c.end {
		t.Errorf("apply again: %v at %s, want %s", err, s.Applied(), c.end)
	}
}

// TestGroupings: the digest depends on the rows alone, not on how frames were grouped, nor on files.
func TestGroupings(t *testing.T) {
	src := openTest(t, Options{})
	q := src.NewSequencer()
	c := &chain{t: t}
	var frames []*wal.Frame
	for i := range 300 {
		x := q.Begin(t0)
		if i%100 == 99 {
			_ = x.Clear()
		}
		_ = x.Set(fmt.Appendf(nil, "k%d", i%70), bytes.Repeat([]byte{byte(i)}, 3000), int64(i%3)*1e15)
		_, _ = x.Delete(fmt.Appendf(nil, "k%d", i%40))
		x.Commit(c.add(wal.KindEffects, x.Effects()))
		if i%3 == 0 {
			frames = append(frames, c.cut())
		}
	}
	frames = append(frames, c.cut())
	var want Digest
	for i, group := range []int{1, 7, len(frames)} {
		s := openTest(t, Options{MemTableBytes: []int64{64 << 10, 4 << 20, 256 << 10}[i]})
		for part := range slices.Chunk(frames, group) {
			if err := s.Apply(part); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d := digest(t, s); i == 0 {
			want = d
		} else if d != want {
			t.Errorf("in groups of %d: %+v, want %+v", group, d, want)
		}
	}
}

// TestLargeRecord: a record beyond half a memtable is kept by Pebble until it is flushed; the next Apply must not write into its
// memory.
func TestLargeRecord(t *testing.T) {
	s := openTest(t, Options{MemTableBytes: 64 << 10})
	c := &chain{t: t}
	for i := range 5 {
		value := bytes.Repeat([]byte{byte('a' + i)}, 200<<10)
		write(t, s, c, func(x *Txn) error { return x.Set(fmt.Appendf(nil, "big%d", i), value, 0) })
		write(t, s, c, func(x *Txn) error { return x.Set([]byte("small"), value[:10], 0) })
	}
	v := s.View(t0)
	defer v.Close()
	for i := range 5 {
		e, ok, err := v.Get(fmt.Appendf(nil, "big%d", i))
		if err != nil || !ok || !bytes.Equal(e.Value, bytes.Repeat([]byte{byte('a' + i)}, 200<<10)) {
			t.Fatalf("big%d: %v %v", i, ok, err)
		}
	}
}

// TestMarks: a mark's snapshot is the state at the end of its frame, though frames behind it were applied in one call.
func TestMarks(t *testing.T) {
	var marks []Mark
	s := openTest(t, Options{OnMark: func(m Mark) { marks = append(marks, m) }})
	c := &chain{t: t}
	one := c.frame(wal.KindEffects, effects(t, s, setKeys(3, 10)))
	c.add(wal.KindMark, []byte("id-1"))
	two := c.frame(wal.KindEffects, effects(t, s, setKeys(1, 20)))
	three := c.frame(wal.KindEffects, effects(t, s, setKeys(2, 30)))
	if err := s.Apply([]*wal.Frame{one, two, three}); err != nil {
		t.Fatal(err)
	}
	if len(marks) != 1 || marks[0].ID != "id-1" || marks[0].Position != two.End() || marks[0].Snapshot.Position() != two.End() {
		t.Fatalf("marks: %+v", marks)
	}
	defer marks[0].Snapshot.Close()
	ref := openTest(t, Options{})
	if err := ref.Apply([]*wal.Frame{one, two}); err != nil {
		t.Fatal(err)
	}
	got, err := marks[0].Snapshot.Digest(context.Background(), 0)
	if want := digest(t, ref); err != nil || got != want {
		t.Fatalf("digest at the mark: %+v, %v, want %+v", got, err, want)
	}
}

func TestDurablyApplied(t *testing.T) {
	s := openTest(t, Options{})
	c := &chain{t: t}
	write(t, s, c, setKeys(3, 10))
	if p, err := s.DurablyApplied(); err != nil || p != (wal.Position{}) {
		t.Fatalf("before flush: %s %v", p, err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if p, err := s.DurablyApplied(); err != nil || p != c.end {
		t.Fatalf("after flush: %s %v, want %s", p, err, c.end)
	}
}

// TestCheckpoint: the copy is a state of its own at the position that was returned, and looking at it leaves nothing behind.
func TestCheckpoint(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testCheckpoint(t, vfs.NewMem(), "") })
	t.Run("disk", func(t *testing.T) { testCheckpoint(t, vfs.Default, t.TempDir()) })
}

func testCheckpoint(t *testing.T, fs vfs.FS, root string) {
	dir, none := fs.PathJoin(root, "copy"), fs.PathJoin(root, "nowhere")
	s := openTest(t, Options{FS: fs, Dir: fs.PathJoin(root, "state")})
	c := &chain{t: t}
	write(t, s, c, setKeys(100, 100))
	want := digest(t, s)
	pos, err := s.Checkpoint(dir)
	if err != nil || pos != c.end {
		t.Fatalf("checkpoint at %s, %v, want %s", pos, err, c.end)
	}
	write(t, s, c, func(x *Txn) error { return x.Clear() })
	rep, err := VerifyDir(context.Background(), fs, dir, nil)
	if err != nil || rep.Digest != want {
		t.Fatalf("verify of the copy: %+v, %v, want %+v", rep, err, want)
	}
	if _, err := fs.Stat(fs.PathJoin(dir, "LOCK")); err == nil {
		t.Error("a lock file was left behind")
	}
	copied := openTest(t, Options{FS: fs, Dir: dir})
	if got := digest(t, copied); got != want {
		t.Fatalf("copy: %+v, want %+v", got, want)
	}
	if _, err := ReadPosition(fs, dir); !errors.Is(err, ErrInUse) {
		t.Errorf("position of an open state: %v, want ErrInUse", err)
	}
	if _, err := ReadPosition(fs, none); !errors.Is(err, ErrNotExist) {
		t.Errorf("position of no state: %v, want ErrNotExist", err)
	}
	if _, err := s.Checkpoint(dir); err == nil {
		t.Error("checkpoint over an existing directory succeeded")
	}
}

func TestClosed(t *testing.T) {
	s := openTest(t, Options{})
	v := s.View(t0)
	_ = v.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Apply(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply: %v", err)
	}
	v = s.View(t0)
	if _, _, err := v.Get([]byte("k")); !errors.Is(err, ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	_ = v.Close()
	if _, err := s.Snapshot(); !errors.Is(err, ErrClosed) {
		t.Errorf("Snapshot: %v", err)
	}
	if err := s.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush: %v", err)
	}
}
