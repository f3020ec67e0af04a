package kv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func wholeFile(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeAll(t testing.TB, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(b)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A flipped bit in any byte of any file of a state is found, but in those that are no part of it; and those are named.
func TestVerifyFindsEveryByte(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(Options{FS: fs, Dir: "state", MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{t: t}
	for n := 3; n < 7; n += 3 { // two tables, and a MANIFEST that was added to
		write(t, s, c, setKeys(n, 10))
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := VerifyDir(t.Context(), fs, "state", nil)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("state")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, n := range names {
		path := fs.PathJoin("state", n)
		b := wholeFile(t, fs, path)
		if notState(n) {
			if len(b) > 0 && !slices.Contains(whole.Ignored, n) {
				t.Errorf("%s is not looked at, and not said so", n)
			}
			continue
		}
		step := 1
		if testing.Short() {
			step = 7
		}
		for i := 0; i < len(b); i += step {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << (i % 8)
			writeAll(t, fs, path, flipped)
			if rep, err := VerifyDir(t.Context(), fs, "state", nil); err == nil {
				t.Errorf("%s: bit %d of byte %d of %d is not found: %+v", n, i%8, i, len(b), rep)
			}
			checked++
		}
		writeAll(t, fs, path, b)
	}
	if checked < 1000 && !testing.Short() {
		t.Fatalf("only %d bytes were flipped", checked)
	}
	if again, err := VerifyDir(t.Context(), fs, "state", nil); err != nil || again.Digest != whole.Digest {
		t.Fatalf("the test spoiled the state: %v", err)
	}
}

// Sampled over a state of several tables of many blocks.
func TestVerifyFindsFlipsInLargeState(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(Options{FS: fs, Dir: "state", MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{t: t}
	for i := range 4 {
		write(t, s, c, func(x *Txn) error {
			for k := range 5000 {
				if err := x.Set(fmt.Appendf(nil, "key-%d-%d", i, k), fmt.Appendf(nil, "%x", k*7919*(i+1)), 0); err != nil {
					return err
				}
			}
			return nil
		})
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("state")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return notState(n) || strings.HasPrefix(n, "marker.") })
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 2))
	for range rounds {
		n := names[rnd.IntN(len(names))]
		path := fs.PathJoin("state", n)
		b := wholeFile(t, fs, path)
		flipped := bytes.Clone(b)
		i, bit := rnd.IntN(len(b)), rnd.IntN(8)
		flipped[i] ^= 1 << bit
		writeAll(t, fs, path, flipped)
		if _, err := VerifyDir(t.Context(), fs, "state", nil); err == nil {
			t.Errorf("seed %d: %s: bit %d of byte %d of %d is not found", seed, n, bit, i, len(b))
		}
		writeAll(t, fs, path, b)
	}
}
