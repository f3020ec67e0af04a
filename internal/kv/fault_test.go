package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"repld/wal"
)

// faulty is a store on a file system that fails once armed.
type faulty struct {
	armed atomic.Bool
	fatal chan error
	s     *Store
}

func newFaulty(t *testing.T, match func(op errorfs.Op) bool, fail error) *faulty {
	f := &faulty{fatal: make(chan error, 4)}
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.armed.Load() && match(op) {
			return fail
		}
		return nil
	})
	s, err := Open(Options{
		FS: errorfs.Wrap(vfs.NewCrashableMem(), inject), Dir: "state", MemTableBytes: 256 << 10,
		StallLimit: 300 * time.Millisecond, OnFatal: func(err error) { f.fatal <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.s = s
	return f
}

// fill applies frames until the store fails or refuses.
func (f *faulty) fill(t *testing.T, stop <-chan struct{}) {
	c := &chain{t: t}
	value := make([]byte, 10<<10)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		key := fmt.Sprint("key", i%100)
		p := encode(set("\x01"+key, "\x01\x00"+string(value)))
		if f.s.Apply([]*wal.Frame{c.frame(wal.KindEffects, p)}) != nil {
			return
		}
	}
}

func isWrite(op errorfs.Op, name string) bool {
	switch op.Kind {
	case errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpCreate:
		return strings.Contains(op.Path, name)
	}
	return false
}

// TestFatal holds R10, R12 (fault rows D6 and D7): what Pebble hides ends in one OnFatal within the limit, and nothing is applied afterwards.
// Faults: D6 (ENOSPC and EIO in flushes); D7 (a MANIFEST write that fails)
func TestFatal(t *testing.T) {
	for _, tc := range []struct {
		name string
		file string
		fail error
		want error
	}{
		{"lasting ENOSPC on tables", ".sst", syscall.ENOSPC, ErrStalled},
		{"lasting EIO on tables", ".sst", syscall.EIO, ErrStalled},
		{"EIO on the manifest", "MANIFEST", syscall.EIO, ErrFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFaulty(t, func(op errorfs.Op) bool { return isWrite(op, tc.file) }, tc.fail)
			stop := make(chan struct{})
			defer close(stop)
			f.armed.Store(true)
			go f.fill(t, stop) // never returns if Pebble never does: the process would end here
			select {
			case err := <-f.fatal:
				if !errors.Is(err, tc.want) || !errors.Is(err, ErrFailed) {
					t.Errorf("OnFatal(%v), want %v", err, tc.want)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("OnFatal was not called")
			}
			if err := f.s.Apply(nil); !errors.Is(err, ErrFailed) {
				t.Errorf("Apply afterwards: %v", err)
			}
			if err := f.s.Flush(); !errors.Is(err, ErrFailed) {
				t.Errorf("Flush afterwards: %v", err)
			}
			f.armed.Store(false)
			done := make(chan struct{})
			go func() { _ = f.s.Close(); close(done) }()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Error("Close did not return")
			}
			if len(f.fatal) != 0 {
				t.Errorf("OnFatal again: %v", <-f.fatal)
			}
		})
	}
}

// TestDirSync holds R10 (fault rows D7, D18): whichever sync of the state's directory fails, while it is opened, used or flushed, the state ends with
// the reason and nothing panics or hangs; what had been flushed is there afterwards.
func TestDirSync(t *testing.T) {
	met := 0
	for nth := range 40 {
		base := vfs.NewMem()
		s := openTest(t, Options{FS: base})
		write(t, s, &chain{t: t}, setKeys(10, 10))
		if err := errors.Join(s.Flush(), s.Close()); err != nil {
			t.Fatal(err)
		}
		var seen atomic.Int32
		fs := errorfs.Wrap(base, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSync && op.Path == "state" && int(seen.Add(1)) == nth+1 {
				return syscall.EIO
			}
			return nil
		}))
		fatal := make(chan error, 1)
		c := &chain{t: t}
		s, err := Open(Options{FS: fs, Dir: "state", StallLimit: 300 * time.Millisecond, OnFatal: func(err error) { fatal <- err }})
		if err == nil {
			if at := s.Applied(); at.LSN == 0 {
				t.Fatalf("sync %d: what was flushed is gone", nth)
			}
			c.end = s.Applied()
			err = s.Apply([]*wal.Frame{c.frame(wal.KindEffects, encode(set("\x01more", "\x01\x00value")))})
			if err == nil {
				done := make(chan error, 1)
				go func() { done <- s.Flush() }()
				select {
				case err = <-done:
				case err = <-fatal:
					fatal <- err
				}
			}
		}
		if int(seen.Load()) <= nth {
			if err != nil {
				t.Fatalf("sync %d was not reached, and yet: %v", nth, err)
			}
			break
		}
		met++
		why := <-fatal
		if err == nil { // a compaction behind the flush met it
			err = s.Flush()
		}
		if !errors.Is(why, ErrFailed) || !errors.Is(why, syscall.EIO) || !errors.Is(err, ErrFailed) {
			t.Errorf("sync %d: OnFatal(%v), then %v", nth, why, err)
		}
	}
	if met < 2 {
		t.Errorf("only %d syncs of the directory were met", met)
	}
}

// TestTransient: one failed sync of a table is retried by Pebble and is no failure of the state.
func TestTransient(t *testing.T) {
	var once atomic.Bool
	f := newFaulty(t, func(op errorfs.Op) bool {
		return op.Kind != errorfs.OpCreate && op.Kind != errorfs.OpFileWrite && isWrite(op, ".sst") && once.CompareAndSwap(false, true)
	}, syscall.EIO)
	f.armed.Store(true)
	write(t, f.s, &chain{t: t}, setKeys(10, 10))
	if err := f.s.Flush(); err != nil {
		t.Fatal(err)
	}
	if !once.Load() || f.s.Metrics().BackgroundErrors != 1 {
		t.Errorf("injected %v, background errors %d", once.Load(), f.s.Metrics().BackgroundErrors)
	}
	deadline := time.Now().Add(10 * time.Second)
	for healing := true; healing && time.Now().Before(deadline); { // until the error has been judged
		f.s.health.mu.Lock()
		healing = f.s.health.mu.window != nil
		f.s.health.mu.Unlock()
	}
	if err := f.s.Close(); err != nil || len(f.fatal) != 0 {
		t.Errorf("close: %v, fatal calls %d", err, len(f.fatal))
	}
}

// TestBitFlip holds D10: whatever bit of a table is flipped, a read gives the right value or an error that is ErrCorrupt,
// and VerifyDir finds it.
// Faults: D10 (every bit of a table flipped)
func TestBitFlip(t *testing.T) {
	base := vfs.NewMem()
	s := openTest(t, Options{FS: base})
	write(t, s, &chain{t: t}, func(x *Txn) error {
		for i := range 300 {
			mustSet(t, x, fmt.Sprintf("key-%06d", i), strings.Repeat(fmt.Sprint(i), 20), int64(i%2)*ms(time.Hour))
		}
		return nil
	})
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name, size := table(t, base)
	found := 0
	for i := range 60 {
		at := size * int64(i) / 60
		fs := vfs.NewMem()
		if _, err := vfs.Clone(base, fs, "state", "state"); err != nil {
			t.Fatal(err)
		}
		flip(t, fs, name, at)
		if _, err := VerifyDir(context.Background(), fs, "state", nil); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("flip at %d: verify: %v, want ErrCorrupt", at, err)
			}
			found++
		} else if at < size-64 { // the footer is checked as far as it is used
			t.Errorf("flip at %d of %d: verify found nothing", at, size)
		}
		readAll(t, fs, at)
	}
	if found < 50 {
		t.Errorf("verify found %d of 60 flips", found)
	}
}

func table(t *testing.T, fs vfs.FS) (name string, size int64) {
	t.Helper()
	names, err := fs.List("state")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".sst") {
			info, err := fs.Stat("state/" + n)
			if err != nil {
				t.Fatal(err)
			}
			return "state/" + n, info.Size()
		}
	}
	t.Fatal("no table")
	return "", 0
}

func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (at % 8)
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// readAll gets every key from a damaged state; a wrong answer fails the test.
func readAll(t *testing.T, fs vfs.FS, at int64) {
	t.Helper()
	fatal := make(chan error, 1)
	s, err := Open(Options{FS: fs, Dir: "state", OnFatal: func(err error) { fatal <- err }})
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("flip at %d: open: %v, want ErrCorrupt", at, err)
		}
		return
	}
	defer s.Close()
	v := s.View(t0)
	defer v.Close()
	for i := range 300 {
		e, ok, err := v.Get(fmt.Appendf(nil, "key-%06d", i))
		switch {
		case err != nil:
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("flip at %d: get: %v, want ErrCorrupt", at, err)
			}
			if fatal := <-fatal; !errors.Is(fatal, ErrCorrupt) {
				t.Errorf("flip at %d: OnFatal(%v), want ErrCorrupt", at, fatal)
			}
			return
		case !ok || string(e.Value) != strings.Repeat(fmt.Sprint(i), 20):
			t.Fatalf("flip at %d: key %d = %q %v", at, i, e.Value, ok)
		}
	}
}

// TestCloseBusy holds R12: a reader that is never closed does not hold Close up for ever.
func TestCloseBusy(t *testing.T) {
	s := openTest(t, Options{StallLimit: 10 * time.Millisecond})
	v := s.View(t0)
	if err := s.Close(); !errors.Is(err, ErrBusy) {
		t.Fatalf("Close with an open view: %v, want ErrBusy", err)
	}
	_ = v.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
