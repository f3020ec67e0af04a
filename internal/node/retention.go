package node

import (
	"context"
	"log/slog"
	"time"

	"repld/wal"
)

// retention cuts the head of the log. The log keeps as much history as its budget allows: a standby that was away for a while then catches
// up from the log instead of from a snapshot. Over the budget the oldest segments go, except what a connected standby still needs or will need
// after the snapshot that it is receiving, up to twice the budget; beyond that they go whoever wants them: the disk never fills because of a
// standby. What the state has not surely flushed is never cut.
type retention struct {
	log      *wal.Log
	state    *state
	budget   int64                  // bytes
	needed   func() (wal.LSN, bool) // the first LSN that standbys need, if any does
	every    time.Duration
	measured func(stateBytes int64)
	logger   *slog.Logger

	before struct { // what needed said at the trim before
		lsn wal.LSN
		ok  bool
	}
}

// run trims until ctx ends.
func (r *retention) run(ctx context.Context) error {
	t := time.NewTicker(r.every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := r.trim(); err != nil {
				r.logger.Warn("log not trimmed", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *retention) trim() error {
	if st, err := r.state.acquire(); err == nil {
		r.measured(int64(st.Metrics().DiskBytes))
		r.state.release()
	}
	lsn, ok := r.held()
	if r.log.Bytes() <= r.budget {
		return nil
	}
	target := r.excess(r.budget)
	if ok && lsn <= target {
		target = max(lsn-min(lsn, 1), r.excess(2*r.budget))
	}
	flushed, err := r.flushed(target)
	if err != nil {
		return err
	}
	removed, err := r.log.TruncateHead(min(target, flushed))
	if removed > 0 {
		r.logger.Info("log trimmed", "segments", removed, "start", r.log.Start().LSN, "bytes", r.log.Bytes())
	}
	return err
}

// held is the first LSN that standbys need now or needed at the trim before: for a moment, between the end of its snapshot and the begin of its stream, a standby does
// not say what it needs.
func (r *retention) held() (wal.LSN, bool) {
	lsn, ok := r.needed()
	before := r.before
	r.before.lsn, r.before.ok = lsn, ok
	if before.ok && (!ok || before.lsn < lsn) {
		return before.lsn, true
	}
	return lsn, ok
}

// excess returns the last LSN of the segments that are over a budget.
func (r *retention) excess(budget int64) wal.LSN {
	var target wal.LSN
	over := r.log.Bytes() - budget
	for _, s := range r.log.Segments() {
		if over <= 0 {
			break
		}
		over -= s.Bytes
		target = s.Last
	}
	return target
}

// flushed returns up to where the state is surely on disk, after flushing it if that holds back the cut.
func (r *retention) flushed(target wal.LSN) (wal.LSN, error) {
	st, err := r.state.acquire()
	if err != nil {
		return 0, err
	}
	defer r.state.release()
	at, err := st.DurablyApplied()
	if err != nil || at.LSN >= target || st.Applied().LSN < target {
		return at.LSN, err
	}
	if err := st.Flush(); err != nil {
		return 0, err
	}
	at, err = st.DurablyApplied()
	return at.LSN, err
}
