package kv

import (
	"sync/atomic"
	"time"
)

// gateClosed is above any number of users.
const gateClosed = 1 << 62

// gate counts the users of Pebble, which panics when used after it was closed. It is not a sync.RWMutex because
// waiting for the users must have a bound (R12), and because a waiting closer must not block a user that enters twice.
type gate struct {
	state   atomic.Int64
	drained chan struct{} // capacity 1
}

func newGate() *gate { return &gate{drained: make(chan struct{}, 1)} }

// enter returns false once the gate is closed; otherwise leave must follow.
func (g *gate) enter() bool {
	if g.state.Add(1) > gateClosed {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.state.Add(-1) == gateClosed {
		select {
		case g.drained <- struct{}{}:
		default:
		}
	}
}

// close lets nobody in any more and waits until all have left; users is how many had not after limit. Calling it again
// waits again.
func (g *gate) close(limit time.Duration) (users int64) {
	for {
		n := g.state.Load()
		if n >= gateClosed || g.state.CompareAndSwap(n, n+gateClosed) {
			break
		}
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		n := g.state.Load() - gateClosed
		if n == 0 {
			return 0
		}
		select {
		case <-g.drained:
		case <-t.C:
			return n
		}
	}
}
