package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"repld/internal/failpoint"
	"repld/wal"
)

// applier is the one goroutine that moves committed frames from the log into the state (R7: applied ⊆ committed, in LSN order). It runs
// in every role: on the active it goes on to answer the clients, on a hot standby it applies what the active says is committed, on a lagged
// standby the same, apply_delay after the frame's commit time, until a promotion rushes it.
type applier struct {
	log     *wal.Log
	state   *state
	limit   func() wal.LSN // committed, as far as this node knows
	delay   time.Duration
	applies func(wal.Position, []*wal.Frame) // before each step, on this goroutine
	applied func(wal.Position)               // after each step

	step   sync.Mutex    // held from the look at limit to the end of the step
	rush   atomic.Bool   // ignore the delay
	held   atomic.Bool   // apply nothing, unless in a rush
	moved  atomic.Bool   // the state was put back: the reader stands elsewhere
	kicked chan struct{} // capacity 1: limit or rush changed, or frames came

	reader *wal.Reader
	next   *wal.Frame // read but not yet due

	mu struct {
		sync.Mutex
		waiting []appliedWaiter
		records uint64        // applied in busy
		busy    time.Duration // spent in the state
	}
}

type appliedWaiter struct {
	lsn  wal.LSN
	done chan<- struct{}
}

// Bounds of one Pebble commit.
const (
	applyFrames = 1024
	applyBytes  = 4 << 20
)

func newApplier(log *wal.Log, st *state, delay time.Duration) *applier {
	return &applier{log: log, state: st, delay: delay, kicked: make(chan struct{}, 1)}
}

func (a *applier) kick() {
	select {
	case a.kicked <- struct{}{}:
	default:
	}
}

// hurry lifts the delay of a lagged standby.
func (a *applier) hurry(on bool) {
	a.rush.Store(on)
	a.kick()
}

// assumedRate is the replay rate, in records per second, that a plan counts with before this node has applied anything.
const assumedRate = 300_000

// rate is how many records per second this node applies while it does nothing else.
func (a *applier) rate() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.records < 10_000 || a.mu.busy <= 0 {
		return assumedRate
	}
	return float64(a.mu.records) / a.mu.busy.Seconds()
}

// measured remembers the recent past: the sums are halved now and then.
func (a *applier) measured(records uint64, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.records += records
	a.mu.busy += took
	if a.mu.records > 10_000_000 {
		a.mu.records /= 2
		a.mu.busy /= 2
	}
}

// notify closes done as soon as lsn is applied.
func (a *applier) notify(lsn wal.LSN, done chan<- struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.applied().LSN >= lsn {
		close(done)
		return
	}
	a.mu.waiting = append(a.mu.waiting, appliedWaiter{lsn, done})
}

func (a *applier) reached(lsn wal.LSN) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keep := a.mu.waiting[:0]
	for _, w := range a.mu.waiting {
		if w.lsn <= lsn {
			close(w.done)
		} else {
			keep = append(keep, w)
		}
	}
	a.mu.waiting = keep
}

// run applies until ctx ends. It returns an error only when the state can no longer follow the log: then the node must stop (R10).
func (a *applier) run(ctx context.Context) error {
	defer a.drop()
	frames := make([]*wal.Frame, 0, applyFrames)
	for ctx.Err() == nil {
		n, wait, err := a.once(frames[:0])
		if err != nil {
			return err
		}
		if n == 0 {
			a.wait(ctx, wait)
		}
	}
	return nil
}

// once applies what is due and returns how many frames that were, or how long to wait.
func (a *applier) once(frames []*wal.Frame) (n int, wait time.Duration, err error) {
	a.step.Lock()
	defer a.step.Unlock()
	if a.state.lacking() != "" {
		return 0, 0, nil // until a snapshot is installed
	}
	frames, wait, err = a.due(frames)
	if err != nil || len(frames) == 0 {
		return 0, wait, err
	}
	defer clear(frames)
	return len(frames), 0, a.apply(frames)
}

// due collects the frames that may be applied now, or says how long until the next one is due (0: when something happens).
func (a *applier) due(frames []*wal.Frame) ([]*wal.Frame, time.Duration, error) {
	// The limit first, then the reader: if the tail was not cut since next was read, then next is of the history that limit speaks of.
	limit, bytes := a.limit(), 0
	if a.moved.Swap(false) || a.next != nil && a.reader.Err() != nil {
		a.drop()
	}
	if a.held.Load() && !a.rush.Load() {
		return frames, 0, nil
	}
	for len(frames) < applyFrames && bytes < applyBytes {
		f, err := a.peek()
		if err != nil || f == nil || f.Last() > limit {
			return frames, 0, err
		}
		if a.delay > 0 && !a.rush.Load() {
			if d := time.Until(f.Time.Add(a.delay)); d > 0 {
				return frames, d, nil
			}
		}
		frames = append(frames, f)
		bytes += int(f.Raw)
		a.next = nil
	}
	return frames, 0, nil
}

// peek returns the next frame after the applied position, nil if the log has none yet. A reader whose place is gone, because the tail was cut or log and state were replaced, is opened again at
// the applied position at once: what woke the applier may have been the last that will for a long time.
func (a *applier) peek() (*wal.Frame, error) {
	if a.next != nil {
		return a.next, nil
	}
	for again := a.reader != nil; ; again = false {
		if a.reader == nil {
			r, err := a.log.NewReader(a.state.applied().LSN)
			if err != nil {
				return nil, fmt.Errorf("read log after applied position %s: %w", a.state.applied(), err)
			}
			a.reader = r
		}
		f, err := a.reader.TryNext()
		switch {
		case errors.Is(err, wal.ErrClosed):
			return nil, nil
		case errors.Is(err, wal.ErrDiverged), errors.Is(err, wal.ErrTrimmed):
			a.drop()
			if again {
				continue
			}
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("read log: %w", err)
		}
		a.next = f
		return f, nil
	}
}

// apply commits frames to the state. A frame that a snapshot install made obsolete in between is skipped by the store; one that no longer
// follows the state makes the reader start again.
func (a *applier) apply(frames []*wal.Frame) error {
	st, err := a.state.acquire()
	if err != nil {
		return nil // closing
	}
	if first := frames[0].First; first > st.Applied().LSN+1 {
		a.state.release()
		a.drop()
		return nil
	}
	began, from := time.Now(), st.Applied().LSN
	failpoint.Hit(failpoint.BeforeApply)
	a.applies(st.Applied(), frames)
	err = st.Apply(frames)
	at := st.Applied()
	a.measured(uint64(at.LSN-from), time.Since(began))
	a.state.release()
	if err != nil {
		return fmt.Errorf("apply lsn %d to %d: %w", frames[0].First, frames[len(frames)-1].Last(), err)
	}
	failpoint.Hit(failpoint.AfterApply)
	a.applied(at)
	a.reached(at.LSN)
	return nil
}

func (a *applier) wait(ctx context.Context, d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	var published <-chan struct{}
	if a.reader != nil && a.next == nil {
		published = a.reader.Notify()
	}
	select {
	case <-a.kicked:
	case <-published:
	case <-due:
	case <-ctx.Done():
	}
}

// drop forgets the reader and what was read ahead.
func (a *applier) drop() {
	if a.reader != nil {
		a.reader.Close()
	}
	a.reader, a.next = nil, nil
}
