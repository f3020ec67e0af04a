package replicate

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"repld/wal"
)

// These tests play the active by hand, step by step: what a standby may do with one message is decided without anything else going on.

// played starts b's receiver against a script; end hangs up and returns how the receiver ended.
func played(t *testing.T, b *testNode) (s *script, end func() error) {
	t.Helper()
	ca, cb := tcpPair(t)
	l := &link{Conn: ca, idle: time.Minute, write: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- b.receiver.Run(context.Background(), cb, "a", Follow, wal.Position{}) }()
	end = sync.OnceValue(func() error {
		_ = ca.Close()
		return <-ended
	})
	t.Cleanup(func() { _ = end() })
	return &script{t, newMsgWriter(l, 1024), newMsgReader(l, 1024, 1<<20)}, end
}

// one is a frame of one record after prev.
func one(t *testing.T, epoch wal.Epoch, prev wal.Position, committed wal.LSN) *wal.Frame {
	t.Helper()
	f, err := wal.EncodeFrame(prev, wal.FrameOptions{Epoch: epoch, Committed: committed, Codec: wal.CodecNone, Time: time.Unix(1, 0)},
		[]wal.Record{{Kind: wal.KindEffects, Payload: []byte("x")}})
	must(t, err)
	return f
}

func (s *script) ack() ack {
	s.t.Helper()
	typ, b, err := s.r.next()
	must(s.t, err)
	if typ != msgAck {
		s.t.Fatalf("message %d, want an ack", typ)
	}
	a, err := decodeAck(b)
	must(s.t, err)
	return a
}

// R1, R11: an ack says what is durable, not more, and counts for data only with the last record that the active had when this node joined: not one earlier.
func TestVoterWithTheLastRecordOnly(t *testing.T) {
	const last = 3
	b := newTestNode(t, "b", nil)
	b.voter = false
	s, _ := played(t, b)
	s.expect(msgHello)
	s.send(msgWelcome, welcome{Node: "a", Epoch: 1, Holder: "a", End: last})
	s.send(msgBegin, begin{})
	s.expect(msgReady)
	if a := s.ack(); a.Voter || a.Durable != 0 {
		t.Fatalf("a blank node acks %+v", a)
	}
	var prev wal.Position
	for lsn := wal.LSN(1); lsn <= last; lsn++ {
		f := one(t, 1, prev, 0)
		s.frame(f)
		if a := s.ack(); a.Durable != lsn || a.Voter != (lsn == last) || b.votes() != a.Voter {
			t.Fatalf("with %d of %d records: %+v, persisted vote %t", lsn, last, a, b.votes())
		}
		prev = f.End()
	}
}

// R7: what a standby has is not what is committed: it is told, by a frame or a heartbeat.
func TestDurableIsNotCommitted(t *testing.T) {
	b := newTestNode(t, "b", nil)
	s, _ := played(t, b)
	s.expect(msgHello)
	s.send(msgWelcome, welcome{Node: "a", Epoch: 1, Holder: "a"})
	s.send(msgBegin, begin{})
	s.expect(msgReady)
	s.ack()
	var prev wal.Position
	for committed := wal.LSN(0); committed < 3; committed++ { // each frame commits the one before it
		f := one(t, 1, prev, committed)
		s.frame(f)
		s.ack()
		prev = f.End()
		// The standby takes a message after it has done with the one before: its answer shows that.
		must(t, s.w.put(msgHeartbeat, heartbeat{Epoch: 1, Committed: committed, End: prev.LSN}.encode(nil)))
		must(t, s.w.flush())
		s.ack()
		if c := wal.LSN(b.committed.Load()); c != committed {
			t.Fatalf("%d records are durable, told that %d are committed, takes %d for committed", prev.LSN, committed, c)
		}
	}
}

// R3, R4: with a newer epoch persisted, whatever arrives under the older one is refused, naming the newer one; a frame does not reach the log, and nothing is acked.
func TestOlderEpochIsRefusedWhateverArrives(t *testing.T) {
	for name, send := range map[string]func(*script){
		"frame": func(s *script) { s.frame(one(s.t, 1, wal.Position{}, 0)) },
		"heartbeat": func(s *script) {
			must(s.t, s.w.put(msgHeartbeat, heartbeat{Epoch: 1}.encode(nil)))
			must(s.t, s.w.flush())
		},
		"sync set": func(s *script) { s.send(msgSync, syncNotice{Epoch: 1, Sync: set(2, 0)}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestNode(t, "b", nil)
			s, end := played(t, b)
			s.expect(msgHello)
			s.send(msgWelcome, welcome{Node: "a", Epoch: 1, Holder: "a"})
			s.send(msgBegin, begin{})
			s.expect(msgReady)
			s.ack()
			must(t, b.fence.Observe(2, "c", wal.SyncSet{}))
			send(s)
			typ, m, err := s.r.next()
			must(t, err)
			r, err := decodeJSON[reject](m)
			if typ != msgReject || err != nil || r.Code != CodeStale || r.Epoch != 2 || r.Holder != "c" {
				t.Fatalf("answer %d %+v, %v", typ, r, err)
			}
			var stale *StaleEpochError
			if err := end(); !errors.As(err, &stale) || stale.Epoch != 2 || stale.Ours {
				t.Fatalf("ended with %v", err)
			}
			if b.log.End().LSN != 0 || b.fence.sync.Version != 0 {
				t.Fatalf("log ends at %v, sync set %v", b.log.End(), b.fence.sync)
			}
		})
	}
}

// R3: an epoch that is persisted between the append of a frame and its ack keeps the ack back: the candidate's survey may have read the log before.
func TestNoAckAfterNewerEpoch(t *testing.T) {
	b := newTestNode(t, "b", nil)
	b.receiver.o.OnAppended = func(wal.Position) { must(t, b.fence.Observe(2, "c", wal.SyncSet{})) }
	s, end := played(t, b)
	s.expect(msgHello)
	s.send(msgWelcome, welcome{Node: "a", Epoch: 1, Holder: "a"})
	s.send(msgBegin, begin{})
	s.expect(msgReady)
	s.ack()
	s.frame(one(t, 1, wal.Position{}, 0))
	s.expect(msgReject)
	if err := end(); !errors.Is(err, ErrStale) {
		t.Fatalf("ended with %v", err)
	}
}

// R15: one applied record outside the new history is enough to need a snapshot; the log is not touched before that. With none, the suffix is cut.
func TestOneAppliedRecordMustNotBeCut(t *testing.T) {
	for name, c := range map[string]struct {
		applied wal.LSN
		want    msgType
		end     wal.LSN
	}{
		"none of the suffix": {5, msgReady, 5}, "one record of it": {6, msgRebuild, 8}, "all of it": {8, msgRebuild, 8},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestNode(t, "b", nil)
			b.extend(1, 8, "own")
			b.applied = mustPosition(t, b.log, c.applied)
			s, _ := played(t, b)
			s.expect(msgHello)
			s.send(msgWelcome, welcome{Node: "a", Epoch: 2, Holder: "a", End: 5})
			s.send(msgBegin, begin{From: mustPosition(t, b.log, 5)})
			s.expect(c.want)
			if at := b.log.End().LSN; at != c.end {
				t.Fatalf("the log ends at %d, want %d", at, c.end)
			}
		})
	}
}
