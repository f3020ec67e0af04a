package invariant

import "repld/wal"

// Consented says that epoch was begun with consent to data loss.
func (c *Checker) Consented(epoch wal.Epoch) { c.consents[epoch] = true }

// Committed says that node, as the holder of epoch, now counts everything up to lsn of its log as committed (R1, R2, R5).
func (c *Checker) Committed(node string, epoch wal.Epoch, log History, from, lsn wal.LSN) {
	if epoch < c.rebased {
		for _, f := range log.Frames(from, lsn) {
			if yes, _ := c.has(f.End); !yes {
				c.givenUp[f.End.Hash] = true
			}
		}
		return
	}
	if e := c.consentedIn(epoch, log); e > 0 {
		c.rebase(e, log, lsn)
	}
	if who, ok := c.committer[epoch]; ok && who != node {
		c.Fail("R2", "%s committed LSN %d in epoch %d, in which %s committed before", node, lsn, epoch, who)
	}
	c.committer[epoch] = node
	if epoch < c.newest && int(lsn) > len(c.committed) { // what the new history holds may still be learned to be committed
		c.Fail("R2", "%s committed LSN %d in epoch %d after a commit in epoch %d of %s", node, lsn, epoch, c.newest, c.committer[c.newest])
	}
	c.newest = max(c.newest, epoch)
	for _, f := range log.Frames(min(from, wal.LSN(len(c.committed))), lsn) {
		c.commit(node, epoch, f)
	}
}

// consentedIn returns the newest epoch, epoch itself or one that log went through, that was begun with consent and has not been taken in yet; 0 if there is none.
func (c *Checker) consentedIn(epoch wal.Epoch, log History) (newest wal.Epoch) {
	if !c.consenting() {
		return 0
	}
	if c.consents[epoch] && epoch > c.rebased {
		return epoch
	}
	for _, f := range log.Frames(0, log.End().LSN) {
		if e := f.End.Epoch; c.consents[e] && e > c.rebased && e > newest {
			newest = e
		}
	}
	return newest
}

func (c *Checker) commit(node string, epoch wal.Epoch, f Frame) {
	if int(f.End.LSN) <= len(c.committed) {
		if yes, _ := c.has(f.End); !yes {
			c.Fail("R1", "%s committed %v in epoch %d, where %v was committed before", node, f.End, epoch, c.committed[f.End.LSN-1].end)
		}
		return
	}
	if int(f.First) != len(c.committed)+1 {
		c.Fail("R1", "%s committed LSN %d to %d in epoch %d, the committed history ends at %v", node, f.First, f.End.LSN, epoch, c.End())
		return
	}
	if end := c.End(); f.Prev != end.Hash && !(end.LSN == 0 && len(c.committed) > 0) {
		c.Fail("R1", "%s committed LSN %d in epoch %d after hash %v, the committed history ends at %v", node, f.First, epoch, f.Prev, end)
	}
	for _, r := range f.Records {
		c.committed = append(c.committed, entry{end: f.End, record: r})
	}
}

// rebase sets the committed history back to what log, adopted with consent, shares with it.
func (c *Checker) rebase(epoch wal.Epoch, log History, lsn wal.LSN) {
	c.rebased = epoch
	start := log.Start().LSN
	keep := min(wal.LSN(len(c.committed)), lsn)
	for ; keep > start; keep-- {
		p, err := log.PositionAt(keep)
		if err == nil && p.LSN == keep && c.committed[keep-1].end == p {
			break
		}
	}
	for _, e := range c.committed[keep:] {
		c.givenUp[e.end.Hash] = true
	}
	c.committed = c.committed[:keep:keep]
	for wal.LSN(len(c.committed)) < start {
		c.committed = append(c.committed, entry{}) // known only to logs that were trimmed
	}
	if start > 0 && keep <= start {
		c.committed[start-1] = entry{end: log.Start()}
	}
	c.newest = 0
	for e := range c.committer {
		if e >= epoch && e > c.newest {
			c.newest = e
		}
	}
	for n, owed := range c.debts {
		if int(owed.LSN) > len(c.committed) {
			c.debts[n] = c.End()
		}
	}
}

// Acked says that a client was told by node, in epoch, that its record is LSN lsn (R1).
func (c *Checker) Acked(node string, epoch wal.Epoch, lsn wal.LSN, record uint64) {
	c.acked++
	if epoch < c.rebased {
		c.forgiven++
		return
	}
	c.ackedTo = max(c.ackedTo, lsn)
	if int(lsn) > len(c.committed) {
		c.Fail("R1", "%s acked LSN %d in epoch %d, committed is %v", node, lsn, epoch, c.End())
		return
	}
	if e := c.committed[lsn-1]; e.end.LSN != 0 && e.record != 0 && e.record != record {
		c.Fail("R1", "%s acked a record as LSN %d in epoch %d, where another one is committed", node, lsn, epoch)
	}
}

// Read says that node answers a linearizable read in epoch from its state at lsn: everything that was acked before is in it (R14). Once somebody has consented to loss
// nothing is held: whoever was given up may not know it.
func (c *Checker) Read(node string, epoch wal.Epoch, lsn wal.LSN) {
	if lsn < c.ackedTo && len(c.consents) == 0 {
		c.Fail("R14", "%s answers a read in epoch %d from its state at LSN %d, LSN %d was acked before", node, epoch, lsn, c.ackedTo)
	}
}

// Active says that node lets clients write in epoch, on log (R1, R5).
func (c *Checker) Active(node string, epoch wal.Epoch, log History) {
	if epoch < c.rebased {
		return
	}
	if err := c.continues(log, epoch); err != nil {
		c.Fail("R5", "%s is active in epoch %d, but %v", node, epoch, err)
	}
}

// Copies says that node counted lsn as committed under a rule that asks for so many acks, and on how many other disks its log up to there is (R1).
func (c *Checker) Copies(node string, epoch wal.Epoch, lsn wal.LSN, asked, found int) {
	if found < asked && epoch >= c.rebased {
		c.Fail("R1", "%s committed LSN %d in epoch %d with %d copies besides its own, %d were asked for", node, lsn, epoch, found, asked)
	}
}
