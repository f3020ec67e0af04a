package node

import (
	"context"
	"sync/atomic"
	"time"
)

// pauseGuard notices that this process stood still (SIGSTOP, a frozen VM, a starved host) by a goroutine that should tick often. After a
// pause an active asks its peers for their epoch before it answers anything that it committed: somebody may have been promoted meanwhile
// (FAULTS P3). With k ≥ 1 the commit rule alone keeps R1; the guard also keeps the stale active from acking a write of a past epoch.
type pauseGuard struct {
	limit time.Duration
	start time.Time
	tick  atomic.Int64 // nanoseconds since start
	stood atomic.Bool  // a pause was seen that nobody has looked into
}

func newPauseGuard(limit time.Duration) *pauseGuard {
	return &pauseGuard{limit: limit, start: time.Now()}
}

// run ticks until ctx ends.
func (g *pauseGuard) run(ctx context.Context) error {
	t := time.NewTicker(g.limit / 8)
	defer t.Stop()
	g.tick.Store(int64(time.Since(g.start)))
	for {
		select {
		case <-t.C:
			// Mark the pause before the tick is renewed, so that no reader sees a fresh tick without the mark.
			if g.late() {
				g.stood.Store(true)
			}
			g.tick.Store(int64(time.Since(g.start)))
		case <-ctx.Done():
			return nil
		}
	}
}

func (g *pauseGuard) late() bool {
	return time.Since(g.start)-time.Duration(g.tick.Load()) > g.limit
}

// paused reports whether the process may have stood still since the last call of cleared.
func (g *pauseGuard) paused() bool { return g.stood.Load() || g.late() }

// cleared says that the peers were asked after the pause.
func (g *pauseGuard) cleared() {
	g.tick.Store(int64(time.Since(g.start)))
	g.stood.Store(false)
}
