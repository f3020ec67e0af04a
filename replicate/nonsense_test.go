package replicate

import (
	"context"
	"errors"
	"testing"
	"time"

	"repld/wal"
)

// script plays a sender by hand.
type script struct {
	t *testing.T
	w *msgWriter
	r *msgReader
}

func (s *script) send(t msgType, v any) { _ = s.w.send(t, v) } // the receiver may have hung up

func (s *script) frame(f *wal.Frame) {
	_ = s.w.put(msgFrame, f.Bytes)
	_ = s.w.flush()
}

func (s *script) expect(want msgType) {
	t, b, err := s.r.next()
	if err != nil || t != want {
		s.t.Errorf("message %d %s, %v; want %d", t, b, err, want)
	}
}

func (s *script) joined() {
	s.expect(msgHello)
	s.send(msgWelcome, welcome{Node: "a", Epoch: 2, Holder: "a", End: 5})
}

func (s *script) streaming() {
	s.joined()
	s.send(msgBegin, begin{})
	s.expect(msgReady)
	s.expect(msgAck)
}

// What a sender may not say ends the stream, and changes neither log nor epoch beyond what was in order (R3, R4, R7).
func TestReceiverRefusesNonsense(t *testing.T) {
	frame := func(epoch wal.Epoch, prev wal.Position) *wal.Frame {
		f, err := wal.EncodeFrame(prev, wal.FrameOptions{Epoch: epoch, Codec: wal.CodecNone, Time: time.Unix(1, 0)},
			[]wal.Record{{Kind: wal.KindEffects, Payload: []byte("x")}})
		must(t, err)
		return f
	}
	good := frame(1, wal.Position{})
	for name, c := range map[string]struct {
		play func(*script)
		want error
		end  wal.LSN
	}{
		"no welcome": {func(s *script) { s.expect(msgHello); s.send(msgBegin, begin{}) }, ErrProtocol, 0},
		"not the holder": {func(s *script) {
			s.expect(msgHello)
			s.send(msgWelcome, welcome{Node: "a", Epoch: 2, Holder: "c"})
			s.expect(msgReject)
		}, ErrRefused, 0},
		"another node": {func(s *script) {
			s.expect(msgHello)
			s.send(msgWelcome, welcome{Node: "c", Epoch: 2, Holder: "c"})
			s.expect(msgReject)
		}, ErrRefused, 0},
		"an older epoch": {func(s *script) {
			s.expect(msgHello)
			s.send(msgWelcome, welcome{Node: "a", Epoch: 0, Holder: "a"})
			s.expect(msgReject)
		}, ErrStale, 0},
		"frame before begin":       {func(s *script) { s.joined(); s.frame(good) }, ErrProtocol, 0},
		"begin at a strange place": {func(s *script) { s.joined(); s.send(msgBegin, begin{From: wal.Position{Hash: 3}}) }, ErrProtocol, 0},
		"begin beyond our end":     {func(s *script) { s.joined(); s.send(msgBegin, begin{From: wal.Position{LSN: 7}}) }, ErrProtocol, 0},
		"file without manifest":    {func(s *script) { s.joined(); s.send(msgFile, file{Name: "x"}) }, ErrProtocol, 0},
		"bad manifest":             {func(s *script) { s.joined(); s.send(msgManifest, ready{}) }, ErrProtocol, 0},
		"heartbeat of another epoch": {func(s *script) {
			s.streaming()
			_ = s.w.put(msgHeartbeat, heartbeat{Epoch: 1}.encode(nil))
			_ = s.w.flush()
		}, ErrProtocol, 0},
		"sync set of another epoch": {func(s *script) { s.streaming(); s.send(msgSync, syncNotice{Epoch: 3}) }, ErrProtocol, 0},
		"frame of a newer epoch":    {func(s *script) { s.streaming(); s.frame(frame(3, wal.Position{})) }, ErrProtocol, 0},
		"frame with a gap": {func(s *script) {
			s.streaming()
			s.frame(good)
			s.expect(msgAck)
			s.frame(frame(1, wal.Position{Epoch: 1, LSN: 5}))
		}, ErrProtocol, 1},
		"frame of another history": {func(s *script) {
			s.streaming()
			s.frame(good)
			s.expect(msgAck)
			s.frame(frame(1, wal.Position{Epoch: 1, LSN: 1, Hash: 4}))
		}, ErrProtocol, 1},
		"damaged frame": {func(s *script) {
			s.streaming()
			bad := &wal.Frame{Header: good.Header, Bytes: append([]byte(nil), good.Bytes...)}
			bad.Bytes[len(bad.Bytes)-1] ^= 1
			s.frame(bad)
		}, ErrProtocol, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestNode(t, "b", nil)
			must(t, b.fence.Observe(1, "x", wal.SyncSet{}))
			ca, cb := tcpPair(t)
			l := &link{Conn: ca, idle: 5 * time.Second, write: 5 * time.Second}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.play(&script{t, newMsgWriter(l, 1024), newMsgReader(l, 1024, 1<<20)})
			}()
			err := b.receiver.Run(context.Background(), cb, "a", Follow, wal.Position{})
			<-done
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if b.log.End().LSN != c.end || b.fence.Epoch() > 2 {
				t.Fatalf("log ends at %v, epoch %d", b.log.End(), b.fence.Epoch())
			}
		})
	}
}

// The committed LSN is told soon after it rose, without a frame or a heartbeat being due (DESIGN section 4, step 6).
func TestCommittedIsToldSoon(t *testing.T) {
	_, a, b := pair(t, func(_ string, s *SenderOptions, _ *ReceiverOptions) { s.Heartbeat = time.Hour })
	a.activate(1, set(1, 1, "b"))
	b.keepFollowing("a", nil)
	for range 3 {
		last := a.write(1)
		eventually(t, "b to know", func() bool { return b.committed.Load() == uint64(last) })
	}
}

// R7: while the logs are being compared, a committed LSN says nothing about our records.
func TestCommittedIsNotTakenBeforeBegin(t *testing.T) {
	b := newTestNode(t, "b", nil)
	b.extend(1, 10, "own")
	ca, cb := tcpPair(t)
	l := &link{Conn: ca, idle: 5 * time.Second, write: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- b.receiver.Run(context.Background(), cb, "a", Follow, wal.Position{}) }()
	s := &script{t, newMsgWriter(l, 1024), newMsgReader(l, 1024, 1<<20)}
	s.expect(msgHello)
	s.send(msgWelcome, welcome{Node: "a", Epoch: 2, Holder: "a", Committed: 8, End: 9})
	must(t, s.w.put(msgHeartbeat, heartbeat{Epoch: 2, Committed: 8, End: 9}.encode(nil)))
	s.send(msgProbe, probe{LSN: 5})
	s.expect(msgProbed)
	if c := b.committed.Load(); c != 0 {
		t.Fatalf("told that %d is committed", c)
	}
	s.send(msgBegin, begin{From: mustPosition(t, b.log, 4)})
	s.expect(msgReady)
	s.expect(msgAck)
	must(t, s.w.put(msgHeartbeat, heartbeat{Epoch: 2, Committed: 8, End: 9}.encode(nil)))
	must(t, s.w.flush())
	s.expect(msgAck)
	eventually(t, "commit up to what is durable", func() bool { return b.committed.Load() == 4 })
	must(t, ca.Close())
	<-done
}
