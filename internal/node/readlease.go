package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"repld/failover"
	"repld/internal/heartbeat"
	"repld/internal/server"
	"repld/wal"
)

// readLease is the active's lease for linearizable reads (R14), and what a new active knows of older ones. While it lives a read costs a look at the
// clock, no disk and no round trip.
type readLease struct {
	clock  func() failover.Mono
	local  bool // reads: local: no lease is asked for
	length failover.Mono

	until atomic.Int64 // as failover.Mono

	mu struct {
		sync.Mutex
		lease    *failover.Lease
		epoch    wal.Epoch
		began    failover.Mono   // of epoch: acks of what was sent before do not count
		granted  map[string]bool // nodes that granted epoch to this one: what they held is over
		oldUntil failover.Mono   // until when an older active may answer reads, as far as anybody who answered knows
		moved    chan struct{}   // closed and forgotten when until changed; made by wait
	}
}

func newReadLease(o failover.LeaseOptions, local bool, clock func() failover.Mono) *readLease {
	l := &readLease{clock: clock, local: local, length: o.Length}
	l.mu.lease = failover.NewLease(o)
	return l
}

// fenced begins the epoch that answers granted to node: they know how long older actives may still read.
func (l *readLease) fenced(epoch wal.Epoch, node string, answers []failover.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	l.mu.epoch, l.mu.began, l.mu.granted, l.mu.oldUntil = epoch, now, map[string]bool{}, 0
	for _, a := range answers {
		l.mu.granted[a.Node] = a.Reachable && a.Epoch == epoch && a.Holder == node
	}
	for _, a := range answers {
		if l.mu.granted[a.Node] {
			l.owedLocked(a.LeaseOf, a.LeaseLeft, now)
		}
	}
	l.mu.lease.Reset(wal.SyncSet{K: 1}) // nothing is leased before begin names the sync set
	l.storeLocked()
}

// owedLocked notes that an older active may answer reads for so much longer, unless it granted the epoch itself.
func (l *readLease) owedLocked(of string, left failover.Mono, now failover.Mono) {
	if left > 0 && !l.mu.granted[of] {
		l.mu.oldUntil = max(l.mu.oldUntil, now+left)
	}
}

// begin names the sync set of the epoch, before its first record.
func (l *readLease) begin(epoch wal.Epoch, sync wal.SyncSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.epoch != epoch {
		l.mu.epoch, l.mu.granted, l.mu.oldUntil = epoch, nil, 0
	}
	l.mu.began = l.clock()
	l.mu.lease.Reset(sync)
	l.storeLocked()
}

// acked takes a voter's ack of a heartbeat that was sent at sent. sets are the sync sets in force.
func (l *readLease) acked(voter string, a heartbeat.Ack, sent failover.Mono, sets []wal.SyncSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !a.Supports || a.Epoch != l.mu.epoch || sent < l.mu.began {
		return
	}
	l.owedLocked(a.Of, failover.Mono(a.Left), l.clock())
	if sets != nil {
		l.mu.lease.SetSync(sets...)
	}
	l.mu.lease.Acked(voter, sent)
	l.storeLocked()
}

// changed takes note of other sync sets, or of maintenance, before anybody may be promoted by them (R6).
func (l *readLease) changed(majority bool, sets []wal.SyncSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.lease.SetMajority(majority)
	if sets != nil {
		l.mu.lease.SetSync(sets...)
	}
	l.storeLocked()
}

func (l *readLease) storeLocked() {
	l.until.Store(int64(l.mu.lease.Until()))
	if l.mu.moved != nil {
		close(l.mu.moved)
		l.mu.moved = nil
	}
}

// live reports whether the lease lives now.
func (l *readLease) live() bool {
	until := failover.Mono(l.until.Load())
	return until == failover.Forever || until > 0 && l.clock() < until
}

// wait waits, at most for limit, until the lease lives, or until ok says that this is no use any more.
func (l *readLease) wait(ctx context.Context, limit time.Duration, ok func() bool) bool {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		if l.mu.moved == nil {
			l.mu.moved = make(chan struct{})
		}
		moved := l.mu.moved
		l.mu.Unlock()
		if l.live() {
			return true
		}
		look := time.NewTimer(limit / 10) // ok may change without us
		select {
		case <-moved:
		case <-look.C:
		case <-deadline.C:
			look.Stop()
			return false
		case <-ctx.Done():
			look.Stop()
			return false
		}
		look.Stop()
		if !ok() {
			return false
		}
	}
}

// older waits until no older active can answer reads any more, as far as the answers to the fence and the acks of this epoch show.
func (l *readLease) older(ctx context.Context) error {
	for {
		l.mu.Lock()
		left := time.Duration(l.mu.oldUntil - l.clock())
		l.mu.Unlock()
		if left <= 0 {
			return nil
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// outlastOlder is the last step of a promotion before clients are let in: no older active may answer reads any more (R14). When the voters elect, this node must have its own
// lease too: whoever supports it supports no other one. A promotion that a person ordered goes on without, after as long as any lease lasts.
func (g *group) outlastOlder(ctx context.Context) error {
	began := time.Now()
	if g.majorityLease() && !g.lease.wait(ctx, readWait*time.Duration(g.lease.length), func() bool { return g.runner.Role() == failover.RoleCandidate }) {
		if g.consented.Load() {
			return errors.New("no majority of the voters supports this node any more")
		}
		g.logger.Warn("promoted without a lease: too few voters support this node")
	}
	if err := g.lease.older(ctx); err != nil {
		return fmt.Errorf("wait for the end of an older lease: %w", err)
	}
	if took := time.Since(began); took > 10*time.Millisecond {
		g.logger.Info("waited for the end of an older lease, or for ours", "took", took)
	}
	return nil
}

// readWait is how long a read waits for a lease that was lost before it is refused, in lengths of the lease.
const readWait = 3

// mayRead reports whether the active may answer reads: it has its lease, or gets it back within limit.
func (g *group) mayRead(limit time.Duration) bool {
	if g.lease.local || g.lease.live() {
		return true
	}
	return g.lease.wait(context.Background(), limit, g.active)
}

// errNoLease refuses a read on an active that may not be the active any more.
func (g *group) errNoLease() error {
	return server.Errorf("MASTERDOWN", "This node is active in epoch %d, but too few voters have confirmed that lately, so another one may be by now. (reads: linearizable)", g.fence.Epoch())
}
