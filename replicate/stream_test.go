package replicate

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/wal"
)

// W14, R1, R7: a stream that is cut again and again resumes by LSN: no gap, no duplicate, commits go on.
// Faults: W14 (a stream cut at random places)
func TestStreamSurvivesKilledSessions(t *testing.T) {
	net, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	b.keepFollowing("a", nil)
	const records = 10_000
	rnd := rand.New(rand.NewPCG(7, 7))
	for done := 0; done < records; {
		n := min(records-done, 1+rnd.IntN(600))
		last := a.write(n)
		done += n
		switch rnd.IntN(3) {
		case 0:
			net.kill("a")
		case 1:
			b.waitDurable(last)
		}
	}
	b.waitDurable(records)
	eventually(t, "commit of all", func() bool { return a.commit() == records })
	eventually(t, "b to know", func() bool { return b.committed.Load() == records })
	sameLog(t, a.log, b.log)
}

// W11: bytes that change on the wire close the session; nothing of it reaches the log.
// Faults: W11 (bytes flipped below a session, sealed and, for the frames' own checks, not sealed)
func TestStreamSurvivesCorruptedBytes(t *testing.T) {
	t.Run("sealed", func(t *testing.T) { corruptedBytes(t, true) })
	t.Run("frames", func(t *testing.T) { corruptedBytes(t, false) })
}

func corruptedBytes(t *testing.T, sealed bool) {
	var after atomic.Int64
	after.Store(1 << 60)
	tn := newTestNet(t)
	tn.change = func(o *MeshOptions) {
		if !sealed {
			o.Authenticate = func(net.Conn, string) error { return nil } // as if there was TLS
		}
		if o.Node == "a" { // all sessions are dialed by a, so b's side of them is wrapped by b
			return
		}
		o.WrapServer = func(_ context.Context, c net.Conn) (net.Conn, error) { return &flipConn{c, &after}, nil }
	}
	a, b := newTestNode(t, "a", nil), newTestNode(t, "b", nil)
	for _, n := range []*testNode{a, b} {
		n.mesh = tn.start(n.name, "a", "b")
		n.mesh.Handle(KindLog, n.sender.Serve)
	}
	waitConnected(t, b.mesh, "a")
	a.activate(1, set(1, 1, "b"))
	var mu sync.Mutex
	protocol := 0
	b.keepFollowing("a", func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if errors.Is(err, ErrProtocol) {
			protocol++
		}
	})
	rnd := rand.New(rand.NewPCG(3, 3))
	for range 30 {
		after.Store(rnd.Int64N(20_000))
		last := a.write(300)
		b.waitDurable(last)
	}
	mu.Lock()
	defer mu.Unlock()
	if protocol == 0 && !sealed { // what is sealed ends with its session, before the receiver sees it
		t.Error("no damage was noticed by the receiver")
	}
	if after.Load() > 0 && sealed {
		t.Error("nothing was flipped")
	}
	sameLog(t, a.log, b.log)
}

// R9, R15, H9: an old active with a suffix of its own rejoins without a person; the suffix is saved aside.
// Faults: H9 (an old active with a suffix of its own)
func TestDivergedSuffixIsSavedAndCut(t *testing.T) {
	_, a, b := pair(t, nil)
	for _, n := range []*testNode{a, b} {
		n.extend(1, 100, "common")
	}
	b.extend(1, 23, "never replicated")
	b.applied = mustPosition(t, b.log, 90)
	must(t, b.fence.Observe(1, "b", set(1, 0)))
	a.activate(2, set(2, 1, "b"))
	last := a.write(50)
	b.keepFollowing("a", nil)
	b.waitDurable(last)
	eventually(t, "commit", func() bool { return a.commit() == last })
	sameLog(t, a.log, b.log)
	if b.fence.Epoch() != 2 {
		t.Fatalf("epoch %d", b.fence.Epoch())
	}
	if len(b.diverged) != 1 || b.diverged[0].From.LSN != 100 || b.diverged[0].To.LSN != 123 || b.diverged[0].Records != 23 {
		t.Fatalf("diverged: %+v", b.diverged)
	}
	saved, err := wal.ListDiverged(b.fs, "diverged")
	must(t, err)
	if len(saved) != 1 {
		t.Fatalf("saved: %+v", saved)
	}
}

func mustPosition(t testing.TB, l *wal.Log, lsn wal.LSN) wal.Position {
	t.Helper()
	p, err := l.PositionAt(lsn)
	must(t, err)
	return p
}

// R3, R4: a standby that has seen a newer epoch refuses the older active, and tells it.
func TestStaleActiveIsRefused(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	must(t, b.fence.Observe(3, "c", wal.SyncSet{}))
	err := b.follow(context.Background(), "a", Follow, wal.Position{})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != CodeUnfenced {
		t.Fatalf("got %v", err)
	}
	if len(a.stale) != 1 || a.stale[0] != 3 {
		t.Fatalf("the active was told %v", a.stale)
	}
	if b.fence.Epoch() != 3 {
		t.Fatalf("epoch %d", b.fence.Epoch())
	}
}

// R3, R4: the same in the middle of a stream: what comes after the standby has seen a newer epoch is neither taken
// nor acked.
func TestStreamEndsWithNewerEpochAtStandby(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	done := make(chan error, 1)
	go func() { done <- b.follow(context.Background(), "a", Follow, wal.Position{}) }()
	b.waitDurable(a.write(10))
	must(t, b.fence.Observe(2, "c", wal.SyncSet{}))
	end := b.log.End()
	a.write(10)
	var stale *StaleEpochError
	if err := <-done; !errors.As(err, &stale) || stale.Epoch != 2 || stale.Holder != "c" || stale.Ours {
		t.Fatalf("got %v", err)
	}
	if b.log.End() != end {
		t.Fatalf("log grew from %v to %v", end, b.log.End())
	}
	eventually(t, "the active to be told", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.stale) > 0 })
	if a.commit() > 10 {
		t.Fatalf("committed %d", a.commit())
	}
}

// R4: an active that has seen a newer epoch stops serving and names it.
func TestStreamEndsWithNewerEpochAtActive(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	done := make(chan error, 1)
	go func() { done <- b.follow(context.Background(), "a", Follow, wal.Position{}) }()
	b.waitDurable(a.write(10))
	must(t, a.fence.Observe(2, "c", wal.SyncSet{}))
	var stale *StaleEpochError
	if err := <-done; !errors.As(err, &stale) || stale.Epoch != 2 || stale.Holder != "c" || !stale.Ours {
		t.Fatalf("got %v", err)
	}
}

// A node that may not serve says so, at the start and in the middle of a stream, and DropAll ends streams at once.
func TestServingIsRefused(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	run := func() chan error {
		done := make(chan error, 1)
		go func() { done <- b.follow(context.Background(), "a", Follow, wal.Position{}) }()
		return done
	}
	done := run()
	b.waitDurable(a.write(1))
	a.mu.Lock()
	a.mayServe = errors.New("not the active")
	a.mu.Unlock()
	for range 2 {
		var refused *RefusedError
		if err := <-done; !errors.As(err, &refused) || refused.Code != CodeNotServing {
			t.Fatalf("got %v", err)
		}
		done = run()
	}
	<-done
	a.mu.Lock()
	a.mayServe = nil
	a.mu.Unlock()
	done = run()
	b.waitDurable(a.write(1))
	a.sender.DropAll("test")
	if err := <-done; err == nil {
		t.Fatal("the stream ended without an error")
	}
}

// R11, H2: a standby that lost records which it acked in this epoch does not count until it has them again.
// Faults: H2 (a standby comes back with less than it acked, while the active remembers)
func TestRegressDoesNotCount(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	stop := b.keepFollowing("a", nil)
	for range 5 { // several frames, so that there is a position to fall back to
		b.waitDurable(a.write(20))
	}
	eventually(t, "commit", func() bool { return a.commit() == 100 })
	stop()
	_, err := b.log.TruncateTail(mustPosition(t, b.log, 50), wal.SaveOptions{Dir: "lost"}) // an older copy of its disk
	must(t, err)
	has := b.log.End().LSN
	b.keepFollowing("a", nil)
	b.waitDurable(100)
	eventually(t, "b to count again", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.acks["b"].Counts && a.acks["b"].Durable == 100
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.regresses) != 1 || a.regresses[0].Had != 100 || a.regresses[0].Has != has {
		t.Fatalf("regresses: %+v", a.regresses)
	}
	if !b.receiver.o.Voter() {
		t.Fatal("b did not become a voter again")
	}
}

// R11: a blank standby is no voter, and does not count, before it has what the active had when it joined.
func TestBlankStandbyBecomesVoter(t *testing.T) {
	_, a, b := pair(t, nil)
	b.voter = false
	a.activate(1, set(1, 1, "b"))
	last := a.write(500)
	eventually(t, "the log", func() bool { return a.log.Durable().LSN == last })
	b.keepFollowing("a", nil)
	eventually(t, "commit", func() bool { return a.commit() == last })
	if !b.receiver.o.Voter() {
		t.Fatal("b is no voter")
	}
}

// R6: a new sync set is persisted by the standby before its ack carries the version.
func TestSyncSetIsAnnounced(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	b.keepFollowing("a", nil)
	b.waitDurable(a.write(10))
	next := set(2, 0, "b")
	a.mu.Lock()
	must(t, a.rule.SetRule(next))
	a.mu.Unlock()
	a.sender.SetSync(next)
	eventually(t, "the record", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.rule.Recorded() })
	if b.fence.sync.Version != 2 {
		t.Fatalf("b acked version 2 and has %v", b.fence.sync)
	}
}

// W9: a second stream of the same standby ends the first.
// Faults: W9 (a second stream)
func TestNewestStreamWins(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 1, "b"))
	first := make(chan error, 1)
	go func() { first <- b.follow(context.Background(), "a", Follow, wal.Position{}) }()
	b.waitDurable(a.write(1))
	ctx, cancel := context.WithCancel(context.Background())
	s, err := b.mesh.Open(ctx, "a", KindLog, "g")
	must(t, err)
	other, err := NewReceiver(b.receiver.o) // as if the process did not know of the first
	must(t, err)
	second := make(chan error, 1)
	go func() { second <- other.Run(ctx, s, "a", Follow, wal.Position{}) }()
	if err := <-first; err == nil {
		t.Fatal("the first stream ended without an error")
	}
	b.waitDurable(a.write(1))
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// R5: a candidate copies the log of a fenced peer up to exactly the position wanted.
func TestFastForward(t *testing.T) {
	_, a, b := pair(t, nil)
	for _, n := range []*testNode{a, b} {
		n.extend(1, 40, "common")
	}
	a.extend(1, 60, "more")
	b.extend(1, 3, "own")
	must(t, a.fence.Observe(1, "x", wal.SyncSet{}))
	must(t, b.fence.Observe(2, "b", wal.SyncSet{}))
	err := b.follow(context.Background(), "a", FastForward, a.log.End())
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != CodeUnfenced {
		t.Fatalf("from a source that is not fenced: %v", err)
	}
	must(t, a.fence.Observe(2, "b", wal.SyncSet{}))
	wrong := a.log.End()
	wrong.Hash++
	if err := b.follow(context.Background(), "a", FastForward, wrong); err == nil {
		t.Fatal("arrived at another history")
	}
	if end := a.log.End(); b.log.End() != end {
		t.Fatalf("log ends at %v, want %v", b.log.End(), end)
	}
	a.extend(2, 1, "later")
	must(t, b.follow(context.Background(), "a", FastForward, a.log.End()))
	sameLog(t, a.log, b.log)
	if len(b.diverged) != 1 || b.diverged[0].Records != 3 {
		t.Fatalf("diverged: %+v", b.diverged)
	}
	if len(a.acks) > 0 {
		t.Fatalf("a fast-forward counted: %+v", a.acks)
	}
}

// W13: a standby that does not read is given up by the write deadline.
// Faults: W13 (a standby that does not read)
func TestStuckStandbyIsGivenUp(t *testing.T) {
	a := newTestNode(t, "a", func(s *SenderOptions, _ *ReceiverOptions) { s.WriteTimeout = 50 * time.Millisecond })
	a.activate(1, set(1, 0))
	a.write(2000)
	ca, cb := pipePair(t)
	served := make(chan struct{})
	go func() { defer close(served); a.sender.Serve(PeerInfo{Node: "b"}, "g", ca) }()
	l := &link{Conn: cb, idle: time.Second, write: time.Second}
	must(t, newMsgWriter(l, 1024).send(msgHello, hello{Group: "g", Node: "b", Purpose: Follow}))
	r := newMsgReader(l, 16, 1<<20)
	for _, want := range []msgType{msgWelcome, msgBegin} {
		if typ, _, err := r.next(); err != nil || typ != want {
			t.Fatalf("message %d, %v; want %d", typ, err, want)
		}
	}
	must(t, newMsgWriter(l, 1024).send(msgReady, ready{}))
	<-served
}

// What a standby may not say ends its stream.
func TestSenderRefusesNonsense(t *testing.T) {
	a := newTestNode(t, "a", nil)
	a.activate(1, set(1, 0))
	for name, h := range map[string]hello{
		CodeGroup:      {Group: "other", Node: "b", Purpose: Follow},
		CodeNode:       {Group: "g", Node: "c", Purpose: Follow},
		CodeStale:      {Group: "g", Node: "b", Purpose: FastForward},
		CodeProtocol:   {Group: "g", Node: "b", Purpose: "nonsense"},
		CodeNotServing: {Group: "g", Node: "b", Purpose: Follow},
	} {
		a.mayServe = nil
		if name == CodeNotServing {
			a.mayServe = errors.New("no")
		}
		ca, cb := pipePair(t)
		served := make(chan struct{})
		go func() { defer close(served); a.sender.Serve(PeerInfo{Node: "b"}, "g", ca) }()
		l := &link{Conn: cb, idle: time.Second, write: time.Second}
		must(t, newMsgWriter(l, 1024).send(msgHello, h))
		typ, b, err := newMsgReader(l, 16, 1<<20).next()
		must(t, err)
		r, err := decodeJSON[reject](b)
		if typ != msgReject || err != nil || r.Code != name {
			t.Fatalf("%s: message %d %+v, %v", name, typ, r, err)
		}
		<-served
	}
}

var _ net.Conn = (*Stream)(nil)
