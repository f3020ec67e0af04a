package replicate

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// readAll is the reading goroutine of a served stream: acks are handled at once, answers are handed over.
func (st *served) readAll(r *msgReader) {
	for {
		t, b, err := r.next()
		if err == nil {
			err = st.take(t, b)
		}
		if err != nil {
			st.stop(err)
			return
		}
	}
}

func (st *served) take(t msgType, b []byte) error {
	switch t {
	case msgAck:
		a, err := decodeAck(b)
		if err != nil {
			return err
		}
		return st.acked(a)
	case msgReady:
		// Taken here, because acks may follow at once.
		m, err := decodeJSON[ready](b)
		if err != nil {
			return err
		}
		act, err := st.advance(func(p *Progress) (Action, error) { return p.Ready(m.At) })
		if err != nil {
			return err
		}
		return st.hand(answer{t: t, act: act})
	case msgProbed, msgRebuild, msgWant, msgResumed:
		return st.hand(answer{t: t, b: bytes.Clone(b)}) // short ones lie in the reader's memory
	case msgReject:
		rej, err := decodeJSON[reject](b)
		if err != nil {
			return err
		}
		return st.rejected(rej)
	}
	return fmt.Errorf("%w: message type %d from a standby", ErrProtocol, t)
}

func (st *served) hand(a answer) error {
	select {
	case st.answers <- a:
		return nil
	default:
		return fmt.Errorf("%w: more than one answer", ErrProtocol)
	}
}

// rejected is told that the standby ends the stream. That it knows a newer epoch is how a stale active learns that it
// is one (R4, R15).
func (st *served) rejected(r reject) error {
	if r.Epoch > st.epoch {
		st.o.OnStale(r.Epoch, r.Holder)
		return &StaleEpochError{Epoch: r.Epoch, Holder: r.Holder, Ours: true}
	}
	return &RefusedError{Peer: st.peer.Node, Code: r.Code, Message: r.Message}
}

func (st *served) acked(a ack) error {
	if a.Epoch != st.epoch {
		return fmt.Errorf("%w: ack of epoch %d on a stream of epoch %d", ErrProtocol, a.Epoch, st.epoch)
	}
	st.mu.Lock()
	err := st.progress.Acked(a.Durable)
	st.mu.Unlock()
	if st.standby == nil {
		st.note(a, false)
		return err
	}
	b := st.standby
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.follow != st {
		return errors.New("replaced by a newer stream of the same standby")
	}
	if err != nil {
		if a.Durable < b.acked {
			st.regressLocked(a.Durable)
		}
		return err
	}
	if a.Durable >= b.regressed {
		b.regressed = 0
	}
	counts := a.Voter && b.regressed == 0
	st.note(a, counts)
	if counts {
		b.acked = max(b.acked, a.Durable)
	}
	st.o.OnAck(st.peer.Node, Ack{Durable: a.Durable, Applied: a.Applied, Sync: a.Sync, Voter: a.Voter, Counts: counts})
	return nil
}

func (st *served) note(a ack, counts bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.status.Durable, st.status.Applied, st.status.Sync, st.status.Voter = a.Durable, a.Applied, a.Sync, a.Voter
	st.status.Counts, st.status.LastAck = counts, time.Now()
	if counts {
		st.status.Regressed = 0
	}
}
