package invariant

import "repld/wal"

// Applied says that node's state, which was at from, took in frames (R7).
func (c *Checker) Applied(node string, from wal.Position, frames []Frame) {
	for _, f := range frames {
		if f.Prev != from.Hash || f.First != from.LSN+1 {
			c.Fail("R7", "%s applied LSN %d to %d to a state at %v", node, f.First, f.End.LSN, from)
		}
		from = f.End
		if yes, _ := c.has(f.End); !yes && !c.givenUp[f.End.Hash] {
			c.Fail("R7", "%s applied %v, committed is %v", node, f.End, c.End())
		}
	}
}

// Answered says that node, in its incarnation, answered somebody under epoch, held by holder (R3).
func (c *Checker) Answered(node string, incarnation uint64, epoch wal.Epoch, holder string) {
	if p := c.promises[node]; p.incarnation == incarnation && p.epoch > epoch {
		c.Fail("R3", "%s answered under epoch %d of %s after epoch %d of %s", node, epoch, holder, p.epoch, p.holder)
	}
	c.promises[node] = promise{incarnation, epoch, holder}
}

// Restarted says which epoch node obeys after a restart (R3).
func (c *Checker) Restarted(node string, incarnation uint64, epoch wal.Epoch, holder string) {
	p := c.promises[node]
	if p.incarnation != incarnation {
		return
	}
	lost := p.holder == node // a rival that gave up its own promise
	if epoch < p.epoch || epoch == p.epoch && holder != p.holder && !lost {
		c.Fail("R3", "%s obeys epoch %d of %q after a restart, and answered under epoch %d of %s before it", node, epoch, holder, p.epoch, p.holder)
	}
}

// Replaced says that node's disk was set back to an older copy of itself: what it promised since is not held against it.
func (c *Checker) Replaced(node string) { delete(c.promises, node) }

// Wiped says that node's disk was lost (R11). It owes all that was committed by then.
func (c *Checker) Wiped(node string) { c.debts[node] = c.End() }

// Counted says that node's durable log was counted, by a promotion without consent or for a commit (R11).
func (c *Checker) Counted(node, why string, log History) {
	owed, ok := c.debts[node]
	if !ok || c.consenting() {
		return // what is owed is not known before the epoch that consent began has committed
	}
	at, err := log.PositionAt(owed.LSN)
	if err == nil && at != owed && !c.givenUp[owed.Hash] {
		c.Fail("R11", "%s was wiped when %v was committed, and is counted for %s with %v there", node, owed, why, at)
	}
	delete(c.debts, node)
}

// Removed says that node removed frames from its log, how many of them, the last ones, it saved aside, and whether a snapshot replaced them (R9). Only then
// may committed ones be among them.
func (c *Checker) Removed(node string, cut []Frame, saved int, replaced bool) {
	for i, f := range cut {
		yes, _ := c.has(f.End)
		switch {
		case yes && c.consenting():
			c.givenUp[f.End.Hash] = true
		case yes && !replaced:
			c.Fail("R9", "%s cut %v, which is committed", node, f.End)
		case !yes && i < len(cut)-saved && !c.givenUp[f.End.Hash]:
			c.Fail("R9", "%s removed %v, which is not committed, without saving it", node, f.End)
		}
	}
}

// consenting reports whether an epoch that a person consented to has begun and not committed yet: what it will not hold may be cut already.
func (c *Checker) consenting() bool {
	for e := range c.consents {
		if e > c.rebased {
			return true
		}
	}
	return false
}

// Vouched says that node acked LSN acked when its log was really durable up to durable (R1, R10).
func (c *Checker) Vouched(node string, epoch wal.Epoch, acked, durable wal.LSN) {
	if acked > durable {
		c.Fail("R1", "%s acked LSN %d in epoch %d with its log durable up to %d", node, acked, epoch, durable)
	}
}

// Owes reports whether node was wiped and did not count again since.
func (c *Checker) Owes(node string) bool {
	_, ok := c.debts[node]
	return ok
}
