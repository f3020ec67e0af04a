package replicate

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"repld/wal"
)

// served is one log stream that a Sender serves. The goroutine of Serve is the only one that writes on it (run); a
// second one reads (readAll) and hands answers over.
type served struct {
	s     *Sender
	o     *SenderOptions
	peer  PeerInfo
	group string
	conn  net.Conn
	l     *link
	log   *slog.Logger
	began time.Time

	// set by run before the reading goroutine starts, fixed afterwards
	hello   hello
	epoch   wal.Epoch
	standby *standby // nil when fast-forwarding

	// writing goroutine
	w        *msgWriter
	told     wal.LSN // committed LSN that the standby was told, by frame or heartbeat
	syncTold uint64
	average  float64 // bytes of a record in a frame
	beat     *time.Ticker
	scratch  [heartbeatSize]byte

	// hand-over
	answers  chan answer   // capacity 1: the standby answers one question at a time
	commitCh chan struct{} // capacity 1
	syncCh   chan struct{} // capacity 1
	done     chan struct{} // closed when the stream must end
	reading  sync.WaitGroup

	mu       sync.Mutex
	why      error // first reason for the end
	progress *Progress
	status   StandbyStatus
	ready    bool // hello was accepted
	hold     wal.LSN
	holding  bool
}

// answer is a message of the standby that the writing goroutine waits for.
type answer struct {
	t   msgType
	b   []byte
	act Action // of msgReady
}

func newServed(s *Sender, peer PeerInfo, group string, conn net.Conn) *served {
	l := &link{Conn: conn, idle: s.o.AnswerTimeout, write: s.o.WriteTimeout}
	return &served{
		s: s, o: &s.o, peer: peer, group: group, conn: conn, l: l, w: newMsgWriter(l, s.o.BatchBytes), began: time.Now(),
		log:     s.o.Logger.With("group", s.o.Group, "standby", peer.Node),
		answers: make(chan answer, 1), commitCh: make(chan struct{}, 1), syncCh: make(chan struct{}, 1),
		done: make(chan struct{}), progress: NewProgress(s.o.Log),
	}
}

// stop makes the stream end; the first reason is kept.
func (st *served) stop(why error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.why != nil {
		return
	}
	st.why = why
	close(st.done)
	st.l.cancel()
}

func (st *served) reason() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.why
}

// run serves the stream and returns why it ended.
func (st *served) run() error {
	r := newMsgReader(st.l, 8<<10, 0)
	if err := st.join(r); err != nil {
		return err
	}
	st.l.idle = 0 // the session's keepalive finds a dead peer; a standby may be silent while it installs a snapshot
	st.reading.Go(func() { st.readAll(r) })
	st.beat = time.NewTicker(st.o.Heartbeat)
	defer st.beat.Stop()
	err := st.serve()
	if why := st.reason(); why != nil {
		return why
	}
	return err
}

// join reads hello, decides whether to serve, and answers.
func (st *served) join(r *msgReader) error {
	t, b, err := r.next()
	if err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	if t != msgHello {
		return fmt.Errorf("%w: message type %d instead of hello", ErrProtocol, t)
	}
	if st.hello, err = decodeJSON[hello](b); err == nil {
		err = st.hello.check()
	}
	if err != nil {
		return err
	}
	if err := st.may(); err != nil {
		return err
	}
	sync := st.s.syncSet()
	st.syncTold = sync.Version
	end := st.o.Log.End().LSN
	w := welcome{
		Node: st.o.Node, Epoch: st.epoch, Holder: st.o.Fence.Holder(), Sync: sync, Committed: min(st.o.Committed(), end), End: end,
	}
	if st.hello.Purpose == Follow {
		st.standby = st.s.follows(st)
	}
	st.mu.Lock()
	st.ready = true
	st.status = StandbyStatus{
		Name: st.peer.Node, Incarnation: st.peer.Incarnation, Purpose: st.hello.Purpose, State: StateProbe,
		Voter: st.hello.Voter, Durable: st.hello.End.LSN, Applied: st.hello.Applied.LSN, Since: st.began,
	}
	st.mu.Unlock()
	st.log.Info("standby joined", "purpose", st.hello.Purpose, "epoch", st.epoch, "standby_epoch", st.hello.Epoch,
		"end", st.hello.End.String(), "voter", st.hello.Voter)
	return st.w.send(msgWelcome, w)
}

// may decides whether the stream is served, and under which epoch.
func (st *served) may() error {
	h := st.hello
	st.epoch = st.o.Fence.Epoch()
	switch {
	case h.Group != st.o.Group || (st.group != "" && st.group != st.o.Group):
		return st.refuse(CodeGroup, fmt.Sprintf("this is group %q", st.o.Group))
	case h.Node != st.peer.Node:
		return st.refuse(CodeNode, fmt.Sprintf("the session is with node %q", st.peer.Node))
	case h.Epoch > st.epoch:
		// The standby has seen a newer epoch: we are the stale side (R4, R15).
		st.o.OnStale(h.Epoch, "")
		return st.refuse(CodeUnfenced, fmt.Sprintf("epoch here is %d, not yet %d", st.epoch, h.Epoch))
	case h.Purpose == FastForward && h.Epoch != st.epoch:
		return st.refuse(CodeStale, fmt.Sprintf("epoch here is %d already", st.epoch))
	}
	if err := st.o.MayServe(h.Purpose); err != nil {
		return st.refuse(CodeNotServing, err.Error())
	}
	return nil
}

// refuse tells the standby why and returns the same as an error.
func (st *served) refuse(code, message string) error {
	st.reject(code, message)
	return fmt.Errorf("stream was refused: %s: %s", code, message)
}

func (st *served) reject(code, message string) {
	r := reject{Code: code, Message: message, Epoch: st.o.Fence.Epoch(), Holder: st.o.Fence.Holder()}
	_ = st.w.send(msgReject, r) // best effort: the stream ends anyway
}

// fenced returns an error, after having told the standby, when this node may not serve the stream any more.
func (st *served) fenced() error {
	if e := st.o.Fence.Epoch(); e != st.epoch {
		st.reject(CodeStale, fmt.Sprintf("epoch here is %d now", e))
		return &StaleEpochError{Epoch: e, Holder: st.o.Fence.Holder(), Ours: true}
	}
	return nil
}

// end closes the stream; when its bytes cannot be trusted, the session too.
func (st *served) end(err error) {
	if errors.Is(err, ErrProtocol) {
		st.reject(CodeProtocol, err.Error())
	}
	st.l.cancel()
	st.reading.Wait()
	_ = st.conn.Close()
	if errors.Is(err, ErrProtocol) {
		closeSession(st.conn, err)
	}
	if err == nil || errors.Is(err, io.EOF) {
		st.log.Info("standby left", "purpose", st.hello.Purpose)
		return
	}
	st.log.Warn("stream to standby ended", "purpose", st.hello.Purpose, "err", err)
}

// closeSession closes the session below a stream that came from a Mesh.
func closeSession(c net.Conn, why error) {
	if s, ok := c.(interface{ CloseSession(error) }); ok {
		s.CloseSession(why)
	}
}

func (st *served) currentStatus() (StandbyStatus, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	x := st.status
	x.State = st.progress.State()
	if x.State == StateStream {
		x.Sent = st.progress.Sent().LSN
		x.BytesBehind = int64(float64(st.o.Log.End().LSN-min(x.Durable, st.o.Log.End().LSN)) * st.average)
	}
	if x.Seeding != nil {
		seed := *x.Seeding
		x.Seeding = &seed
	}
	return x, st.ready
}

func (st *served) needs() (wal.LSN, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.progress.State() == StateStream {
		return st.progress.Durable(), true
	}
	return st.hold, st.holding
}
