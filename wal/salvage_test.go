package wal

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSalvage: a log with damage in the middle is cut there, its files saved, and completed by a peer: same LSNs, same hashes
// (R8, R9; D8).
// Faults: D8 (a bit flipped in the middle)
func TestSalvage(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	l, _ := testOpen(t, o)
	appendChain(t, l, 60, 900)
	want := readAll(t, l, 0)
	damaged := l.Segments()[1]
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, mem, damaged.Path, 3000)
	before := readRaw(t, mem, damaged.Path)
	_, _, err := Open(o)
	var e *CorruptError
	if !errors.As(err, &e) {
		t.Fatalf("damage not found: %v", err)
	}
	var saved string
	for range 2 { // as after a crash
		if saved, err = Salvage(o, e, "diverged"); err != nil {
			t.Fatal(err)
		}
	}
	if got := readRaw(t, mem, mem.PathJoin(saved, segmentName(damaged.Seq))); string(got) != string(before) {
		t.Fatal("the damaged segment was not saved as it was")
	}
	l, rec := testOpen(t, o)
	if rec.End != e.Good || !rec.Doubt || rec.Cut == nil || rec.Redone != intentCut {
		t.Fatalf("%+v", rec)
	}
	mustAppend(t, l, want[e.Good.LSN:]...)
	sameFrames(t, readAll(t, l, 0), want)
	if err := l.SettleDoubt(); err != nil {
		t.Fatal(err)
	}
	if list, err := ListDiverged(mem, "diverged"); err != nil || len(list) != 0 {
		t.Fatalf("saved segments taken for a suffix: %+v, %v", list, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, rec = testOpen(t, o); rec.Doubt || !rec.Clean || rec.End.LSN != 60 {
		t.Fatalf("%+v", rec)
	}
}

// TestSalvageRefuses: a log that says nothing about where it is good has to be seeded anew.
func TestSalvageRefuses(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	l, _ := testOpen(t, o)
	appendChain(t, l, 60, 900)
	first := l.Segments()[0]
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, mem, first.Path, 20)
	_, _, err := Open(o)
	var e *CorruptError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if _, err := Salvage(o, e, "diverged"); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := Salvage(o, &CorruptError{Kind: ErrForeign, Good: Position{Epoch: 1, LSN: 1}}, "diverged"); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
}

// TestDiscard: a log of which nothing can be used begins anew at the state's position, with the doubt noted and its files kept (R8, R9, R11).
func TestDiscard(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem)
	l, _ := testOpen(t, o)
	frames := appendChain(t, l, 60, 900)
	first := l.Segments()[0]
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, mem, first.Path, 20)
	before := readRaw(t, mem, first.Path)
	at := frames[20].End()
	for range 2 { // as after a crash
		saved, err := Discard(o, at, "test", "diverged")
		if err != nil {
			t.Fatal(err)
		}
		if got := readRaw(t, mem, mem.PathJoin(saved, segmentName(first.Seq))); string(got) != string(before) {
			t.Fatal("the damaged segment was not saved as it was")
		}
	}
	o.KnownDurable = at.LSN
	l, rec := testOpen(t, o)
	if rec.Start != at || rec.End != at || !rec.Doubt || rec.Redone != intentReset {
		t.Fatalf("%+v", rec)
	}
	mustAppend(t, l, frames[21:]...)
}
