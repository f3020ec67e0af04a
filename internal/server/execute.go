package server

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"repld/internal/failpoint"
	"repld/internal/kv"
)

var (
	errReplied  = errors.New("the command has answered")    // a handler's way to stop
	errPanicked = errors.New("the command's code panicked") // aborts the record; Settle raises the panic
)

// run executes one command of the batch and accounts for it.
func (s *Session) run(e *entry) {
	from := s.out.Len()
	e.quiet = s.replyOff || s.skipOne
	s.skipOne, s.muted = false, false
	s.info.command(e.cmd)
	s.process(e)
	failed := s.out.Len() > from && s.out.Bytes()[from] == '-'
	e.quiet = s.muted || e.quiet && !s.wantsReply(e)
	if e.quiet {
		s.out.Truncate(from)
	}
	e.from, e.to = from, s.out.Len()
	s.account(e, failed)
}

// wantsReply: CLIENT REPLY ON is answered although replies were off.
func (s *Session) wantsReply(e *entry) bool {
	return e.cmd != nil && e.cmd.full == "client|reply" && !s.replyOff && !s.skipOne
}

func (s *Session) account(e *entry, failed bool) {
	end := time.Since(s.srv.started) // the monotonic clock alone, which is the cheaper one
	took := end - s.clock
	s.clock = end
	s.srv.stats.commands.Add(1)
	if failed {
		s.srv.stats.errors.Add(1)
	}
	if e.cmd == nil {
		return
	}
	if failed {
		e.cmd.stats.failed.Add(1)
	}
	e.cmd.stats.calls.Add(1)
	e.cmd.stats.nanos.Add(uint64(took))
	if s.srv.slowlog.slow(took) && !e.cmd.has(fSkipSlowlog) {
		s.srv.slowlog.add(s, e.args, time.Now(), took)
	}
}

// process does with a command what Redis' processCommand does, in its order: refuse, queue, or execute.
func (s *Session) process(e *entry) {
	c := &s.call
	c.cmd, c.args = e.cmd, e.args
	if text := s.reject(e); text != "" {
		e.local = true
		s.srv.rejected(e.cmd)
		if e.cmd != nil && e.cmd.name == "exec" {
			s.tx.discard(s)
			text = "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(text, "ERR ")
		} else if s.tx.open {
			s.tx.dirty = true
		}
		c.w.Error(text)
		return
	}
	if s.tx.open && !e.cmd.has(fControl) {
		e.local = true
		s.queue(e)
		return
	}
	if e.cmd.has(fAlone) && len(s.batch) > 1 {
		panic("command " + e.cmd.full + " in a batch with others") // collect must prevent it: it could wait under the lock
	}
	s.execute(e)
}

// reject is the error that keeps a command from being executed or queued, "" if none does.
func (s *Session) reject(e *entry) string {
	switch {
	case e.cmd == nil && e.container != nil:
		return singleLine("ERR unknown subcommand '" + cut(e.args[1]) + "'. Try " + strings.ToUpper(cString(e.args[0])) + " HELP.")
	case e.cmd == nil:
		return unknownCommand(e.args)
	case !e.cmd.arityOK(len(e.args)):
		return "ERR wrong number of arguments for '" + e.cmd.full + "' command"
	case !s.authed && !e.cmd.has(fNoAuth):
		return "NOAUTH Authentication required."
	case s.tx.open && e.cmd.has(fNoMulti):
		return "ERR Command not allowed inside a transaction"
	case s.user != nil:
		return s.user.refuses(s.srv.table, e.cmd, e.args)
	}
	return ""
}

// unknownCommand names the command and the beginning of its arguments, up to about 128 bytes.
func unknownCommand(args [][]byte) string {
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= maxNameLogged {
			break
		}
		text := cString(a)
		fmt.Fprintf(&b, "'%s' ", text[:min(len(text), maxNameLogged-b.Len())])
	}
	return singleLine("ERR unknown command '" + cut(args[0]) + "', with args beginning with: " + b.String())
}

// cString ends at the first zero byte, as Redis prints arguments.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func cut(b []byte) string {
	s := cString(b)
	return s[:min(len(s), maxNameLogged)]
}

func singleLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}

// execute calls the command's handler with what it needs of the state.
func (s *Session) execute(e *entry) {
	c := &s.call
	from := s.out.Len()
	var err error
	switch {
	case e.cmd.name == "exec":
		err = s.exec(e)
	case e.cmd.has(fSequence) && s.tx.open:
		e.local = true
		err = cmdWatch(c)
	case e.cmd.has(fWrite|fRead|fSequence) && s.mode == modeSubmit:
		err = s.inRecord(e)
	case e.cmd.has(fWrite | fSequence):
		s.out.Error(s.refusal.Error())
	case e.cmd.has(fRead):
		if err = s.openView(e.cmd.has(fPin)); err == nil {
			err = e.cmd.do(c)
			c.view = nil
		}
	default:
		e.local = true
		err = e.cmd.do(c)
	}
	s.reply(from, err)
}

// reply turns an error of the state or of the Backend into the answer.
func (s *Session) reply(from int, err error) {
	if err == nil || errors.Is(err, errReplied) {
		return
	}
	s.out.Truncate(from)
	var coded *Error
	if errors.As(err, &coded) {
		s.out.Error(coded.Error())
		return
	}
	s.srv.opts.Logger.Error("command failed inside", "command", s.call.cmd.full, "error", err)
	s.out.Error("ERR " + err.Error())
}

// openView makes c.view committed state; with pin all reads from now on see one state.
func (s *Session) openView(pin bool) error {
	if s.view == nil && s.viewErr == nil {
		s.view, s.viewErr = s.srv.opts.Backend.View(s.now)
	}
	if s.viewErr != nil {
		return s.viewErr
	}
	if pin {
		if err := s.view.Pin(); err != nil {
			return err
		}
	}
	s.call.view = s.view
	return nil
}

// inRecord evaluates e, under the sequencer lock, as one atomic write.
func (s *Session) inRecord(e *entry) error {
	s.current = e
	err := s.seq.Record(s.now, s.recordFn)
	if err != nil {
		e.effects = false
	}
	return err
}

// record is the evaluation of s.current. It keeps panics away from the sequencer: the record is aborted.
func (s *Session) record(t *kv.Txn) (err error) {
	c := &s.call
	c.txn, c.view = t, t
	defer func() {
		c.txn, c.view = nil, nil
		if v := recover(); v != nil {
			s.panicked, err = v, errPanicked
		}
	}()
	failpoint.Hit(failpoint.Command)
	if s.current.cmd.name == "exec" {
		err = s.runTransaction()
	} else {
		err = s.current.cmd.do(c)
	}
	if err == nil || errors.Is(err, errReplied) {
		s.current.effects = len(t.Effects()) > 0
		return nil
	}
	return err
}
