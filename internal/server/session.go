package server

import (
	"context"
	"errors"
	"time"

	"repld/internal/kv"
	"repld/internal/resp"
	"repld/wal"
)

// State is what the driver of a Session does next.
type State uint8

const (
	// NeedInput: send Output, read bytes into Input, call Step.
	NeedInput State = iota
	// Flush: send Output, call Step.
	Flush
	// Waiting: a batch is with the Backend. Receive from Done, call Settle, then Step.
	Waiting
	// Blocking: call Block, which may wait, then Step. In a loop (share) it means: call alone, then Step, on a goroutine that may wait.
	Blocking
	// Closing: send Output, close the connection, call Close.
	Closing
)

// mode is how the batch in progress is executed.
type mode uint8

const (
	modeView    mode = iota // reads from committed state; there are no writes
	modeSubmit              // everything under the sequencer lock
	modeRefused             // writes are answered with Session.refusal, reads from committed state
)

// entry is one command of a batch.
type entry struct {
	cmd       *command // nil: unknown
	container *command // of an unknown subcommand
	args      [][]byte
	from, to  int  // its reply, in the output
	quiet     bool // the client wants no reply
	local     bool // executed without looking at state
	effects   bool // put effects into the log
	receipt   bool // is answered with a receipt
}

// Session is the protocol state of one connection, apart from its socket: bytes in, replies out. One goroutine at a time
// drives it.
type Session struct {
	srv  *Server
	in   *resp.Reader
	out  *resp.Writer
	info sessionInfo // read by other sessions

	// Connection state.
	needAuth, authed  bool
	user              *aclUser // nil: default, who may do everything
	replyOff, skipOne bool     // CLIENT REPLY
	muted             bool     // the command in progress answers nothing
	receipts          bool     // writes are answered with a receipt
	closing           bool
	tx                transaction
	fwd               forwarding
	refused           *Error   // why the newest submission was refused, for ServeForwarded
	lastLSN           wal.LSN  // of this connection's writes; for WAIT
	lastBatch         struct { // for DEBUG LASTLSN
		lsn   wal.LSN // the last record that the last submission wrote or saw
		wrote bool
	}

	// The batch in progress. Its arguments are memory of in.
	batch     []entry
	next      int // first entry that is not executed
	held      entry
	hasHeld   bool
	protoErr  error
	sequencer bool // the batch needs it
	blocking  bool // the batch is one command that may wait
	mode      mode
	refusal   *Error
	view      View
	viewErr   error
	now       time.Time
	clock     time.Duration // end of the previous command, since the server's start
	call      call
	scratch   []byte

	// A submission. The callbacks are made once, so that a batch allocates nothing.
	base      int // output before the batch
	waiting   bool
	evaluated bool // the callback ran
	seq       Sequence
	current   *entry
	panicked  any
	doneCh    chan struct{}
	result    struct { // written by done, read after doneCh
		lsn wal.LSN
		err error
		at  time.Time
	}
	settled    time.Time // when the Backend answered what is not sent yet; zero if nothing waits or nobody asks
	answered   func()    // in a loop: a submission has its result
	inLoop     bool      // whoever calls Step must not wait
	evaluateFn func(Sequence) error
	doneFn     func(wal.LSN, error)
	recordFn   func(*kv.Txn) error
}

const (
	flushAt       = 256 << 10 // replies of a batch of reads are sent in pieces of about this
	batchBytes    = 1 << 20   // arguments of one batch, unless a single command has more
	keepOutput    = 64 << 10
	keepBatchLen  = 4096
	keepScratch   = 64 << 10
	maxNameLogged = 128
)

// newSession makes the session of one connection; auth asks for the password if there is one.
func newSession(srv *Server, id int64, addr, laddr string, auth bool) *Session {
	s := &Session{
		srv:      srv,
		in:       resp.NewReader(srv.opts.Limits),
		out:      resp.NewWriter(srv.opts.MaxOutputBytes),
		needAuth: auth && (srv.opts.Password != "" || srv.acl.Load() != nil),
		doneCh:   make(chan struct{}, 1),
	}
	s.info.init(id, addr, laddr)
	s.call = call{s: s, w: s.out}
	s.evaluateFn, s.doneFn, s.recordFn = s.evaluate, s.done, s.record
	s.setAuthed(!s.needAuth)
	return s
}

func (s *Session) setUser(u *aclUser) {
	s.user = u
	s.info.setUser(s.userName())
}

func (s *Session) setAuthed(ok bool) {
	s.authed = ok
	s.in.SetAuthenticated(ok)
}

// share makes the session one whose driver must not wait: answered is called when a submission has its result, and what may wait is Blocking.
func (s *Session) share(answered func()) {
	s.answered, s.inLoop = answered, true
}

// alone says whether the driver may wait for a while.
func (s *Session) alone(yes bool) { s.inLoop = !yes }

// slow reports whether the batch may wait for something or take long, so that it would hold others up.
func (s *Session) slow() bool {
	return len(s.batch) == 1 && s.batch[0].cmd != nil && s.batch[0].cmd.has(fAlone) || !s.srv.opts.Backend.Ready()
}

// Input is the reader to put received bytes into, when the state is NeedInput.
func (s *Session) Input() *resp.Reader { return s.in }

// Output are replies to send; Sent tells that they were.
func (s *Session) Output() []byte { return s.out.Bytes() }

// Sent drops the output.
func (s *Session) Sent() {
	s.out.Reset(keepOutput)
	if !s.settled.IsZero() {
		s.srv.opts.OnReply(time.Since(s.settled))
		s.settled = time.Time{}
	}
}

// Done is signalled once for each Waiting.
func (s *Session) Done() <-chan struct{} { return s.doneCh }

// Step executes the next batch: all complete commands that were received, within limits.
func (s *Session) Step(ctx context.Context) State {
	if s.next >= len(s.batch) && !s.closing {
		s.collect()
	}
	if s.fwd.link != nil && s.srv.opts.Forward.Active() {
		s.dropLink() // what is watched there counts as changed
	}
	switch {
	case s.closing:
		return Closing
	case len(s.batch) == 0 && s.protoErr != nil:
		s.srv.stats.protocolErrors.Add(1)
		s.out.Error("ERR " + s.protoErr.Error())
		s.closing = true
		return Closing
	case len(s.batch) == 0:
		return NeedInput
	case s.inLoop && s.slow():
		return Blocking
	case s.blocking, s.mustForward():
		return Blocking
	case s.sequencer:
		return s.submit(ctx)
	}
	return s.runView()
}

// Block executes a batch of one command that may wait, or has the active execute a batch.
func (s *Session) Block(ctx context.Context) {
	if !s.blocking || s.mustForward() {
		s.runRemote(ctx)
		return
	}
	s.call.ctx = ctx
	defer func() { s.call.ctx = nil }()
	s.mode = modeView
	s.begin()
	s.run(&s.batch[0])
	s.finish()
}

// runView executes a batch without writes, in pieces if its replies are long.
func (s *Session) runView() State {
	s.mode = modeView
	s.begin()
	if !s.readable() {
		return Blocking
	}
	for s.next < len(s.batch) && !s.closing {
		e := &s.batch[s.next]
		s.next++
		s.run(e)
		if s.out.Len() > flushAt && s.next < len(s.batch) {
			return s.after(Flush)
		}
	}
	s.finish()
	return s.after(Flush)
}

// submit gives the batch to the sequencer.
func (s *Session) submit(ctx context.Context) State {
	s.mode = modeSubmit
	s.base = s.out.Len()
	s.waiting, s.evaluated = true, false
	if s.tx.needStatus {
		s.call.status() // must not be asked for under the lock
	}
	s.srv.opts.Backend.Submit(ctx, s.evaluateFn, s.doneFn)
	select {
	case <-s.doneCh:
		s.Settle()
		return s.after(Flush)
	default:
		return Waiting
	}
}

// evaluate runs under the sequencer lock. A panic must not reach the lock's owner: it is kept and raised by Settle.
func (s *Session) evaluate(seq Sequence) error {
	s.evaluated = true
	s.seq = seq
	defer func() {
		s.seq = nil
		if v := recover(); v != nil {
			s.panicked = v
		}
	}()
	s.begin()
	for s.next < len(s.batch) && !s.closing && s.panicked == nil {
		e := &s.batch[s.next]
		s.next++
		s.run(e)
	}
	return nil
}

// done is called by the Backend, on its goroutine.
func (s *Session) done(lsn wal.LSN, err error) {
	s.result.lsn, s.result.err = lsn, err
	if s.srv.opts.OnReply != nil {
		s.result.at = time.Now()
	}
	s.doneCh <- struct{}{}
	if s.answered != nil {
		s.answered()
	}
}

// Settle takes the result of a submission: the replies stand, or are rewritten.
func (s *Session) Settle() {
	s.waiting = false
	s.settled = s.result.at
	if v := s.panicked; v != nil {
		s.panicked = nil
		panic(v)
	}
	err := s.result.err
	if err == nil && !s.srv.opts.Backend.Release() {
		err = ErrUnknown
	}
	if err != nil {
		if !s.failed(err) {
			return // the next Step forwards it
		}
	} else {
		if s.result.lsn > s.lastLSN {
			s.lastLSN = s.result.lsn
		}
		s.lastBatch.lsn, s.lastBatch.wrote = s.result.lsn, s.wrote()
		s.addReceipts()
	}
	s.finish()
}

// failed rewrites the replies of a submission that did not succeed, false if it is to be forwarded instead.
func (s *Session) failed(err error) bool {
	var refusal *Error // apart from Settle because it is on the heap
	switch {
	case errors.As(err, &refusal) && s.park(refusal):
		return false
	case errors.As(err, &refusal):
		s.refused = refusal
		s.rewriteRefused(refusal)
	case !s.evaluated: // nothing ran, so nothing is unknown
		s.rewriteRefused(Errorf("ERR", "%v", err))
	default:
		s.srv.stats.unknown.Add(1)
		s.srv.opts.Logger.Warn("write outcome unknown", "client", s.info.id, "error", err)
		s.rewriteUnknown()
	}
	return true
}

// wrote reports whether the batch has a record of its own.
func (s *Session) wrote() bool {
	for i := range s.batch {
		if s.batch[i].effects {
			return true
		}
	}
	return false
}

// Abandon ends a submission whose result will not be waited for: its outcome is unknown (R13). That is better said than left
// to a closed connection, after which many clients repeat the write. done may still come, and is not listened to.
func (s *Session) Abandon() {
	s.waiting, s.closing = false, true
	if s.evaluated && s.panicked == nil {
		s.srv.stats.unknown.Add(1)
		s.rewriteUnknown()
	}
	s.finish()
}

// begin fixes the time of the batch.
func (s *Session) begin() {
	s.now = time.Now()
	s.clock = s.now.Sub(s.srv.started)
	s.call.setNow(s.now)
}

// finish ends the batch.
func (s *Session) finish() {
	if s.view != nil {
		if err := s.view.Close(); err != nil {
			s.srv.opts.Logger.Warn("view not closed cleanly", "error", err)
		}
	}
	s.view, s.viewErr = nil, nil
	s.call.statusValid = false
	s.next = len(s.batch)
	s.current = nil
	s.info.active(s.now, s.in.Buffered(), &s.tx)
	if s.out.Overflow() {
		s.srv.opts.Logger.Warn("client closed: output over its limit", "client", s.info.id, "limit", s.srv.opts.MaxOutputBytes)
		s.closing = true
	}
}

// after is the state after a batch.
func (s *Session) after(st State) State {
	if s.closing {
		return Closing
	}
	return st
}

// Close gives up what the session holds in the Backend. A submission that is under way may still call done.
func (s *Session) Close() {
	if s.view != nil {
		_ = s.view.Close() // the session is gone: nobody to tell
		s.view = nil
	}
	s.tx.discard(s)
}
