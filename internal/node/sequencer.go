package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// sequencer gives writes their order: one lock, one order (DESIGN section 4, step 2). Sessions evaluate their commands under
// it, on their own goroutines; the records go straight into the log writer's pending frame. A submission is answered when
// everything that it saw or wrote is applied, in LSN order.
//
// Lock order: sequencer.mu before the log writer's; never held across I/O.
type sequencer struct {
	applied func() wal.LSN // what the state holds
	limit   int64          // bytes of records that may be in the log and not yet applied
	wait    time.Duration  // how long a submission waits for room
	watches server.Watches
	full    atomic.Pointer[server.Error] // why records are refused one by one; nil while there is room on the disk
	writer  atomic.Pointer[wal.Writer]   // not nil while the gate is open or paused

	mu struct {
		sync.Mutex
		gate    gate
		refusal error         // what a submission is told while the gate is closed
		resumed chan struct{} // closed when a pause ends
		overlay *kv.Sequencer // effects in the log that are not applied yet
		last    wal.LSN       // last record that was appended
		flight  []inFlight    // submissions that are not applied, in LSN order
		bytes   int64         // of their records
		room    chan struct{} // closed and forgotten when bytes falls below limit; nil if nobody waits
		sweeps  uint64        // clock of the waits: one each sweepEvery
		waiting []waiter      // in LSN order
		batch   sequence      // the one evaluation that is going on
	}
	done []waiter // scratch of finish; owned by the applier
}

// inFlight is what one submission wrote.
type inFlight struct {
	lsn   wal.LSN // its last record
	bytes int64
}

type gate uint8

const (
	gateClosed gate = iota
	gatePaused
	gateOpen
)

// waiter is a submission whose answer waits until lsn, the last record that it saw or wrote, is applied.
type waiter struct {
	lsn   wal.LSN
	since uint64 // sweep in which it began to wait
	done  func(wal.LSN, error)
}

func newSequencer(applied func() wal.LSN, limit int64, wait time.Duration, refusal error) *sequencer {
	s := &sequencer{applied: applied, limit: limit, wait: wait}
	s.mu.refusal = refusal
	s.mu.batch.s = s
	return s
}

// start hands the sequencer its epoch's writer. The gate stays paused until open.
func (s *sequencer) start(w *wal.Writer, overlay *kv.Sequencer, last wal.LSN) {
	overlay.Touched(s.watches.Touch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gate != gateClosed {
		panic("node: sequencer started twice")
	}
	s.mu.gate, s.mu.overlay, s.mu.last = gatePaused, overlay, last
	s.writer.Store(w)
	s.mu.resumed = make(chan struct{})
}

// open lets submissions through.
func (s *sequencer) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gate == gatePaused {
		s.mu.gate = gateOpen
		close(s.mu.resumed)
	}
}

// pause makes new submissions wait until open or close. What is in the log stays on its way.
func (s *sequencer) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.gate == gateOpen {
		s.mu.gate = gatePaused
		s.mu.resumed = make(chan struct{})
	}
}

// stop closes the gate and tells every submission in flight that its outcome is unknown (R13). It returns the writer, which the
// caller closes, or nil if the gate was closed already (then only the refusal changes).
func (s *sequencer) stop(refusal error) *wal.Writer {
	s.mu.Lock()
	s.mu.refusal = refusal
	w := s.writer.Swap(nil)
	if s.mu.gate == gatePaused {
		close(s.mu.resumed)
	}
	lost := s.mu.waiting
	s.mu.gate, s.mu.overlay, s.mu.waiting = gateClosed, nil, nil
	s.mu.flight, s.mu.bytes = nil, 0
	s.roomLocked()
	s.watches.Invalidate()
	s.mu.Unlock()
	for _, l := range lost {
		l.done(l.lsn, server.ErrUnknown)
	}
	return w
}

// refuse changes what submissions are told while the gate is closed.
func (s *sequencer) refuse(refusal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.refusal = refusal
}

// idle reports whether nothing is in flight: all that was appended is applied and answered.
func (s *sequencer) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.waiting) == 0 && s.mu.last <= s.applied()
}

// submit is server.Backend.Submit.
func (s *sequencer) submit(ctx context.Context, fn func(server.Sequence) error, done func(wal.LSN, error)) {
	if err := s.admit(ctx); err != nil {
		done(0, err)
		return
	}
	// s.mu is locked from here on.
	b := &s.mu.batch
	b.wrote, b.err, b.bytes = false, nil, 0
	err := fn(b)
	if b.wrote {
		s.mu.flight = append(s.mu.flight, inFlight{lsn: s.mu.last, bytes: b.bytes})
		s.mu.bytes += b.bytes
	}
	if b.err != nil {
		err = b.err
	}
	last := s.mu.last
	switch {
	case err != nil && b.wrote:
		err = server.ErrUnknown // a part of the batch is in the log
	case err == nil && (last > s.applied() || len(s.mu.waiting) > 0):
		s.mu.waiting = append(s.mu.waiting, waiter{lsn: last, since: s.mu.sweeps, done: done})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	done(last, err)
}

// finish drops what is applied from the overlay and answers the submissions up to lsn. Only the applier calls it.
func (s *sequencer) finish(lsn wal.LSN) {
	s.mu.Lock()
	if s.mu.overlay != nil {
		s.mu.overlay.Applied(lsn)
	}
	n := 0
	for n < len(s.mu.waiting) && s.mu.waiting[n].lsn <= lsn {
		n++
	}
	s.done = s.takeLocked(s.done, n)
	f := 0
	for ; f < len(s.mu.flight) && s.mu.flight[f].lsn <= lsn; f++ {
		s.mu.bytes -= s.mu.flight[f].bytes
	}
	s.mu.flight = append(s.mu.flight[:0], s.mu.flight[f:]...)
	s.roomLocked()
	s.mu.Unlock()
	for i := range s.done {
		s.done[i].done(s.done[i].lsn, nil)
		s.done[i].done = nil
	}
}

// sweepEvery is the resolution of the bound on a wait.
const sweepEvery = 100 * time.Millisecond

// sweep tells submissions that have waited for longer than limit that their outcome is unknown (R12, R13), until ctx ends. Their records stay in the log and
// may still be committed.
func (s *sequencer) sweep(ctx context.Context, limit time.Duration) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	bound := uint64(limit/sweepEvery) + 1
	var late []waiter
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		s.mu.Lock()
		s.mu.sweeps++
		n := 0
		for n < len(s.mu.waiting) && s.mu.sweeps-s.mu.waiting[n].since > bound {
			n++
		}
		late = s.takeLocked(late, n)
		s.mu.Unlock()
		for i := range late {
			late[i].done(late[i].lsn, server.ErrUnknown)
		}
		clear(late)
	}
}

// takeLocked moves the first n waiters into buf.
func (s *sequencer) takeLocked(buf []waiter, n int) []waiter {
	buf = append(buf[:0], s.mu.waiting[:n]...)
	rest := copy(s.mu.waiting, s.mu.waiting[n:])
	clear(s.mu.waiting[rest:])
	s.mu.waiting = s.mu.waiting[:rest]
	return buf
}

// mark appends a digest mark and calls done when it is applied here.
func (s *sequencer) mark(ctx context.Context, id string, done func(wal.LSN, error)) {
	s.submit(ctx, func(seq server.Sequence) error {
		_, err := seq.(*sequence).append(wal.KindMark, []byte(id))
		return err
	}, done)
}
