// Package procs sets how many processors the Go code of this process uses at a time.
//
// A node answers a write by way of several goroutines, one after the other. With more processors than one, Go wakes a thread for each of them, which looks for work, finds little and
// sleeps again: on a machine that clients and other nodes share, that takes more processor time than the work. So a node runs on a part of the processors, except while something goes
// on that would keep one of them busy for long, as the flush or compaction of a state does: then it has all of them, and clients do not wait behind it.
//
// It is a setting of the whole process, so the state is the package's. Until Share is called nothing is changed.
package procs

import (
	"runtime"
	"sync"
	"time"
)

// linger is how long all processors stay in use after the last busy time: a change stops all goroutines for some microseconds.
const linger = 200 * time.Millisecond

var use struct {
	sync.Mutex
	calm, all int // calm 0: not shared
	busy      int // busy times under way
	later     *time.Timer
}

// Share has this process run on n processors, at least 1 and at most as many as it has, whenever it is not busy. It returns what was chosen. n ≤ 0 means half of them.
func Share(n int) int {
	use.Lock()
	defer use.Unlock()
	if use.calm == 0 {
		use.all = runtime.GOMAXPROCS(0)
	}
	if n <= 0 {
		n = use.all / 2
	}
	use.calm = min(max(1, n), use.all)
	if use.busy == 0 {
		set(use.calm)
	}
	return use.calm
}

// Busy says that work begins which keeps a processor busy, and returns what is to be called at its end.
func Busy() (end func()) {
	use.Lock()
	defer use.Unlock()
	if use.calm == 0 || use.calm == use.all {
		return func() {}
	}
	if use.busy++; use.busy == 1 {
		set(use.all)
	}
	return sync.OnceFunc(idle)
}

// idle is the end of a busy time.
func idle() {
	use.Lock()
	defer use.Unlock()
	if use.busy--; use.busy == 0 {
		if use.later != nil {
			use.later.Stop()
		}
		use.later = time.AfterFunc(linger, calm)
	}
}

func calm() {
	use.Lock()
	defer use.Unlock()
	if use.busy == 0 {
		set(use.calm)
	}
}

// set leaves the world alone when nothing changes.
func set(n int) {
	if runtime.GOMAXPROCS(0) != n {
		runtime.GOMAXPROCS(n)
	}
}
