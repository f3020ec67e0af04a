package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// Forwarder reaches the active from a standby. internal/node implements it.
type Forwarder interface {
	// Active reports whether this node is the active: then commands are executed here.
	Active() bool
	// Open opens a link to the active, which serves it with Server.ServeForwarded. It fails at once if no active is known.
	Open(ctx context.Context) (net.Conn, error)
	// Changed is closed when it may be worth to call Open again.
	Changed() <-chan struct{}
}

// forwarding is the part of a session that belongs to commands which the active executes, while this node is a standby. Connection state (protocol, name, the
// queue of MULTI) stays here; the active only ever sees whole commands and whole transactions, and the keys of WATCH.
//
// A command is sent again only if the active said that it did not execute it, or if it only reads. One whose answer does not come is answered -UNKNOWN (R13).
type forwarding struct {
	link    *link // held over several batches while keys are watched there
	watches bool  // keys are watched on link
	lost    bool  // they were, on a link that is gone: the next EXEC answers that a key may have changed
}

// parkRetry is how often an active is looked for, besides when roles change.
const parkRetry = 5 * time.Millisecond

// forwards reports whether the session's commands go to the active while this node is a standby, so that the connection may stay.
func (s *Session) forwards() bool { return s.srv.opts.Forward != nil && s.info.unix }

// mustForward reports whether the batch in progress has to be executed by another node.
func (s *Session) mustForward() bool {
	if !s.forwards() || s.srv.opts.Forward.Active() {
		return false
	}
	for i := range s.batch[s.next:] {
		if e := &s.batch[s.next+i]; e.cmd != nil && (e.cmd.has(fRead|fWrite|fSequence) || e.cmd.name == "exec" || e.cmd.isWait()) {
			return true
		}
	}
	return false
}

func (c *command) isWait() bool { return c.name == "wait" || c.name == "waitaof" }

// remote reports whether e is executed by the active, given the session's state before it.
func (s *Session) remote(e *entry) bool {
	if e.cmd == nil || s.reject(e) != "" {
		return false
	}
	if e.cmd.name == "exec" {
		return s.tx.open && !s.tx.dirty && !s.tx.watching && !s.fwd.lost
	}
	return !s.tx.open && (e.cmd.has(fRead|fWrite|fSequence) || e.cmd.isWait())
}

// readable opens a view for a batch that only reads, if its commands could be forwarded: an error then means that this node has just ceased to be the active.
func (s *Session) readable() bool {
	if !s.forwards() || s.next > 0 {
		return true
	}
	for i := range s.batch {
		if cmd := s.batch[i].cmd; cmd != nil && cmd.has(fRead) {
			if s.openView(false) == nil || s.srv.opts.Forward.Active() {
				return true
			}
			s.viewErr = nil
			return false
		}
	}
	return true
}

// park keeps a batch of which nothing was executed here, so that it is forwarded next.
func (s *Session) park(refusal *Error) bool {
	if !s.forwards() || s.evaluated || refusal.Code != "READONLY" || s.srv.opts.Forward.Active() {
		return false
	}
	s.call.statusValid = false
	return true
}

// runRemote executes the batch with the active's help. It returns before the end of the batch if this node has become the active meanwhile.
func (s *Session) runRemote(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.info.kicked, cancel)()
	s.mode = modeView
	s.begin()
	for s.next < len(s.batch) && !s.closing {
		e := &s.batch[s.next]
		if !s.remote(e) {
			s.next++
			s.runLocal(e)
			continue
		}
		end := s.next + 1
		for e.cmd.name != "exec" && end < len(s.batch) && s.remote(&s.batch[end]) && s.batch[end].cmd.name != "exec" {
			end++
		}
		if s.forwardRun(ctx, end) {
			s.handBack()
			return
		}
	}
	s.finish()
}

// runLocal executes a command of which the active need not know: it concerns the connection, queues for EXEC, or ends a transaction.
func (s *Session) runLocal(e *entry) {
	if e.cmd != nil && e.cmd.name == "exec" && s.tx.open && !s.tx.dirty && s.reject(e) == "" {
		// Keys are watched on a node that is not the active any more, this one or another: EXEC answers as if one had changed.
		s.answer(e, nil, func() { s.out.NullArray() })
		s.tx.discard(s)
		return
	}
	s.run(e)
}

// handBack leaves the rest of the batch to be executed here.
func (s *Session) handBack() {
	s.batch = s.batch[s.next:]
	s.next = 0
	s.dropLink()
}

// forwardRun has the active execute the commands up to end, which are all remote, and answers each. It reports true, with next at the first that is not
// answered, if this node has become the active.
func (s *Session) forwardRun(ctx context.Context, end int) (here bool) {
	deadline := time.NewTimer(s.srv.opts.ForwardWait)
	defer deadline.Stop()
	var last *Error
	for s.next < end {
		changed := s.srv.opts.Forward.Changed()
		if s.srv.opts.Forward.Active() {
			return true
		}
		l, err := s.getLink(ctx)
		if err == nil {
			var refusal *Error
			refusal, err = s.exchange(ctx, l, end)
			switch {
			case err == nil && refusal == nil:
				s.keepOrReturn(l)
				continue
			case err == nil:
				last = refusal
				s.breakLink(l)
			case s.onlyReads(end):
				s.breakLink(l) // asked again
			default:
				s.breakLink(l)
				s.srv.stats.unknown.Add(1)
				s.srv.opts.Logger.Warn("forwarded write outcome unknown", "client", s.info.id, "error", err)
				s.failRest(end, unknownWrite, unknownRead)
				return false
			}
			if s.lostWatch(end) {
				return false
			}
		}
		retry := time.NewTimer(parkRetry)
		select {
		case <-changed:
		case <-retry.C:
		case <-deadline.C:
			s.giveUp(end, last)
			return false
		case <-ctx.Done():
			s.giveUp(end, last)
			return false
		}
		retry.Stop()
	}
	return false
}

// lostWatch answers an EXEC whose watched keys were on a link that is gone: nothing of it was executed.
func (s *Session) lostWatch(end int) bool {
	if !s.fwd.lost || s.batch[s.next].cmd.name != "exec" {
		return false
	}
	s.answer(&s.batch[s.next], nil, func() { s.out.NullArray() })
	s.tx.discard(s)
	s.next++
	return true
}

func (s *Session) onlyReads(end int) bool {
	for i := s.next; i < end; i++ {
		cmd := s.batch[i].cmd
		if cmd.has(fWrite) || cmd.name == "exec" && s.tx.writes {
			return false
		}
	}
	return true
}

// giveUp refuses what was not executed: no active was found in time.
func (s *Session) giveUp(end int, last *Error) {
	if last == nil {
		st := s.call.status()
		last = ReadOnly(st.Epoch, st.Active)
	}
	if last.Code == "MASTERDOWN" || last.Code == "LOADING" {
		s.failRest(end, last.Error(), last.Error())
		return
	}
	s.failRest(end, last.Error(), MasterDown().Error())
}

func (s *Session) failRest(end int, write, read string) {
	for ; s.next < end; s.next++ {
		e := &s.batch[s.next]
		text := read
		if e.cmd.has(fWrite) || e.cmd.name == "exec" {
			text = write
		}
		s.answer(e, nil, func() { s.out.Error(text) })
		if e.cmd.name == "exec" {
			s.tx.discard(s)
		}
	}
}

// answer writes the reply of e, given or made by write, and accounts for it as run does.
func (s *Session) answer(e *entry, reply []byte, write func()) {
	from := s.out.Len()
	e.quiet = s.replyOff || s.skipOne
	s.skipOne = false
	s.info.command(e.cmd)
	if write != nil {
		write()
	} else {
		s.out.Raw(reply)
	}
	failed := s.out.Len() > from && s.out.Bytes()[from] == '-'
	if e.quiet {
		s.out.Truncate(from)
	}
	e.from, e.to = from, s.out.Len()
	s.account(e, failed)
}

// exchange sends the commands from next to end and takes the answers of those that were executed. refusal says why the others were not.
func (s *Session) exchange(ctx context.Context, l *link, end int) (refusal *Error, err error) {
	defer context.AfterFunc(ctx, func() { _ = l.conn.Close() })()
	if err := l.send(s, end); err != nil {
		return nil, err
	}
	head, err := l.receiveHead()
	if err != nil {
		return nil, err
	}
	if head.lsn > s.lastLSN {
		s.lastLSN = head.lsn
	}
	at := 0
	for s.next < end {
		e := &s.batch[s.next]
		n := s.wireCommands(e)
		if at+n > len(head.lengths) {
			break
		}
		reply, err := l.receiveReplies(head.lengths[at:at+n], s.srv.opts.MaxOutputBytes)
		if err != nil {
			return nil, err
		}
		at += n
		s.answer(e, reply, nil)
		switch {
		case e.cmd.name == "exec":
			s.fwd.link, s.fwd.watches = nil, false // the active has forgotten the keys: the link is as any other
			s.tx.discard(s)
		case e.cmd.has(fSequence) && len(reply) > 0 && reply[0] == '+':
			s.fwd.watches = true
		}
		s.next++
	}
	if head.refusal == "" {
		if s.next < end {
			return nil, errors.New("the active answered too few commands")
		}
		return nil, nil
	}
	// What was begun and not finished, the first commands of a transaction, had no effects.
	if _, err := l.receiveReplies(head.lengths[at:], s.srv.opts.MaxOutputBytes); err != nil {
		return nil, err
	}
	code, text, _ := strings.Cut(head.refusal, " ")
	return &Error{Code: code, Message: text}, nil
}

// wireCommands is how many commands go over the link for e.
func (s *Session) wireCommands(e *entry) int {
	if e.cmd.name == "exec" {
		return len(s.tx.queued) + 2
	}
	return 1
}
