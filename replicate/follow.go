package replicate

import (
	"errors"
	"fmt"
	"time"

	"repld/internal/failpoint"
	"repld/wal"
)

// hello introduces this node and takes the answer: the epoch is persisted before anything else is said under it (R3).
func (f *follow) hello() error {
	log := f.o.Log
	h := hello{
		Group: f.o.Group, Node: f.o.Node, Epoch: f.o.Fence.Epoch(), Start: log.Start(), End: log.End(),
		Applied: f.o.Applied(), Voter: f.o.Voter(), Purpose: f.purpose, Until: f.until,
	}
	f.epoch = h.Epoch // until the welcome names another
	if err := f.out.send(msgHello, h); err != nil {
		return err
	}
	t, b, err := f.in.next()
	if err != nil {
		return err
	}
	if t == msgReject {
		return f.rejected(b)
	}
	if t != msgWelcome {
		return fmt.Errorf("%w: message type %d instead of welcome", ErrProtocol, t)
	}
	w, err := decodeJSON[welcome](b)
	if err == nil {
		err = w.check()
	}
	if err != nil {
		return err
	}
	return f.welcomed(w)
}

func (f *follow) welcomed(w welcome) error {
	f.epoch, f.holder = w.Epoch, w.Holder
	if e := f.o.Fence.Epoch(); w.Epoch < e {
		return f.stale(e)
	}
	switch f.purpose {
	case Follow:
		if w.Holder != w.Node || w.Node != f.source {
			return f.disown(fmt.Sprintf("%s serves epoch %d, which %q holds", w.Node, w.Epoch, w.Holder))
		}
		if err := f.o.Fence.Observe(w.Epoch, w.Holder, w.Sync); err != nil {
			return fmt.Errorf("observe epoch %d of %s: %w", w.Epoch, w.Holder, err)
		}
		f.sync, f.target = w.Sync.Version, w.End
	case FastForward:
		// The source was fenced by us beforehand; a promotion must not adopt an epoch in passing.
		if w.Epoch != f.o.Fence.Epoch() {
			return f.disown(fmt.Sprintf("%s is in epoch %d", w.Node, w.Epoch))
		}
		f.target = f.until.LSN
	}
	if err := f.fenced(); err != nil {
		return err
	}
	f.r.note(func(s *ReceiverStatus) {
		s.Epoch, s.Committed, s.End, s.Heard = w.Epoch, w.Committed, w.End, time.Now()
	})
	f.o.Logger.Info("stream accepted", "group", f.o.Group, "source", f.source, "purpose", f.purpose, "epoch", f.epoch, "end", w.End)
	return nil
}

// disown refuses a sender that serves an epoch it does not hold.
func (f *follow) disown(message string) error {
	f.reject(CodeUnrelated, message, f.o.Fence.Epoch(), f.o.Fence.Holder())
	return &RefusedError{Peer: f.source, Code: CodeUnrelated, Message: message}
}

func (f *follow) rejected(b []byte) error {
	r, err := decodeJSON[reject](b)
	if err != nil {
		return err
	}
	if r.Epoch > f.o.Fence.Epoch() {
		return &StaleEpochError{Epoch: r.Epoch, Holder: r.Holder, Ours: true}
	}
	return &RefusedError{Peer: f.source, Code: r.Code, Message: r.Message}
}

// frame collects frames; when no further one has arrived, or enough have, all are appended with one fsync.
func (f *follow) frame(b []byte) error {
	fr, err := wal.DecodeFrame(b, f.o.MaxFrameBytes)
	if err != nil {
		return fmt.Errorf("%w: frame from %s: %w", ErrProtocol, f.source, err)
	}
	if fr.Epoch > f.epoch {
		return fmt.Errorf("%w: frame of epoch %d on a stream of epoch %d", ErrProtocol, fr.Epoch, f.epoch)
	}
	f.batch = append(f.batch, fr)
	f.batchBytes += len(b)
	if t, n, ok := f.in.waiting(); ok && t == msgFrame && f.batchBytes+n <= f.o.BatchBytes {
		return nil
	}
	return f.append()
}

// append makes the batch durable and acks it. The epoch was checked when the newest frame was taken (R4), and is
// checked again before the ack: see Run.
func (f *follow) append() error {
	last := f.batch[len(f.batch)-1]
	end, err := f.o.Log.AppendFrames(f.batch)
	clear(f.batch)
	f.batch, f.batchBytes = f.batch[:0], 0
	if err != nil {
		return f.appendFailed(err)
	}
	failpoint.Hit(failpoint.BeforeAck)
	f.known = end.LSN
	f.o.OnAppended(end)
	if err := f.fenced(); err != nil {
		return err
	}
	return f.progress(last.Committed, last.Time)
}

// appendFailed tells damage on the wire from trouble here: what does not continue our log was never sent so by an
// honest sender.
func (f *follow) appendFailed(err error) error {
	for _, bad := range []error{wal.ErrGap, wal.ErrDiverged, wal.ErrStaleEpoch, wal.ErrCorrupt, wal.ErrTooLarge} {
		if errors.Is(err, bad) {
			return fmt.Errorf("%w: frames from %s: %w", ErrProtocol, f.source, err)
		}
	}
	return fmt.Errorf("append frames from %s: %w", f.source, err)
}

// progress takes a committed LSN, becomes a voter when due, and acks.
func (f *follow) progress(committed wal.LSN, at time.Time) error {
	durable := f.o.Log.Durable()
	if err := f.vote(durable.LSN); err != nil {
		return err
	}
	if err := f.ack(durable.LSN); err != nil {
		return err
	}
	failpoint.Hit(failpoint.AfterAck)
	f.commit(committed, at, durable.LSN)
	return f.arrived(durable)
}

// vote makes this node a voter once it has what the sender had when it joined (R11). Persisted before the ack says so.
func (f *follow) vote(durable wal.LSN) error {
	if f.purpose != Follow || durable < f.target || f.o.Voter() {
		return nil
	}
	if err := f.o.SetVoter(true); err != nil {
		return fmt.Errorf("persist voter: %w", err)
	}
	f.o.Logger.Info("this node counts for data from now on", "group", f.o.Group, "durable", durable)
	return nil
}

func (f *follow) ack(durable wal.LSN) error {
	a := ack{Epoch: f.epoch, Durable: durable, Applied: f.o.Applied().LSN, Sync: f.sync, Voter: f.o.Voter()}
	if err := f.out.put(msgAck, a.encode(f.scratch[:0])); err != nil {
		return err
	}
	return f.out.flush()
}

// commit reports the committed LSN. Only while streaming: before that our log may hold other records under the same
// LSNs (R7).
func (f *follow) commit(committed wal.LSN, at time.Time, durable wal.LSN) {
	if committed >= f.committed {
		f.committed, f.at = committed, at
	}
	if c := min(f.committed, durable); c > f.reported {
		f.reported = c
		f.o.OnCommitted(c, f.at)
	}
	f.r.note(func(s *ReceiverStatus) { s.Committed, s.Heard = max(s.Committed, f.committed), time.Now() })
}

// arrived ends a fast-forward whose log is durable at the wanted position, and nowhere else.
func (f *follow) arrived(durable wal.Position) error {
	if f.purpose != FastForward || durable.LSN < f.until.LSN {
		return nil
	}
	at, err := f.o.Log.PositionAt(f.until.LSN)
	if err != nil {
		return fmt.Errorf("position at %d: %w", f.until.LSN, err)
	}
	if at != f.until {
		return fmt.Errorf("fast-forward from %s: wanted %v, its log has %v", f.source, f.until, at)
	}
	if f.revoked { // it was a voter, and has all that the most advanced log has again
		if err := f.o.SetVoter(true); err != nil {
			return fmt.Errorf("persist voter: %w", err)
		}
	}
	f.done = true
	return nil
}

func (f *follow) heartbeat(b []byte) error {
	h, err := decodeHeartbeat(b)
	if err != nil {
		return err
	}
	if h.Epoch != f.epoch || h.Committed > h.End {
		return fmt.Errorf("%w: heartbeat of epoch %d, committed %d, end %d", ErrProtocol, h.Epoch, h.Committed, h.End)
	}
	f.r.note(func(s *ReceiverStatus) { s.End, s.At, s.Heard = h.End, h.Wall, time.Now() })
	if f.state != StateStream {
		return nil
	}
	return f.progress(h.Committed, h.Wall)
}

// syncSet persists a new sync set before the next ack, which says so (R6).
func (f *follow) syncSet(b []byte) error {
	n, err := decodeJSON[syncNotice](b)
	if err != nil {
		return err
	}
	if n.Epoch != f.epoch || f.purpose != Follow {
		return fmt.Errorf("%w: sync set of epoch %d", ErrProtocol, n.Epoch)
	}
	if err := f.o.Fence.Observe(n.Epoch, f.holder, n.Sync); err != nil {
		return fmt.Errorf("persist sync set version %d: %w", n.Sync.Version, err)
	}
	f.sync = n.Sync.Version
	if f.state != StateStream {
		return nil
	}
	return f.ack(f.o.Log.Durable().LSN)
}
