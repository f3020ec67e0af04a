package server

// transaction is what MULTI and WATCH began on a connection.
type transaction struct {
	open       bool
	dirty      bool // a command was refused while queueing: EXEC aborts
	writes     bool
	reads      bool
	needStatus bool
	watching   bool
	watcher    *Watcher
	expires    int64 // unix ms at which the first watched key expires, 0 if none does
	queued     []queuedCommand
	bytes      int
}

type queuedCommand struct {
	cmd  *command
	args [][]byte
}

// queue keeps a command for EXEC. Its arguments are copied, because they are memory of the reader.
func (s *Session) queue(e *entry) {
	tx := &s.tx
	size := 0
	for _, a := range e.args {
		size += len(a) + 24
	}
	if tx.bytes+size > s.srv.opts.MaxTransactionBytes {
		tx.dirty = true
		s.out.Error("ERR Transaction is larger than the server allows")
		return
	}
	memory := make([]byte, 0, size-24*len(e.args))
	args := make([][]byte, len(e.args))
	for i, a := range e.args {
		at := len(memory)
		memory = append(memory, a...)
		args[i] = memory[at:len(memory):len(memory)]
	}
	tx.bytes += size
	tx.queued = append(tx.queued, queuedCommand{e.cmd, args})
	tx.writes = tx.writes || e.cmd.has(fWrite)
	tx.reads = tx.reads || e.cmd.has(fRead)
	tx.needStatus = tx.needStatus || e.cmd.has(fAlone) && !e.cmd.has(fRead)
	s.out.Simple("QUEUED")
}

// discard ends the transaction and forgets the watched keys.
func (tx *transaction) discard(s *Session) {
	s.unwatch()
	*tx = transaction{}
}

// unwatch forgets the watched keys.
func (s *Session) unwatch() {
	if s.tx.watching {
		s.srv.opts.Backend.Unwatch(s.tx.watcher)
	}
	s.tx.watching, s.tx.watcher, s.tx.expires = false, nil, 0
	s.dropWatch()
}

// watchFailed reports whether a watched key changed or expired. It is only right under the sequencer lock.
func (s *Session) watchFailed() bool {
	return s.tx.watching && (s.tx.watcher.Dirty() || s.tx.expires != 0 && s.tx.expires <= s.call.nowMs)
}

func cmdMulti(c *call) error {
	if c.s.tx.open {
		return c.fail("ERR MULTI calls can not be nested")
	}
	c.s.tx.open = true
	c.w.OK()
	return nil
}

func cmdDiscard(c *call) error {
	if !c.s.tx.open {
		return c.fail("ERR DISCARD without MULTI")
	}
	c.s.tx.discard(c.s)
	c.w.OK()
	return nil
}

// cmdWatch is WATCH: outside of MULTI it runs under the sequencer lock, so that it is ordered with writes, and is
// answered when all that it saw is applied: reads that follow see at least that.
func cmdWatch(c *call) error {
	if c.s.tx.open {
		return c.fail("ERR WATCH inside MULTI is not allowed")
	}
	tx := &c.s.tx
	if !tx.watching {
		tx.watching, tx.watcher = true, &Watcher{}
	}
	for _, key := range c.args[1:] {
		e, ok, err := c.view.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		tx.watcher.existing.Store(true)
		if e.ExpireAt != 0 && (tx.expires == 0 || e.ExpireAt < tx.expires) {
			tx.expires = e.ExpireAt
		}
	}
	c.s.seq.Watch(c.args[1:], tx.watcher)
	c.w.OK()
	return nil
}

func cmdUnwatch(c *call) error {
	c.s.unwatch()
	c.w.OK()
	return nil
}

// exec executes the transaction: as one record when the batch is with the sequencer, else, if it only reads, on one
// pinned state.
func (s *Session) exec(e *entry) error {
	tx := &s.tx
	if !tx.open {
		e.local = true
		return s.call.fail("ERR EXEC without MULTI")
	}
	defer tx.discard(s)
	switch {
	case tx.dirty:
		e.local = true
		return s.call.fail("EXECABORT Transaction discarded because of previous errors.")
	case s.fwd.lost:
		e.local = true // keys were watched on a node that is not the active any more
		s.out.NullArray()
		return nil
	case s.mode == modeSubmit && s.watchFailed():
		s.out.NullArray()
		return nil
	case s.mode == modeSubmit:
		return s.inRecord(e)
	case s.mode == modeRefused && (tx.writes || tx.watching):
		s.out.Error(s.refusal.Error())
		return nil
	case tx.reads:
		if err := s.openView(true); err != nil {
			return err
		}
		defer func() { s.call.view = nil }()
	default:
		e.local = true
	}
	return s.runTransaction()
}

// runTransaction executes the queued commands. As in Redis, one that answers an error does not undo the others; an error
// of the state does undo all.
func (s *Session) runTransaction() error {
	c := &s.call
	cmd, args := c.cmd, c.args
	c.inExec = true
	s.tx.open = false // commands run as outside of MULTI
	defer func() {
		c.inExec = false
		c.cmd, c.args = cmd, args
	}()
	c.w.Array(len(s.tx.queued))
	for _, q := range s.tx.queued {
		c.cmd, c.args = q.cmd, q.args
		from := c.w.Len()
		q.cmd.stats.calls.Add(1)
		if err := q.cmd.do(c); err != nil && err != errReplied {
			return err
		}
		if c.w.Len() > from && c.w.Bytes()[from] == '-' {
			q.cmd.stats.failed.Add(1)
		}
	}
	return nil
}
