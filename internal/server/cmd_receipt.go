package server

import (
	"repld/wal"
)

// A durability receipt is the position behind a write, EPOCH/LSN/HASH, as text: the epoch and the chain hash of the frame that holds record LSN. The hash covers every
// byte of the log up to there, so whoever keeps receipts can ask any node, any time later, whether that history, with the write in it, is still the one that the cluster has.
//
//	REPLD.RECEIPT command [argument …]   executes a write and answers [reply, receipt]; an error is answered as it is, without
//	REPLD.RECEIPTS ON | OFF              the same for all writes of this connection, EXEC included
//	REPLD.HISTORY receipt                [verdict, reason]: in, not-in or unknown, of the node that is asked, which may be a standby
//
// A receipt is of the last record that the command's batch wrote or saw, which is at or behind the write. A write that changed nothing has one too: what it saw is in the history up to there.

// Verdict says whether a receipt's write is in a node's history.
type Verdict string

// Verdicts.
const (
	VerdictIn      Verdict = "in"
	VerdictNotIn   Verdict = "not-in"  // this history holds something else there: the write was lost, or given up
	VerdictUnknown Verdict = "unknown" // this node's log does not reach there: it was trimmed, or has not come so far
)

// Historian is a Backend that knows receipts.
type Historian interface {
	// Receipt returns the position of the frame that holds a committed record, with the record's LSN.
	Receipt(lsn wal.LSN) (wal.Position, error)
	// InHistory says whether a receipt is of this node's history, and why.
	InHistory(p wal.Position) (Verdict, string)
}

// cmdReceipt is REPLD.RECEIPT as a prefix.
func cmdReceipt(c *call) error {
	args := c.args[1:]
	cmd, _ := c.s.srv.table.lookup(args)
	_, can := c.s.srv.opts.Backend.(Historian)
	switch {
	case !can:
		return c.fail("ERR this server gives no receipts")
	case cmd == nil:
		return c.fail(unknownCommand(args))
	case !cmd.arityOK(len(args)):
		return c.fail("ERR wrong number of arguments for '" + cmd.full + "' command")
	case !cmd.has(fWrite) || cmd.has(fControl|fAlone|fBlocking) || cmd.do == nil || cmd.name == "repld.receipt" || (cmd.has(fNoMulti) && cmd.name != "repld.once"):
		return c.fail("ERR REPLD.RECEIPT executes commands that write; '" + cmd.full + "' is none that it may")
	}
	c.s.current.receipt = true
	outer, outerArgs := c.cmd, c.args
	c.cmd, c.args = cmd, args
	err := cmd.do(c)
	c.cmd, c.args = outer, outerArgs
	return err
}

// cmdReceipts is REPLD.RECEIPTS ON | OFF.
func cmdReceipts(c *call) error {
	_, can := c.s.srv.opts.Backend.(Historian)
	on := c.is(1, "on")
	switch {
	case !can:
		return c.fail("ERR this server gives no receipts")
	case !on && !c.is(1, "off"):
		return c.fail("ERR syntax error: REPLD.RECEIPTS ON or OFF")
	case on && c.s.srv.opts.Forward != nil:
		return c.fail("ERR REPLD.RECEIPTS is not known to the node that commands may be forwarded to: put REPLD.RECEIPT before each command")
	}
	c.s.receipts = on
	c.w.OK()
	return nil
}

// cmdHistory is REPLD.HISTORY receipt.
func cmdHistory(c *call) error {
	h, can := c.s.srv.opts.Backend.(Historian)
	if !can {
		return c.fail("ERR this server knows no receipts")
	}
	p, err := wal.ParsePosition(string(c.args[1]))
	if err != nil {
		return c.fail("ERR " + singleLine(err.Error()))
	}
	verdict, why := h.InHistory(p)
	c.w.Array(2)
	c.w.BulkString(string(verdict))
	c.w.BulkString(why)
	return nil
}

// addReceipts puts receipts beside the replies of a batch that is committed.
func (s *Session) addReceipts() {
	wants := func(e *entry) bool {
		return e.receipt || (s.receipts && !e.local && e.cmd != nil && (e.cmd.has(fWrite) || e.cmd.name == "exec"))
	}
	any := false
	for i := range s.batch[:s.next] {
		any = any || wants(&s.batch[i])
	}
	h, can := s.srv.opts.Backend.(Historian)
	if !any || !can {
		return
	}
	lsn := s.result.lsn
	if lsn == 0 {
		lsn = s.srv.opts.Backend.Status().Applied
	}
	at, err := h.Receipt(lsn)
	if err != nil {
		s.srv.opts.Logger.Warn("no receipt", "client", s.info.id, "lsn", lsn, "error", err)
	}
	replies := append([]byte(nil), s.out.Bytes()[s.base:]...)
	s.out.Truncate(s.base)
	for i := range s.batch[:s.next] {
		e := &s.batch[i]
		reply := replies[e.from-s.base : e.to-s.base]
		e.from = s.out.Len()
		if len(reply) > 0 && reply[0] != '-' && wants(e) {
			s.out.Array(2)
			s.out.Raw(reply)
			if err == nil {
				s.out.BulkString(at.String())
			} else {
				s.out.Null()
			}
		} else {
			s.out.Raw(reply)
		}
		e.to = s.out.Len()
	}
}
