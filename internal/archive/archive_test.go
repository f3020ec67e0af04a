package archive

import (
	"bytes"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"repld/wal"
)

// stores opens an archive of every kind of store: a folder, an S3 server, both with and without a key.
func stores(t *testing.T, fn func(t *testing.T, o Options)) {
	fake := gofakes3.New(s3mem.New())
	srv := httptest.NewServer(fake.Server())
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	put := httptest.NewRequest("PUT", "/copies", nil)
	fake.Server().ServeHTTP(httptest.NewRecorder(), put)
	for _, keyed := range []bool{false, true} {
		key := ""
		if keyed {
			key = filepath.Join(t.TempDir(), "key")
			if _, err := NewKey(key); err != nil {
				t.Fatal(err)
			}
		}
		s3 := fmt.Sprintf("s3://copies/at-%t?endpoint=%s&region=us-east-1&insecure=true", keyed, strings.TrimPrefix(srv.URL, "http://"))
		for _, url := range []string{"file://" + t.TempDir(), s3} {
			t.Run(fmt.Sprintf("%s key=%t", url[:4], keyed), func(t *testing.T) {
				fn(t, Options{URL: url, KeyFile: key, Cluster: "shop", Create: true})
			})
		}
	}
}

// source makes files of a state.
func source(t *testing.T, lsn wal.LSN, contents ...string) Source {
	t.Helper()
	s := Source{FS: vfs.Default, Dir: t.TempDir(), Node: "a", Position: wal.Position{Epoch: 1, LSN: lsn, Hash: wal.Hash(lsn)}, Digest: 7}
	for i, text := range contents {
		name := fmt.Sprintf("%06d.sst", i)
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Files = append(s.Files, File{Name: name, Size: int64(len(text)), Hash: wal.Hash(len(text))})
	}
	return s
}

func frames(t *testing.T, from wal.Position, epoch wal.Epoch, n int) []*wal.Frame {
	t.Helper()
	var out []*wal.Frame
	for range n {
		f, err := wal.EncodeFrame(from, wal.FrameOptions{Epoch: epoch, Codec: wal.CodecNone, Time: time.Unix(1, 0)}, []wal.Record{{Kind: wal.KindMark, Payload: []byte("m")}, {Kind: wal.KindMark, Payload: []byte("n")}})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
		from = f.End()
	}
	return out
}

// What goes in comes out, is not sent twice, and is listed; the same in every kind of store.
func TestStores(t *testing.T) {
	stores(t, func(t *testing.T, o Options) {
		ctx := t.Context()
		a, err := Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		src := source(t, 4, "one", "two", strings.Repeat("three", 1000))
		b, err := a.Create(ctx, src, nil)
		if err != nil || b.Sent != b.Bytes() {
			t.Fatalf("%+v, %v", b, err)
		}
		again := source(t, 8, "one", "changed", strings.Repeat("three", 1000))
		c, err := a.Create(ctx, again, nil)
		if err != nil || c.Sent != int64(len("changed")) {
			t.Fatalf("the second backup sent %d bytes: %v", c.Sent, err)
		}
		log := frames(t, wal.Position{Epoch: 1, LSN: 4, Hash: 4}, 1, 6)
		for _, part := range [][]*wal.Frame{log[:2], log[2:3], log[3:]} {
			if _, err := a.PutFrames(ctx, part); err != nil {
				t.Fatal(err)
			}
		}
		o.Create = false
		if a, err = Open(ctx, o); err != nil {
			t.Fatal(err)
		}
		all, err := a.Backups(ctx)
		if err != nil || len(all) != 2 || all[0].ID != b.ID || all[1].ID != c.ID {
			t.Fatalf("%+v, %v", all, err)
		}
		dir := filepath.Join(t.TempDir(), "back")
		if err := a.Fetch(ctx, all[1], dir, nil); err != nil {
			t.Fatal(err)
		}
		for _, f := range all[1].Files {
			was, _ := os.ReadFile(filepath.Join(again.Dir, f.Name))
			got, err := os.ReadFile(filepath.Join(dir, f.Name))
			if err != nil || !bytes.Equal(was, got) {
				t.Fatalf("%s is %q, was %q: %v", f.Name, got, was, err)
			}
		}
		chunks, err := a.Chunks(ctx)
		if err != nil || len(chunks) != 3 {
			t.Fatalf("%+v, %v", chunks, err)
		}
		path, err := Path(chunks, b.Position, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := a.Walk(ctx, path, b.Position, func(*wal.Frame) error { n++; return nil }); err != nil || n != len(log) {
			t.Fatalf("%d frames: %v", n, err)
		}
		out, err := a.Expire(ctx, Policy{Keep: 1, Grace: -1})
		if err != nil || len(out.Backups) != 1 || out.Objects != 1 || out.Chunks != 1 {
			t.Fatalf("expired %+v, %v", out, err)
		}
		if err := a.Fetch(ctx, all[1], filepath.Join(t.TempDir(), "x"), nil); err != nil {
			t.Fatalf("what was kept is gone: %v", err)
		}
		wrong := o
		wrong.KeyFile = filepath.Join(t.TempDir(), "other")
		if _, err := NewKey(wrong.KeyFile); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(ctx, wrong); !errors.Is(err, ErrKey) {
			t.Fatalf("another key: %v", err)
		}
	})
}

// Every single flipped byte of every object is found by Check, and so is every object that is missing or cut short.
func TestCheckFindsEveryFlippedByte(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("key=%t", keyed), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{URL: "file://" + dir, Cluster: "shop", Create: true}
			if keyed {
				o.KeyFile = filepath.Join(t.TempDir(), "key")
				if _, err := NewKey(o.KeyFile); err != nil {
					t.Fatal(err)
				}
			}
			ctx := t.Context()
			a, err := Open(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Create(ctx, source(t, 4, "one", "two"), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := a.PutFrames(ctx, frames(t, wal.Position{Epoch: 1, LSN: 4, Hash: 4}, 1, 2)); err != nil {
				t.Fatal(err)
			}
			check := func() error {
				a, err := Open(ctx, o)
				if err != nil {
					return err
				}
				_, err = a.Check(ctx, true, nil)
				return err
			}
			if err := check(); err != nil {
				t.Fatal(err)
			}
			o.Create = false
			flips := 0
			err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				whole, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				step := 1
				if testing.Short() {
					step = 5
				}
				if keyed && os.Getenv("NIGHTLY") == "" {
					step = 11 // age's own checksums are not ours to test; a sample shows that they are asked
				}
				for i := 0; i < len(whole); i += step {
					bad := bytes.Clone(whole)
					bad[i] ^= 1 << (i % 8)
					if err := os.WriteFile(path, bad, 0o600); err != nil {
						return err
					}
					if err := check(); err == nil {
						t.Errorf("byte %d of %s was flipped and not found", i, path)
					}
					flips++
				}
				if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
					return err
				}
				if check() == nil {
					t.Errorf("%s was cut short, and that was not found", path)
				}
				return os.WriteFile(path, whole, 0o600)
			})
			if err != nil || flips < 100 {
				t.Fatalf("%d flips: %v", flips, err)
			}
			if err := check(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Two histories side by side: the path follows the one of the higher epoch, through the middle of a piece of the other, and no gap is passed over.
func TestPath(t *testing.T) {
	ctx := t.Context()
	a, err := Open(ctx, Options{URL: "file://" + t.TempDir(), Cluster: "shop", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	from := wal.Position{Epoch: 1, LSN: 4, Hash: 4}
	old := frames(t, from, 1, 8)
	branch := frames(t, old[4].End(), 2, 5) // the last 3 were given up
	put := func(f ...*wal.Frame) {
		t.Helper()
		if _, err := a.PutFrames(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	put(old[:2]...)
	put(old[2:]...) // goes on beyond the branch
	put(branch[:2]...)
	put(branch[1:]...) // another node's, overlapping
	chunks, err := a.Chunks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	walk := func(epoch wal.Epoch) (out []wal.Hash) {
		t.Helper()
		path, err := Path(chunks, from, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Walk(ctx, path, from, func(f *wal.Frame) error { out = append(out, f.Hash); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := walk(0); len(got) != 10 || got[4] != old[4].Hash || got[9] != branch[4].Hash {
		t.Fatalf("%d frames: %v", len(got), got)
	}
	if got := walk(1); len(got) != 8 || got[7] != old[7].Hash {
		t.Fatalf("%d frames of epoch 1: %v", len(got), got)
	}
	if _, err := Path(append(chunks[:1:1], chunks[2:]...), from, 0); !errors.Is(err, ErrGap) {
		t.Fatalf("a piece is missing: %v", err)
	}
	if _, err := Path(chunks, wal.Position{Epoch: 1, LSN: 4, Hash: 5}, 0); !errors.Is(err, ErrGap) {
		t.Fatalf("another history: %v", err)
	}
}

// A history that is wanted up to a record before a gap is found, unless a newer epoch may have given that record up.
func TestPathToBeforeAGap(t *testing.T) {
	t.Parallel()
	from := wal.Position{Epoch: 1, LSN: 4, Hash: 4}
	log := frames(t, from, 1, 8) // LSN 5 to 20
	piece := func(f ...*wal.Frame) Chunk {
		return Chunk{First: f[0].First, Prev: f[0].Prev, End: f[len(f)-1].End()}
	}
	gap := []Chunk{piece(log[:2]...), piece(log[2:4]...), piece(log[6:]...)} // to LSN 12, and from 17 on
	on := append(gap[:3:3], piece(frames(t, log[7].End(), 2, 2)...))         // the epoch behind the gap is followed by another one
	newer := append(gap[:2:2], piece(frames(t, log[5].End(), 2, 2)...))
	for _, tc := range []struct {
		name   string
		chunks []Chunk
		to     wal.LSN
		epoch  wal.Epoch
		steps  int // 0: a gap
	}{
		{"within the first piece", gap, 6, 0, 1}, {"within the second", gap, 11, 0, 2}, {"its last record", gap, 12, 0, 2}, {"in the gap", gap, 13, 0, 0}, {"behind it", gap, 18, 0, 0},
		{"a newer epoch behind it", newer, 11, 0, 0}, {"which is not asked for", newer, 11, 1, 2}, {"no gap at all", gap[:2], 11, 0, 2}, {"a newer epoch that follows the same one", on, 11, 0, 2},
	} {
		path, err := PathTo(tc.chunks, from, tc.to, tc.epoch)
		if len(path) != tc.steps || (tc.steps == 0) != errors.Is(err, ErrGap) {
			t.Errorf("%s: %d steps, %v", tc.name, len(path), err)
		}
		if tc.name == "a newer epoch behind it" && (err == nil || !strings.Contains(err.Error(), "say --epoch 1")) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
