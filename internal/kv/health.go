package kv

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"repld/internal/failpoint"
	"repld/internal/procs"
)

// health turns the ways in which Pebble fails without an error into one call of OnFatal (R10, R12).
type health struct {
	limit   time.Duration
	logger  *slog.Logger
	onFatal func(error)

	once    sync.Once
	failed  atomic.Pointer[error]
	dead    chan struct{} // closed when failed is set
	stalls  atomic.Uint64
	parked  chan struct{} // closed when one of Pebble's goroutines was stopped for good, perhaps holding Pebble's locks
	parking sync.Once

	mu struct { // never held while calling out; taken inside Pebble's DB.mu
		sync.Mutex
		window *time.Timer // runs while background errors keep coming
		last   time.Time   // of the latest background error
		err    error
		errors uint64
		closed bool
	}
}

func newHealth(o Options) *health {
	return &health{limit: o.StallLimit, logger: o.Logger, onFatal: o.OnFatal, dead: make(chan struct{}), parked: make(chan struct{})}
}

// err returns the reason of the failure, nil while all is well.
func (h *health) err() error {
	if p := h.failed.Load(); p != nil {
		return *p
	}
	return nil
}

func (h *health) fatal(reason error) {
	h.once.Do(func() {
		err := fmt.Errorf("%w: %w", ErrFailed, reason)
		h.failed.Store(&err)
		close(h.dead)
		h.logger.Error("state failed", "error", reason)
		h.onFatal(err)
	})
}

// park reports the failure and stops the calling goroutine of Pebble for good.
func (h *health) park(reason error) {
	h.fatal(reason)
	h.parking.Do(func() { close(h.parked) })
	select {}
}

// isParked reports whether Pebble must not be called any more, because it might not return.
func (h *health) isParked() bool {
	select {
	case <-h.parked:
		return true
	default:
		return false
	}
}

// guard reports a call into Pebble that outlasts limit. The caller stops it when the call returns.
func (h *health) guard(call string, limit time.Duration) *guard {
	g := &guard{every: limit / guardSteps, left: guardSteps, late: func() {
		h.fatal(fmt.Errorf("%w: %s has lasted more than %v", ErrStalled, call, limit))
	}}
	g.Lock()
	defer g.Unlock()
	g.timer = time.AfterFunc(g.every, g.step)
	return g
}

// guardSteps: a limit passes in so many steps, of which a process that stood still (SIGSTOP, a frozen VM) counts one, so that waking up is
// not taken for a stall.
const guardSteps = 8

// guard is the bound on one call.
type guard struct {
	sync.Mutex
	timer *time.Timer
	every time.Duration // one step
	left  int           // steps; 0 once stopped or reported
	late  func()
}

func (g *guard) step() {
	g.Lock()
	defer g.Unlock()
	if g.left == 0 {
		return
	}
	if g.left--; g.left == 0 {
		g.late()
		return
	}
	g.timer.Reset(g.every)
}

// Stop ends the bound.
func (g *guard) Stop() {
	g.Lock()
	defer g.Unlock()
	g.left = 0
	g.timer.Stop()
}

// backgroundError is called by Pebble, with its locks held, for each failed flush or compaction; it retries at once, so
// this comes thousands of times a second while a disk is full. One that passes is only logged; when they still come after
// the limit it is fatal.
func (h *health) backgroundError(err error) {
	if pebble.IsCorruptionError(err) {
		h.fatal(fmt.Errorf("%w: %w", ErrCorrupt, err))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.errors++
	h.mu.last = time.Now()
	h.mu.err = err
	if h.mu.window != nil || h.mu.closed {
		return
	}
	h.logger.Warn("state background work failed", "error", err)
	h.mu.window = time.AfterFunc(h.limit, h.judge)
}

// judge runs one limit after the first of a series of background errors.
func (h *health) judge() {
	h.mu.Lock()
	h.mu.window = nil
	err, quiet := h.mu.err, time.Since(h.mu.last)
	closed := h.mu.closed
	h.mu.Unlock()
	switch {
	case closed:
	case quiet > h.limit/2:
		h.logger.Info("state background work goes on", "quiet", quiet)
	default:
		h.fatal(fmt.Errorf("%w: background work has failed for %v: %w", ErrStalled, h.limit, err))
	}
}

func (h *health) errors() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.errors
}

func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.closed = true
	if h.mu.window != nil {
		h.mu.window.Stop()
	}
}

func (h *health) listener() *pebble.EventListener {
	flushed := func() {} // a flush begins and ends on one goroutine, and there is one at a time
	return &pebble.EventListener{
		BackgroundError: h.backgroundError,
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			h.fatal(fmt.Errorf("%w: file %s: %w", ErrCorrupt, i.Path, i.Details))
		},
		FlushBegin: func(pebble.FlushInfo) {
			flushed = procs.Busy()
			failpoint.Hit(failpoint.FlushBegin)
		},
		FlushEnd: func(pebble.FlushInfo) {
			flushed()
			failpoint.Hit(failpoint.FlushEnd)
		},
		ManifestCreated: func(pebble.ManifestCreateInfo) { failpoint.Hit(failpoint.ManifestMade) },
		DiskSlow: func(i pebble.DiskSlowInfo) {
			h.logger.Warn("state disk is slow", "path", i.Path, "operation", i.OpType.String(), "duration", i.Duration)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			h.stalls.Add(1)
			h.logger.Warn("state write stall begins", "reason", i.Reason)
		},
		WriteStallEnd: func() { h.logger.Warn("state write stall ends") },
	}
}

// pebbleLogger is Pebble's way to slog.
type pebbleLogger struct{ h *health }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...interface{}) {
	if l.h.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.h.logger.Debug("pebble", "text", fmt.Sprintf(format, args...))
	}
}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...interface{}) {
	l.h.logger.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. Pebble relies on it not to return: a failed write of the MANIFEST leaves its state in
// memory ahead of the disk. The goroutine is parked, with the locks it holds, so nothing more is written (R10);
// unwinding it would release them.
func (l pebbleLogger) Fatalf(format string, args ...interface{}) {
	l.h.park(fmt.Errorf("pebble: "+format, args...))
}
