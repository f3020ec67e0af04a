package node

import (
	"sync"
	"sync/atomic"

	"repld/replicate"
	"repld/wal"
)

// commit knows how far the log is committed. On the active the commit rule decides (durable here and acked by k of V, in this
// epoch); on a standby the active's word does.
type commit struct {
	kick func()                   // wakes the applier
	told func(wal.Epoch, wal.LSN) // the rule says that so much is committed; the lock is held and nobody knows yet

	committed atomic.Uint64

	mu struct {
		sync.Mutex
		rule  *replicate.CommitRule // nil unless active or about to be
		epoch wal.Epoch             // of the rule
		// changed is closed and forgotten whenever committed, the acks or the rule changed; made by wait, for rare waiters
		// (WAIT, promotion, drain).
		changed chan struct{}
	}
}

func newCommit(kick func(), told func(wal.Epoch, wal.LSN)) *commit {
	return &commit{kick: kick, told: told}
}

// lsn returns the highest LSN known to be committed.
func (c *commit) lsn() wal.LSN { return wal.LSN(c.committed.Load()) }

// start makes rule decide from now on, if its epoch is still ours: epochRose persists a higher one before it calls stop, so asking under the lock leaves no
// gap between the two.
func (c *commit) start(rule *replicate.CommitRule, epoch wal.Epoch, ours func() bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ours() {
		return false
	}
	c.mu.rule, c.mu.epoch = rule, epoch
	c.advanceLocked(rule.Committed())
	return true
}

// stop ends the rule: from its return on nothing more is committed by this node's word (R3: a node persists a higher epoch, stops, and only
// then answers).
func (c *commit) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.rule = nil
	c.broadcastLocked()
}

// update lets fn feed the rule; it does nothing when there is none.
func (c *commit) update(fn func(*replicate.CommitRule)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.rule == nil {
		return
	}
	fn(c.mu.rule)
	c.advanceLocked(c.mu.rule.Committed())
	c.broadcastLocked()
}

// inspect lets fn read the rule; it does nothing when there is none.
func (c *commit) inspect(fn func(*replicate.CommitRule)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.rule != nil {
		fn(c.mu.rule)
	}
}

// learned is a standby hearing from the active that lsn is committed.
func (c *commit) learned(lsn wal.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.rule == nil {
		c.advanceLocked(lsn)
	}
}

// rewind takes back what a standby has heard to be committed, before its log is cut there.
func (c *commit) rewind(to wal.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lsn() > to {
		c.committed.Store(uint64(to))
	}
}

// reset sets what is committed after the state was replaced by a snapshot.
func (c *commit) reset(lsn wal.LSN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed.Store(uint64(lsn))
	c.broadcastLocked()
}

// wait returns a channel that is closed at the next change.
func (c *commit) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.changed == nil {
		c.mu.changed = make(chan struct{})
	}
	return c.mu.changed
}

func (c *commit) advanceLocked(lsn wal.LSN) {
	if uint64(lsn) > c.committed.Load() {
		if c.mu.rule != nil {
			c.told(c.mu.epoch, lsn)
		}
		c.committed.Store(uint64(lsn))
		c.broadcastLocked()
		c.kick()
	}
}

func (c *commit) broadcastLocked() {
	if c.mu.changed != nil {
		close(c.mu.changed)
		c.mu.changed = nil
	}
}
