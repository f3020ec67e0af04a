package replicate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"repld/snapshot"
	"repld/wal"
)

// Receiver takes the log of one group from a sender. Run may be called again and again, for one stream at a time.
type Receiver struct {
	o       ReceiverOptions
	running sync.Mutex
	buf     *bufio.Reader // under running

	mu     sync.Mutex
	status ReceiverStatus
}

// NewReceiver checks the options.
func NewReceiver(o ReceiverOptions) (*Receiver, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Receiver{o: o}, nil
}

// Status describes the present stream, or the last one.
func (r *Receiver) Status() ReceiverStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	if s.Seeding != nil {
		seed := *s.Seeding
		s.Seeding = &seed
	}
	return s
}

// Run receives on a stream that was opened to source, and closes it. It returns when ctx ends, with the first error
// (*StaleEpochError, *RefusedError, …), or with nil once a fast-forward is durable at until. For Follow, until is not
// used. The log must have no open Writer.
//
// Everything (receive, append, fsync, ack) happens on the caller's goroutine, so no ack can overtake its fsync. On a
// survey by a candidate this gives the order that R3 needs without a lock: the node persists the new epoch and then
// reads the end of the log, while Run appends and then reads the epoch before it acks. Either the survey's answer
// holds the record or the ack is not sent.
func (r *Receiver) Run(ctx context.Context, stream net.Conn, source string, purpose Purpose, until wal.Position) error {
	if !r.running.TryLock() {
		_ = stream.Close()
		return errors.New("receiver runs on another stream already")
	}
	defer r.running.Unlock()
	f := newFollow(r, stream, source, purpose, until)
	stop := context.AfterFunc(ctx, f.l.cancel)
	defer stop()
	r.begin(f)
	err := f.run(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	f.end(err)
	r.mu.Lock()
	r.status.Running, r.status.Seeding = false, nil
	r.mu.Unlock()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("stream from %s ended: %w", source, io.ErrUnexpectedEOF)
	}
	return err
}

func (r *Receiver) begin(f *follow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = ReceiverStatus{Running: true, Purpose: f.purpose, Source: f.source, State: StateProbe}
}

func (r *Receiver) note(change func(*ReceiverStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// follow is one stream of a Receiver. Its goroutine owns all of it.
type follow struct {
	r       *Receiver
	o       *ReceiverOptions
	source  string
	purpose Purpose
	until   wal.Position
	conn    net.Conn
	l       *link
	in      *msgReader
	out     *msgWriter

	epoch   wal.Epoch
	holder  string
	sync    uint64  // version of the sync set that is persisted
	target  wal.LSN // once durable here, this node is a voter
	revoked bool    // this stream made it a non-voter
	known   wal.LSN // up to here our log is part of the sender's history
	state   ProgressState
	done    bool // a fast-forward has arrived

	batch      []*wal.Frame
	batchBytes int
	committed  wal.LSN   // as told
	at         time.Time // by the source's wall clock
	reported   wal.LSN   // through OnCommitted
	scratch    [ackSize]byte

	// seeding
	snap     *snapshot.Receiver
	manifest snapshot.Manifest
	missing  map[string]int64 // files still to come, with their sizes
	file     io.WriteCloser
	left     int64 // bytes of file still to come
}

// receiveBuffer is made once for all streams of a Receiver, which come one after the other.
const receiveBuffer = 1 << 20

func newFollow(r *Receiver, stream net.Conn, source string, purpose Purpose, until wal.Position) *follow {
	l := &link{Conn: stream, idle: r.o.IdleTimeout, write: r.o.WriteTimeout}
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(l, receiveBuffer)
	} else {
		r.buf.Reset(l)
	}
	return &follow{
		r: r, o: &r.o, source: source, purpose: purpose, until: until, conn: stream, l: l,
		in: &msgReader{l: l, br: r.buf, maxFrame: r.o.MaxFrameBytes}, out: newMsgWriter(l, 4<<10), state: StateProbe,
	}
}

// run says hello and handles messages until an error or the end of a fast-forward.
func (f *follow) run(ctx context.Context) error {
	if err := f.hello(); err != nil {
		return err
	}
	for !f.done {
		t, b, err := f.in.next()
		if err != nil {
			return err
		}
		if err := f.fenced(); err != nil {
			return err
		}
		if err := f.take(ctx, t, b); err != nil {
			return err
		}
	}
	return nil
}

// fenced returns an error, after having told the sender, when this node has seen a newer epoch (R3, R4).
func (f *follow) fenced() error {
	e := f.o.Fence.Epoch()
	if e == f.epoch {
		return nil
	}
	return f.stale(e)
}

func (f *follow) stale(e wal.Epoch) error {
	holder := f.o.Fence.Holder()
	f.reject(CodeStale, fmt.Sprintf("epoch %d is stale", f.epoch), e, holder)
	return &StaleEpochError{Epoch: e, Holder: holder}
}

func (f *follow) reject(code, message string, e wal.Epoch, holder string) {
	_ = f.out.send(msgReject, reject{Code: code, Message: message, Epoch: e, Holder: holder}) // best effort: the stream ends
}

func (f *follow) take(ctx context.Context, t msgType, b []byte) error {
	switch t {
	case msgHeartbeat:
		return f.heartbeat(b)
	case msgReject:
		return f.rejected(b)
	case msgSync:
		return f.syncSet(b)
	}
	switch {
	case f.state == StateStream && t == msgFrame:
		return f.frame(b)
	case f.state != StateSnapshot && t == msgManifest:
		return f.seed(ctx, b)
	case f.state == StateProbe && t == msgProbe:
		return f.probe(b)
	case f.state == StateProbe && t == msgBegin:
		return f.begin(b)
	case f.state == StateSnapshot && t == msgFile:
		return f.fileBegins(ctx, b)
	case f.state == StateSnapshot && t == msgData:
		return f.fileData(ctx, b)
	}
	return fmt.Errorf("%w: message type %d in state %s", ErrProtocol, t, f.state)
}

func (f *follow) setState(s ProgressState) {
	f.state = s
	f.r.note(func(st *ReceiverStatus) { st.State = s })
}

// end closes the stream; when what arrived on it was damaged, the session too (W11).
func (f *follow) end(err error) {
	if f.file != nil {
		_ = f.file.Close()
	}
	bad := errors.Is(err, ErrProtocol)
	if bad {
		f.reject(CodeProtocol, err.Error(), f.o.Fence.Epoch(), f.o.Fence.Holder())
	}
	_ = f.conn.Close()
	if bad {
		closeSession(f.conn, err)
	}
}
