package node

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"repld/wal"
)

// A write that the watchdog saw only once, because this process stood still for longer than StallLimit, is no stall. One that it saw for StallLimit is (R10; FAULTS
// D16, P3).
func TestFreezeIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stuck atomic.Pointer[chan struct{}]
		disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if c := stuck.Load(); c != nil && op.Kind == errorfs.OpFileSyncData {
				<-*c
			}
			return nil
		}))
		log, _, err := wal.Open(wal.Options{FS: disk, Dir: "wal", Identity: wal.Identity{Cluster: "shop", Group: "default", Incarnation: [16]byte{1}}})
		if err != nil {
			t.Fatal(err)
		}
		w, err := log.NewWriter(wal.WriterOptions{Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		hang := func() (release func()) {
			c := make(chan struct{})
			stuck.Store(&c)
			if _, err := w.Append(wal.KindMark, []byte("m")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return func() {
				stuck.Store(nil)
				close(c)
				synctest.Wait()
			}
		}
		const limit = time.Second
		g := &group{o: &Options{StallLimit: limit}, log: log}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watched := make(chan error, 1)

		// A watchdog that begins when the write has been running for long is one that did not run meanwhile.
		release := hang()
		time.Sleep(20 * limit)
		go func() { watched <- g.watch(ctx) }()
		time.Sleep(limit / 2)
		if busy := log.Busy(); busy <= limit || log.Failed() != nil {
			t.Fatalf("busy for %s: %v", busy, log.Failed())
		}
		release()
		time.Sleep(2 * limit)

		// Many writes that are not long ones.
		for range 5 {
			release := hang()
			time.Sleep(limit * 2 / 3)
			release()
		}
		if err := log.Failed(); err != nil {
			t.Fatal(err)
		}

		release = hang()
		began := time.Now()
		err = <-watched
		if took := time.Since(began); err == nil || took < limit || took > limit+limit/5 {
			t.Fatalf("a write that hangs is noticed after %s: %v", took, err)
		}
		release()
		if err := log.Close(); err == nil || !strings.Contains(err.Error(), "has been running") {
			t.Fatalf("close: %v", err)
		}
	})
}
