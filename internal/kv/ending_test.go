package kv

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestFlushOnFullDisk holds R12 (fault row D5): a flush that finds no room, which Pebble repeats for ever, ends when the state fails, and nothing stays behind when it is closed.
func TestFlushOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !full.Load() || !isWrite(op, ".sst") {
				return nil
			}
			time.Sleep(10 * time.Millisecond) // what a try costs: simulated time passes only when all wait
			return syscall.ENOSPC
		}))
		failed := make(chan error, 1)
		s, err := Open(Options{FS: fs, Dir: "state", StallLimit: 300 * time.Millisecond, OnFatal: func(err error) { failed <- err }})
		if err != nil {
			t.Fatal(err)
		}
		write(t, s, &chain{t: t}, setKeys(10, 10))
		full.Store(true)
		if err := s.Flush(); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrStalled) {
			t.Errorf("Flush: %v", err)
		}
		if err := <-failed; !errors.Is(err, ErrStalled) {
			t.Errorf("OnFatal(%v)", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}) // and panics when a goroutine is left
}

// TestOpenFails: whichever operation on options or on the log (which is not used) fails while a state is opened, Open returns the reason and leaves no goroutine (Pebble's own scheduler of compactions does). What
// fails with the MANIFEST stops Pebble where it is (TestDirSync).
func TestOpenFails(t *testing.T) {
	base := vfs.NewMem()
	s := openTest(t, Options{FS: base})
	write(t, s, &chain{t: t}, setKeys(10, 10))
	if err := errors.Join(s.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for nth := int32(1); nth < 100; nth++ {
		over := false
		synctest.Test(t, func(t *testing.T) {
			var seen atomic.Int32
			fs := errorfs.Wrap(base, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if (strings.Contains(op.Path, "OPTIONS") || strings.HasSuffix(op.Path, ".log")) && seen.Add(1) == nth {
					return syscall.ENOSPC
				}
				return nil
			}))
			s, err := Open(Options{FS: fs, Dir: "state"})
			over = seen.Load() < nth
			switch {
			case err != nil && errors.Is(err, syscall.ENOSPC):
				failed++
			case err != nil:
				t.Fatalf("operation %d: %v", nth, err)
			default:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
		if over {
			break
		}
	}
	if failed == 0 {
		t.Error("no operation failed")
	}
}

// compactor is a Pebble that wants to run compactions.
type compactor struct {
	c       *compactions
	allowed atomic.Int32
	wants   atomic.Int32 // that are waiting for a grant
	running atomic.Int32
}

func (p *compactor) GetAllowedWithoutPermission() int { return int(p.allowed.Load()) }

func (p *compactor) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	return p.wants.Load() > 0, pebble.WaitingCompaction{}
}

func (p *compactor) Schedule(pebble.CompactionGrantHandle) bool {
	if p.wants.Load() == 0 {
		return false
	}
	p.wants.Add(-1)
	p.running.Add(1)
	return true
}

// want asks for permission as Pebble does.
func (p *compactor) want() {
	if ok, _ := p.c.TrySchedule(); ok {
		p.running.Add(1)
	} else {
		p.wants.Add(1)
	}
}

func (p *compactor) done() {
	p.running.Add(-1)
	p.c.Done()
}

// TestCompactions: no more compactions run than are allowed; one that was refused is granted when another is done or more are allowed; after Unregister none is.
func TestCompactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &compactor{c: newCompactions(nil)}
		p.c.Register(2, p)
		p.allowed.Store(1)
		expect := func(what string, running, wants int32) {
			t.Helper()
			synctest.Wait()
			if r, w := p.running.Load(), p.wants.Load(); r != running || w != wants {
				t.Errorf("%s: %d run and %d wait, want %d and %d", what, r, w, running, wants)
			}
		}
		for range 4 {
			p.want()
		}
		expect("one is allowed", 1, 3)
		p.done()
		expect("one was done", 1, 2)
		p.c.UpdateGetAllowedWithoutPermission()
		expect("nothing changed", 1, 2)
		p.allowed.Store(2)
		p.c.UpdateGetAllowedWithoutPermission()
		expect("two are allowed", 2, 1)
		p.done()
		p.done()
		expect("two were done", 1, 0)
		p.want()
		p.want()
		expect("two more", 2, 1)
		p.c.Unregister()
		p.done()
		p.allowed.Store(9)
		p.c.UpdateGetAllowedWithoutPermission()
		p.want()
		expect("it is over", 1, 2)
	})
}

// TestCompactionsOfFailedState: once the state has failed no compaction is permitted, so that one which fails is not repeated for ever.
func TestCompactionsOfFailedState(t *testing.T) {
	failed := make(chan struct{})
	p := &compactor{c: newCompactions(failed)}
	p.c.Register(2, p)
	p.allowed.Store(1)
	p.want()
	p.want()
	close(failed)
	p.done()
	p.want()
	p.c.UpdateGetAllowedWithoutPermission()
	if r, w := p.running.Load(), p.wants.Load(); r != 0 || w != 2 {
		t.Errorf("%d run and %d wait, want 0 and 2", r, w)
	}
	p.c.Unregister()
}
