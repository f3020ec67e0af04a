package failover_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"repld/failover"
	"repld/failover/tokentest"
	"repld/wal"
)

func openStores(fs vfs.FS, dir func(t *testing.T) string, shared bool) tokentest.Factory {
	return func(t *testing.T, n int) []failover.Store {
		d := dir(t)
		var out []failover.Store
		for range n {
			s, err := failover.OpenFileStore(failover.FileStoreOptions{FS: fs, Dir: d, Shared: shared, Poll: 5 * time.Millisecond, Keep: 4})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			out = append(out, s)
		}
		return out
	}
}

func tempDir(t *testing.T) string { return t.TempDir() }

func TestFileStoreConformance(t *testing.T) {
	t.Run("shared", func(t *testing.T) { tokentest.Run(t, openStores(vfs.Default, tempDir, true)) })
	t.Run("local", func(t *testing.T) { tokentest.Run(t, openStores(vfs.Default, tempDir, false)) })
	t.Run("mem", func(t *testing.T) {
		mem := vfs.NewMem()
		tokentest.Run(t, openStores(mem, func(t *testing.T) string {
			d := strings.ReplaceAll(t.Name(), "/", "_")
			if err := mem.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
			return d
		}, true))
	})
}

func memStore(t *testing.T, fs vfs.FS) (*failover.FileStore, error) {
	t.Helper()
	return failover.OpenFileStore(failover.FileStoreOptions{FS: fs, Dir: "tok", Keep: 4})
}

func newTokenFS(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("tok", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "tok"} {
		if d, err := fs.OpenDir(name); err == nil {
			_ = d.Sync()
			_ = d.Close()
		}
	}
	return fs
}

// D11: a damaged token is refused by the name of its file, at every byte.
// Faults: D11 (every byte of the token changed)
func TestFileStoreRefusesDamage(t *testing.T) {
	fs := newTokenFS(t)
	s, err := memStore(t, fs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CompareAndSet(t.Context(), 0, tokentest.Next(1, "a")); err != nil {
		t.Fatal(err)
	}
	path := "tok/00000000000000000001.token"
	b, err := fs.UnsafeGetFileDataBuffer(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x10
		_, err := s.Load(t.Context())
		var bad *failover.CorruptError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), path) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if _, err := memStore(t, fs); !errors.Is(err, failover.ErrCorrupt) {
			t.Fatalf("byte %d flipped, open: %v", i, err)
		}
		b[i] ^= 0x10
	}
}

// R3, D22: what CompareAndSet returned survives a crash; what it did not return is whole or absent.
// Faults: D22 (a power cut at each operation)
func TestFileStoreCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	fs := newTokenFS(t)
	s, err := memStore(t, fs)
	if err != nil {
		t.Fatal(err)
	}
	for e := range wal.Epoch(30) {
		if _, err := s.CompareAndSet(t.Context(), uint64(e), tokentest.Next(e+1, "a")); err != nil {
			t.Fatal(err)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(e%3) * 50, RNG: rng})
		after, err := memStore(t, crashed)
		if err != nil {
			t.Fatalf("after the crash in epoch %d: %v", e+1, err)
		}
		if rec, err := after.Load(t.Context()); err != nil || rec.Epoch != e+1 {
			t.Fatalf("epoch %d was set, a crash left %+v, %v", e+1, rec, err)
		}
	}
	names, err := fs.List("tok")
	if err != nil || len(names) > 4 {
		t.Fatalf("not pruned: %v, %v", names, err)
	}
}

// R10: every operation of CompareAndSet fails once; after it the store refuses to go on, and what is on disk is the
// old or the new record.
func TestFileStoreFailedWrites(t *testing.T) {
	for n := range int32(40) {
		fs := newTokenFS(t)
		s, err := memStore(t, fs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CompareAndSet(t.Context(), 0, tokentest.Next(1, "a")); err != nil {
			t.Fatal(err)
		}
		index := errorfs.OnIndex(n)
		broken, err := memStore(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			return errorfs.ErrInjected.If(index).MaybeError(op)
		})))
		if err != nil {
			continue
		}
		_, err = broken.CompareAndSet(t.Context(), 1, tokentest.Next(2, "a"))
		if err == nil && n < 4 {
			t.Fatalf("write operation %d failed unnoticed", n)
		}
		if err == nil {
			return // more operations than there are
		}
		if _, again := broken.CompareAndSet(t.Context(), 1, tokentest.Next(2, "a")); !errors.Is(again, failover.ErrFailed) {
			t.Fatalf("after a failure (%v) it went on: %v", err, again)
		}
		if rec, err := s.Load(t.Context()); err != nil || rec.Epoch < 1 || rec.Epoch > 2 {
			t.Fatalf("left behind: %+v, %v", rec, err)
		}
	}
	t.Fatal("never got through")
}
