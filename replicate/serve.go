package replicate

import (
	"errors"
	"fmt"
	"time"

	"repld/internal/failpoint"
	"repld/wal"
)

// serve drives the progress machine until the stream ends.
func (st *served) serve() error {
	act, err := st.advance(func(p *Progress) (Action, error) { return p.Join(st.hello.Start, st.hello.End) })
	for err == nil {
		switch act.Op {
		case OpProbe:
			act, err = st.probe(act.LSN)
		case OpBegin:
			act, err = st.begin(act.From)
		case OpStream:
			act, err = st.stream(act.From)
		case OpSnapshot:
			act, err = st.seed(act.Reason)
		}
	}
	return err
}

// advance gives an event to the progress machine.
func (st *served) advance(event func(*Progress) (Action, error)) (Action, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return event(st.progress)
}

func (st *served) probe(lsn wal.LSN) (Action, error) {
	if err := st.w.send(msgProbe, probe{LSN: lsn}); err != nil {
		return Action{}, err
	}
	a, err := st.await(st.o.AnswerTimeout, msgProbed)
	if err != nil {
		return Action{}, err
	}
	p, err := decodeJSON[probed](a.b)
	if err != nil {
		return Action{}, err
	}
	return st.advance(func(m *Progress) (Action, error) { return m.Probed(p.At, p.OK) })
}

func (st *served) begin(from wal.Position) (Action, error) {
	b := begin{From: from}
	if b.Revoke = st.regress(from.LSN); b.Revoke {
		b.Target = st.o.Log.End().LSN
	}
	if err := st.w.send(msgBegin, b); err != nil {
		return Action{}, err
	}
	a, err := st.await(st.o.AnswerTimeout, msgReady, msgRebuild)
	if err != nil {
		return Action{}, err
	}
	if a.t == msgRebuild {
		r, err := decodeJSON[rebuild](a.b)
		if err != nil {
			return Action{}, err
		}
		return st.advance(func(m *Progress) (Action, error) { return m.Rebuild(r.Reason) })
	}
	st.log.Info("streaming to standby", "from", from.String(), "epoch", st.epoch)
	return a.act, nil
}

// regress records that the standby's log, which shares our history up to at, lacks records that it acked earlier in
// this epoch: it does not count until it has them again (H2).
func (st *served) regress(at wal.LSN) bool {
	if st.standby == nil {
		return false
	}
	st.standby.mu.Lock()
	defer st.standby.mu.Unlock()
	if st.standby.follow != st || at >= st.standby.acked {
		return false
	}
	st.regressLocked(at)
	return true
}

func (st *served) regressLocked(at wal.LSN) {
	b := st.standby
	st.log.Error("standby lost records that it had acked", "acked", b.acked, "has", at, "epoch", st.epoch)
	b.regressed = b.acked
	st.mu.Lock()
	st.status.Regressed, st.status.Counts = b.acked, false
	st.mu.Unlock()
	st.o.OnRegress(st.peer.Node, Regress{Had: b.acked, Has: at, Reason: "lost acked records"})
}

// stream sends the frames after from, and heartbeats, until the stream ends or our log does not hold the next frame.
func (st *served) stream(from wal.Position) (Action, error) {
	r, err := st.o.Log.NewReader(from.LSN)
	if errors.Is(err, wal.ErrTrimmed) {
		return st.advance(func(m *Progress) (Action, error) { return m.Trimmed(), nil })
	}
	if err != nil {
		return Action{}, err
	}
	defer r.Close()
	st.told = 0
	var due <-chan time.Time // a new committed LSN is to be told then
	for {
		sent, err := st.sendFrames(r)
		if errors.Is(err, wal.ErrTrimmed) {
			return st.advance(func(m *Progress) (Action, error) { return m.Trimmed(), nil })
		}
		if err != nil {
			return Action{}, err
		}
		var wake <-chan struct{} = r.Notify()
		if sent {
			wake = awake // there may be more: only look at what else is due
		}
		select {
		case <-st.done:
			return Action{}, st.reason()
		case <-wake:
		case <-st.commitCh:
			if due == nil {
				due = time.After(st.o.CommitDelay)
			}
		case <-due:
			due = nil
			if err := st.tellCommitted(); err != nil {
				return Action{}, err
			}
		case <-st.syncCh:
			if err := st.tellSync(); err != nil {
				return Action{}, err
			}
		case <-st.beat.C:
			if err := st.heartbeat(); err != nil {
				return Action{}, err
			}
		case a := <-st.answers:
			return Action{}, fmt.Errorf("%w: message type %d while streaming", ErrProtocol, a.t)
		}
	}
}

// awake is always ready.
var awake = func() <-chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// sendFrames sends the frames that wait, up to BatchBytes, in as few writes as the buffer allows.
func (st *served) sendFrames(r *wal.Reader) (bool, error) {
	bytes := 0
	for bytes < st.o.BatchBytes {
		f, err := r.TryNext()
		if err != nil {
			if bytes > 0 { // send what is in the buffer first; the error comes again
				break
			}
			return false, err
		}
		if f == nil {
			break
		}
		if bytes == 0 {
			if err := st.fenced(); err != nil {
				return false, err
			}
		}
		if err := st.putFrame(f); err != nil {
			return false, err
		}
		bytes += len(f.Bytes)
	}
	if bytes == 0 {
		return false, nil
	}
	if st.o.Committed() > st.told { // costs no write of its own
		if err := st.putHeartbeat(); err != nil {
			return false, err
		}
	}
	failpoint.Hit(failpoint.SendFrames)
	if err := st.w.flush(); err != nil {
		return false, err
	}
	st.mu.Lock()
	st.status.BytesSent = st.w.sent
	st.mu.Unlock()
	if st.backlog() > st.o.BulkBacklog {
		if d := st.s.bulk.take(bytes, time.Now()); d > 0 {
			return true, st.pause(d)
		}
	}
	return true, nil
}

func (st *served) putFrame(f *wal.Frame) error {
	st.mu.Lock()
	// Noted before it is written, because the ack may come before the write returns.
	err := st.progress.SentFrame(f.Prev, f.End(), f.First)
	size := float64(len(f.Bytes)) / float64(max(1, f.Count))
	if st.average == 0 {
		st.average = size
	}
	st.average += (size - st.average) / 64
	st.mu.Unlock()
	if err != nil {
		return err
	}
	st.told = max(st.told, f.Committed)
	return st.w.put(msgFrame, f.Bytes)
}

// backlog estimates the bytes of log that were not sent yet.
func (st *served) backlog() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	sent, end := st.progress.Sent().LSN, st.o.Log.End().LSN
	if end <= sent {
		return 0
	}
	return int64(float64(end-sent) * st.average)
}

// pause waits, with heartbeats.
func (st *served) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return nil
		case <-st.done:
			return st.reason()
		case <-st.beat.C:
			if err := st.heartbeat(); err != nil {
				return err
			}
		}
	}
}

// await waits for one of the answers, with heartbeats, at most for the time given.
func (st *served) await(limit time.Duration, types ...msgType) (answer, error) {
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		select {
		case a := <-st.answers:
			for _, want := range types {
				if a.t == want {
					return a, nil
				}
			}
			return a, fmt.Errorf("%w: message type %d out of turn", ErrProtocol, a.t)
		case <-st.done:
			return answer{}, st.reason()
		case <-t.C:
			return answer{}, fmt.Errorf("no answer within %v", limit)
		case <-st.beat.C:
			if err := st.heartbeat(); err != nil {
				return answer{}, err
			}
		}
	}
}

func (st *served) tellCommitted() error {
	if st.o.Committed() <= st.told {
		return nil // a frame took it along
	}
	if err := st.putHeartbeat(); err != nil {
		return err
	}
	return st.w.flush()
}

// tellSync announces the newest sync set, if the standby does not know it yet.
func (st *served) tellSync() error {
	set := st.s.syncSet()
	if set.Version == st.syncTold || st.hello.Purpose != Follow {
		return nil
	}
	if err := st.fenced(); err != nil {
		return err
	}
	st.syncTold = set.Version
	return st.w.send(msgSync, syncNotice{Epoch: st.epoch, Sync: set})
}

// heartbeat is due: check that we may still serve, and say where we are.
func (st *served) heartbeat() error {
	if err := st.fenced(); err != nil {
		return err
	}
	if err := st.o.MayServe(st.hello.Purpose); err != nil {
		return st.refuse(CodeNotServing, err.Error())
	}
	if err := st.putHeartbeat(); err != nil {
		return err
	}
	return st.w.flush()
}

func (st *served) putHeartbeat() error {
	end := st.o.Log.End().LSN
	h := heartbeat{Epoch: st.epoch, Committed: min(st.o.Committed(), end), End: end, Wall: time.Now()}
	st.told = max(st.told, h.Committed)
	return st.w.put(msgHeartbeat, h.encode(st.scratch[:0]))
}
