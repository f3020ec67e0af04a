package node

import (
	"sync"
	"time"
)

// busyness says whether clients, or the log of those on the active, want this node's processor now: what can wait then leaves it to them (kv.Snapshot.YieldTo).
type busyness struct {
	ops func() uint64 // commands and committed records so far

	mu    sync.Mutex
	then  time.Time // of the last look
	had   uint64
	rate  float64   // operations a second, between the last two looks
	lasts time.Time // busy at least until then
}

const (
	busyRate  = 200                    // operations a second
	busyLook  = 20 * time.Millisecond  // a look counts at least so long
	busyLasts = 500 * time.Millisecond // a short rest between two batches is not idleness
)

// now reports whether somebody is busy. It may be called as often as one likes.
func (b *busyness) now() bool { return b.at(time.Now(), b.ops) }

func (b *busyness) at(now time.Time, ops func() uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.then); d >= busyLook {
		n := ops()
		b.rate = 0
		if d <= busyLasts {
			b.rate = float64(n-min(b.had, n)) / d.Seconds()
		}
		b.then, b.had = now, n
		if b.rate >= busyRate {
			b.lasts = now.Add(busyLasts)
		}
	}
	return now.Before(b.lasts)
}

// operations counts what clients have had done, here or on the active.
func (g *group) operations() uint64 {
	n := uint64(g.commit.lsn())
	if g.commands != nil {
		n += g.commands()
	}
	return n
}
