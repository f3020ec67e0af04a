package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"repld/internal/events"
	"repld/replicate"
	"repld/wal"
)

// alarmDegraded is raised while fewer copies are promised than configured.
const alarmDegraded = "degraded"

// syncSet looks after the sync set of the epoch that this node holds. With policy "shrink", when a commit has waited for ShrinkAfter because too few members
// ack, the set is made smaller, recorded in the shared token store first (R6). A set that is smaller than configured, by that or by the word of whoever
// promoted this node, grows again when enough members are there. What is promised meanwhile is said in status, log and metrics.
type syncSet struct {
	*group
	stuckAt wal.LSN   // committed LSN when it was first seen not to move
	since   time.Time // of that
}

// run looks after the sync set while this node is active.
func (s *syncSet) run(ctx context.Context) error {
	t := time.NewTicker(min(s.o.Sync.ShrinkAfter/10, time.Second))
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
	if pending != nil {
		return s.settle(ctx, *pending) // an earlier attempt did not get through
	}
	if current.Version == 0 {
		return nil
	}
	full := s.nextSync()
	if current.K >= full.K && len(current.Members) >= len(full.Members) {
		s.alarms.clear(alarmDegraded)
	} else {
		s.alarms.raise(alarmDegraded, fmt.Sprintf("sync is %s, configured is %s: fewer copies are promised", current, full))
		if s.close(ctx, full) {
			full.Version = current.Version + 1
			return s.change(ctx, full)
		}
	}
	if s.o.Sync.Policy != PolicyShrink || !s.token.Shared() || !s.stuck() {
		return nil
	}
	// k falls only as far as there is nobody left to ack.
	here := s.present(current.Members, 0)
	next := wal.SyncSet{Version: current.Version + 1, Members: here, K: min(current.K, len(here))}
	if sameSet(next, current) {
		return nil
	}
	return s.change(ctx, next)
}

// closeWithin is how far behind, in time, members may be to be counted on again: so long writes wait at most when the set grows.
const closeWithin = 100 * time.Millisecond

// close reports whether k members have what was committed a moment ago. Under load nobody ever has what is committed now, and a set that waits for that promises fewer
// copies for seconds more.
func (s *syncSet) close(ctx context.Context, full wal.SyncSet) bool {
	ctx, cancel := context.WithTimeout(ctx, closeWithin)
	defer cancel()
	at := s.commit.lsn()
	for {
		changed := s.commit.wait()
		if len(s.present(full.Members, at)) >= full.K {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
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
func (s *syncSet) change(ctx context.Context, to wal.SyncSet) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.CommitTimeout)
	defer cancel()
	err := errors.New("not active")
	s.commit.update(func(r *replicate.CommitRule) { err = r.SetRule(to) })
	if err != nil {
		return err
	}
	s.leaseTerms()
	if err := s.until(ctx, (*replicate.CommitRule).Covered); err != nil {
		s.commit.update((*replicate.CommitRule).Abandon)
		return fmt.Errorf("sync set %s does not have what is committed: %w", to, err)
	}
	return s.settle(ctx, to)
}

// settle records the pending set and puts it in force alone. Once it has begun there is no way back, whatever the store answers: until it succeeds a commit
// needs both sets. It may be called again.
func (s *syncSet) settle(ctx context.Context, to wal.SyncSet) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.CommitTimeout)
	defer cancel()
	if err := s.record(ctx, to); err != nil {
		return fmt.Errorf("record sync set %s: %w", to, err)
	}
	s.sender.SetSync(to)
	if !s.token.Shared() {
		if err := s.until(ctx, (*replicate.CommitRule).Recorded); err != nil {
			return fmt.Errorf("sync set %s is not known to enough members: %w", to, err)
		}
	}
	s.commit.update(func(r *replicate.CommitRule) { err = r.Settle() })
	if err == nil {
		s.logger.Warn("sync set changed", "sync", to)
		s.events.Record(events.SyncSet, "sync set changed", slog.Any("sync", to))
	}
	return err
}

// until waits until the commit rule says so.
func (s *syncSet) until(ctx context.Context, so func(*replicate.CommitRule) bool) error {
	for {
		changed := s.commit.wait()
		ok := false
		s.commit.inspect(func(r *replicate.CommitRule) { ok = so(r) })
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// record writes the set into the token and into this node's own epoch file.
func (s *syncSet) record(ctx context.Context, to wal.SyncSet) error {
	rec, err := s.token.Load(ctx)
	if err != nil {
		return err
	}
	if rec.Epoch != s.fence.Epoch() || rec.Holder != s.o.Name {
		return fmt.Errorf("token is at epoch %d of %s", rec.Epoch, rec.Holder)
	}
	if rec.Sync.Version >= to.Version {
		return s.fence.Observe(rec.Epoch, s.o.Name, to)
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
