package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"repld/replicate"
	"repld/wal"
)

// alarmDegraded is raised while fewer copies are promised than configured.
const alarmDegraded = "degraded"

// syncSet changes the sync set of the epoch by the policy "shrink": when a commit has waited for ShrinkAfter because too few members ack, the set is
// made smaller, recorded in the token store first (R6); when the members are back and have caught up, it grows again. What is promised meanwhile is said in
// status, log and metrics.
type syncSet struct {
	*group
	stuckAt wal.LSN   // committed LSN when it was first seen not to move
	since   time.Time // of that
}

// run looks after the sync set while this node is active.
func (s *syncSet) run(ctx context.Context) error {
	t := time.NewTicker(s.o.Sync.ShrinkAfter / 10)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if !s.active() {
				s.since = time.Time{}
				s.alarms.clear(alarmDegraded)
				continue
			}
			if err := s.look(ctx); err != nil {
				s.logger.Warn("sync set not changed", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *syncSet) look(ctx context.Context) error {
	var current wal.SyncSet
	var pending *wal.SyncSet
	s.commit.inspect(func(r *replicate.CommitRule) { current, pending = r.Rule() })
	if pending != nil || current.Version == 0 {
		return nil
	}
	if full := s.nextSync(); !sameSet(current, full) && len(s.present(full.Members, s.commit.lsn())) == len(full.Members) {
		full.Version = current.Version + 1
		return s.change(ctx, current, full)
	}
	if !s.stuck() {
		return nil
	}
	// Shrink to the members that are there: k falls only as far as there is nobody left to ack.
	here := s.present(current.Members, 0)
	next := wal.SyncSet{Version: current.Version + 1, Members: here, K: min(current.K, len(here))}
	if sameSet(next, current) {
		return nil
	}
	return s.change(ctx, current, next)
}

// stuck reports whether the committed LSN has stood still for ShrinkAfter although there is more in the log.
func (s *syncSet) stuck() bool {
	at := s.commit.lsn()
	if at >= s.log.Durable().LSN {
		s.since = time.Time{}
		return false
	}
	if s.since.IsZero() || s.stuckAt != at {
		s.stuckAt, s.since = at, time.Now()
		return false
	}
	return time.Since(s.since) >= s.o.Sync.ShrinkAfter
}

// change goes through the steps of R6 in their order: tighten the commit rule, record the set, loosen.
func (s *syncSet) change(ctx context.Context, from, to wal.SyncSet) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.CommitTimeout)
	defer cancel()
	err := error(errors.New("not active"))
	s.commit.update(func(r *replicate.CommitRule) { err = r.SetRule(to) })
	if err != nil {
		return err
	}
	if err := s.covered(ctx); err != nil {
		s.commit.update((*replicate.CommitRule).Abandon)
		return err
	}
	if err := s.record(ctx, to); err != nil {
		// The record may have been written: there is no way back. The stricter of both sets stays in force.
		s.alarms.raise(alarmDegraded, fmt.Sprintf("change of the sync set from %s to %s is not recorded: %v", from, to, err))
		return err
	}
	s.sender.SetSync(to)
	s.commit.update(func(r *replicate.CommitRule) { err = r.Settle() })
	if err != nil {
		return err
	}
	s.logger.Warn("sync set changed", "from", from, "to", to)
	if full := s.nextSync(); to.K < full.K || len(to.Members) < len(full.Members) {
		s.alarms.raise(alarmDegraded, fmt.Sprintf("sync set is %s, configured is %s: fewer copies are promised", to, full))
	} else {
		s.alarms.clear(alarmDegraded)
	}
	return nil
}

// covered waits until the pending set alone would have committed what is committed.
func (s *syncSet) covered(ctx context.Context) error {
	for {
		changed := s.commit.wait()
		ok := false
		s.commit.inspect(func(r *replicate.CommitRule) { ok = r.Covered() })
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the new sync set does not have what is committed: %w", context.Cause(ctx))
		}
	}
}

// record writes the set into the token, which all nodes share, and into this node's own epoch file.
func (s *syncSet) record(ctx context.Context, to wal.SyncSet) error {
	rec, err := s.token.Load(ctx)
	if err != nil {
		return err
	}
	if rec.Epoch != s.fence.Epoch() || rec.Holder != s.o.Name {
		return fmt.Errorf("token is at epoch %d of %s", rec.Epoch, rec.Holder)
	}
	next := rec
	next.Sync, next.Reason, next.Time = to, "sync set changed", time.Now()
	if _, err := s.token.CompareAndSet(ctx, rec.Rev, next); err != nil {
		return err
	}
	return s.fence.Observe(rec.Epoch, s.o.Name, to)
}

// present lists the members whose acks count now and reach lsn.
func (s *syncSet) present(members []string, lsn wal.LSN) []string {
	here := []string{}
	for _, p := range s.sender.Standbys() {
		if p.Purpose == replicate.Follow && p.Counts && p.Durable >= lsn && slices.Contains(members, p.Name) {
			here = append(here, p.Name)
		}
	}
	slices.Sort(here)
	return here
}

func sameSet(a, b wal.SyncSet) bool {
	x, y := slices.Clone(a.Members), slices.Clone(b.Members)
	slices.Sort(x)
	slices.Sort(y)
	return a.K == b.K && slices.Equal(x, y)
}
