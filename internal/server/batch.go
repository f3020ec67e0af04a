package server

// collect takes the next batch from the reader: commands as long as there are complete ones, the limits allow and none
// must stand alone; and decides how the batch is executed.
func (s *Session) collect() {
	s.trim()
	limit, size := s.srv.opts.MaxBatch, 0
	if !s.authed {
		limit = 1 // the answer to AUTH decides how the next request is read
	}
	// What MULTI and EXEC will do is followed here, so that the decision is made before anything is executed.
	open, writes := s.tx.open, s.tx.writes
	for len(s.batch) < limit && size < batchBytes {
		e, ok := s.nextEntry()
		if !ok {
			return
		}
		if e.cmd != nil && e.cmd.has(fAlone) && (!open || e.cmd.has(fControl)) {
			if len(s.batch) > 0 {
				s.held, s.hasHeld = e, true
				return
			}
			s.batch = append(s.batch, e)
			s.blocking = e.cmd.has(fBlocking) && e.cmd.arityOK(len(e.args)) && s.authed
			return
		}
		s.batch = append(s.batch, e)
		for _, a := range e.args {
			size += len(a)
		}
		if e.cmd == nil || !e.cmd.arityOK(len(e.args)) {
			if e.cmd != nil && e.cmd.name == "exec" {
				open, writes = false, false // a wrong EXEC gives the transaction up
			}
			continue
		}
		switch {
		case e.cmd.has(fControl):
			switch e.cmd.name {
			case "multi":
				open = true
			case "exec":
				s.sequencer = s.sequencer || open && (writes || s.tx.watching)
				open, writes = false, false
			case "discard":
				open, writes = false, false
			case "watch":
				s.sequencer = s.sequencer || !open
			}
		case open:
			writes = writes || e.cmd.has(fWrite)
		default:
			s.sequencer = s.sequencer || e.cmd.has(fWrite)
		}
	}
}

// nextEntry is the command held back from the previous batch, or the next of the reader.
func (s *Session) nextEntry() (entry, bool) {
	if s.hasHeld {
		s.hasHeld = false
		return s.held, true
	}
	if s.protoErr != nil {
		return entry{}, false
	}
	args, err := s.in.Next()
	if err != nil {
		s.protoErr = err
		return entry{}, false
	}
	if args == nil {
		return entry{}, false
	}
	cmd, container := s.srv.table.lookup(args)
	return entry{cmd: cmd, container: container, args: args}, true
}

// trim forgets the previous batch.
func (s *Session) trim() {
	if cap(s.batch) > keepBatchLen {
		s.batch = nil
	}
	if cap(s.scratch) > keepScratch {
		s.scratch = nil
	}
	s.batch = s.batch[:0]
	s.next = 0
	s.sequencer, s.blocking = false, false
}

// rewriteRefused replaces the replies of a batch of which nothing reached the log: writes are answered with the refusal,
// reads from committed state, and what was said about the connection alone stays.
func (s *Session) rewriteRefused(refusal *Error) {
	s.mode, s.refusal = modeRefused, refusal
	s.rewrite(func(e *entry) {
		if e.cmd.has(fRead) { // not by process, which would queue it if the batch went on to begin a transaction
			s.call.cmd, s.call.args = e.cmd, e.args
			s.execute(e)
			return
		}
		s.out.Error(refusal.Error())
	})
	s.refusal = nil
}

// Answers for R13. None begins with a code that clients retry by themselves, the first reply least of all: some clients
// repeat a whole pipeline when its first reply allows it.
const (
	unknownWrite = "UNKNOWN the outcome of this write is unknown: it may or may not have been applied"
	unknownRead  = "UNKNOWN this command was evaluated together with a write whose outcome is unknown"
)

// rewriteUnknown replaces the replies of a batch that may or may not survive (R13).
func (s *Session) rewriteUnknown() {
	s.rewrite(func(e *entry) {
		if e.effects {
			s.out.Error(unknownWrite)
			return
		}
		s.out.Error(unknownRead)
	})
}

// rewrite writes the replies of the batch anew: again answers an evaluated command whose reply does not stand; commands
// that were not evaluated are executed now.
func (s *Session) rewrite(again func(*entry)) {
	replies := append([]byte(nil), s.out.Bytes()[s.base:]...)
	s.out.Truncate(s.base)
	evaluated := s.next
	if !s.evaluated {
		evaluated = 0
	}
	s.begin()
	for i := range s.batch[:evaluated] {
		e := &s.batch[i]
		from := s.out.Len()
		switch {
		case e.quiet:
		case e.local:
			s.out.Raw(replies[e.from-s.base : e.to-s.base])
		default:
			again(e)
		}
		e.from, e.to = from, s.out.Len()
	}
	for s.next = evaluated; s.next < len(s.batch) && !s.closing; s.next++ {
		s.run(&s.batch[s.next])
	}
}
