package crashlife

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/faultfs"
)

// crash is one power cut of a recorded life.
type crash struct {
	at     int // just before this operation
	policy faultfs.Policy
	again  uint64 // seed of a second crash during the recovery, 0 = none
}

// cases lists the crashes of a disk's life up to operation end that can differ: nothing unsynced survives (before each sync and at the end), all of it (before
// each other change), each single change is lost (before each sync), and random parts (everywhere, once followed by a second crash).
func cases(d *faultfs.Disk, end int) []crash {
	var all []crash
	points := []int{}
	for _, op := range d.Trace() {
		points = append(points, op.Index)
		if op.Kind != faultfs.OpSync {
			all = append(all, crash{at: op.Index, policy: faultfs.Everything()})
			continue
		}
		all = append(all, crash{at: op.Index, policy: faultfs.Nothing()})
		open := len(d.Unsynced(op.Index))
		for i := range open {
			all = append(all, crash{at: op.Index, policy: faultfs.Lose(i)})
		}
	}
	points = append(points, end)
	all = append(all, crash{at: end, policy: faultfs.Nothing()}, crash{at: end, policy: faultfs.Everything()})
	for _, p := range points {
		all = append(all, crash{at: p, policy: faultfs.Random(uint64(2 * p))}, crash{at: p, policy: faultfs.Random(uint64(2*p + 1)), again: uint64(p)*0x9e3779b97f4a7c15 | 1})
	}
	for i := range all {
		all[i].policy = all[i].policy.InOrder(pebbles)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// pebbles says whether Pebble keeps its files in a directory.
func pebbles(dir string) bool { return path.Base(dir) == "state" }

// budget is how long a part may take: so many seconds, without end in the nightly run.
func budget(t *testing.T, seconds int) time.Duration {
	if nightly() {
		return time.Hour
	}
	if testing.Short() {
		seconds /= 4
	}
	return time.Duration(seconds) * time.Second
}

// nightly says that all cases are to be run, however long that takes.
func nightly() bool { return os.Getenv("NIGHTLY") != "" }

// run runs the cases on a few workers, in random order, until all are done or the time is up, and says how far it came.
func run[C any](t *testing.T, all []C, limit time.Duration, check func(C) error) {
	t.Helper()
	began := time.Now()
	var next, done atomic.Int64
	var workers sync.WaitGroup
	for range 6 {
		workers.Go(func() {
			for time.Since(began) < limit && !t.Failed() {
				i := next.Add(1) - 1
				if i >= int64(len(all)) {
					return
				}
				if err := check(all[i]); err != nil {
					t.Errorf("%v: %v", all[i], err)
					return
				}
				done.Add(1)
			}
		})
	}
	workers.Wait()
	t.Logf("%d of %d cases in %s, %.0f/s", done.Load(), len(all), time.Since(began).Round(time.Millisecond), float64(done.Load())/time.Since(began).Seconds())
}

// String names the case.
func (c crash) String() string {
	s := fmt.Sprintf("crash before operation %d, %s", c.at, c.policy)
	if c.again != 0 {
		s += fmt.Sprintf(", again with %d", c.again)
	}
	return s
}

// keep saves an image for a person to look at, if CRASHLIFE_KEEP names a directory.
func keep(d *faultfs.Disk) string {
	dir := os.Getenv("CRASHLIFE_KEEP")
	if dir == "" {
		return " (CRASHLIFE_KEEP=directory keeps the image)"
	}
	to, err := os.MkdirTemp(dir, "image-")
	if err == nil {
		_, err = vfs.Clone(d, vfs.Default, "data", to)
	}
	return fmt.Sprintf(" (image kept in %s: %v)", to, err)
}
