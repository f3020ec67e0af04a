package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/snapshot"
	"repld/wal"
)

// memFence is a Fence that forgets with the process.
type memFence struct {
	mu     sync.Mutex
	epoch  wal.Epoch
	holder string
	sync   wal.SyncSet
}

func (f *memFence) Epoch() wal.Epoch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

func (f *memFence) Holder() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holder
}

func (f *memFence) Observe(e wal.Epoch, holder string, sync wal.SyncSet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e < f.epoch || (e == f.epoch && f.holder != "" && holder != f.holder) {
		return &StaleEpochError{Epoch: f.epoch, Holder: f.holder}
	}
	f.epoch, f.holder = e, holder
	if sync.Version >= f.sync.Version {
		f.sync = sync
	}
	return nil
}

// testNode is one node: a real log on a memory file system, a real mesh, and a state that only counts.
type testNode struct {
	t        testing.TB
	name     string
	fs       *vfs.MemFS
	log      *wal.Log
	fence    *memFence
	mesh     *Mesh
	sender   *Sender
	receiver *Receiver
	writer   *wal.Writer

	mu        sync.Mutex
	rule      *CommitRule
	applied   wal.Position
	voter     bool
	mayServe  error
	acks      map[string]Ack
	regresses []Regress
	stale     []wal.Epoch
	diverged  []wal.Diverged
	installed []snapshot.Manifest
	committed atomic.Uint64 // on a standby
}

func newTestNode(t testing.TB, name string, change func(*SenderOptions, *ReceiverOptions)) *testNode {
	t.Helper()
	n := &testNode{t: t, name: name, fs: vfs.NewMem(), fence: &memFence{}, acks: map[string]Ack{}, voter: true}
	n.openLog()
	so := SenderOptions{
		Group: "g", Node: name, Log: n.log, Fence: n.fence, Committed: n.commit, Heartbeat: 5 * time.Millisecond,
		MayServe:  func(Purpose) error { n.mu.Lock(); defer n.mu.Unlock(); return n.mayServe },
		OnAck:     n.onAck,
		OnRegress: n.onRegress,
		OnStale:   func(e wal.Epoch, _ string) { n.mu.Lock(); defer n.mu.Unlock(); n.stale = append(n.stale, e) },
	}
	ro := ReceiverOptions{
		Group: "g", Node: name, Log: n.log, Fence: n.fence, FS: n.fs, DivergedDir: "diverged", IncomingDir: "incoming", StagedDir: "state.new",
		Applied:     func() wal.Position { n.mu.Lock(); defer n.mu.Unlock(); return n.applied },
		Voter:       func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.voter },
		SetVoter:    func(v bool) error { n.mu.Lock(); defer n.mu.Unlock(); n.voter = v; return nil },
		OnCommitted: n.onCommitted,
		OnDiverged:  func(d wal.Diverged) { n.mu.Lock(); defer n.mu.Unlock(); n.diverged = append(n.diverged, d) },
		Install:     n.install,
	}
	if testing.Verbose() {
		so.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)).With("on", name)
		ro.Logger = so.Logger
	}
	if change != nil {
		change(&so, &ro)
	}
	var err error
	n.sender, err = NewSender(so)
	must(t, err)
	n.receiver, err = NewReceiver(ro)
	must(t, err)
	t.Cleanup(func() {
		must(t, n.sender.Close())
		if n.writer != nil {
			must(t, n.writer.Close())
		}
		must(t, n.log.Close())
	})
	return n
}

func (n *testNode) openLog() {
	var err error
	n.log, _, err = wal.Open(wal.Options{
		FS: n.fs, Dir: "wal", Identity: wal.Identity{Cluster: "test", Group: "g", Incarnation: [16]byte{n.name[0]}}, SegmentBytes: 256 << 10,
	})
	must(n.t, err)
}

func (n *testNode) commit() wal.LSN {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rule == nil {
		return wal.LSN(n.committed.Load())
	}
	return n.rule.Committed()
}

func (n *testNode) onAck(standby string, a Ack) {
	n.mu.Lock()
	n.acks[standby] = a
	if a.Counts && n.rule != nil {
		n.rule.Acked(standby, a.Durable, a.Sync)
	}
	n.mu.Unlock()
	n.sender.CommittedChanged()
}

func (n *testNode) onRegress(standby string, r Regress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.regresses = append(n.regresses, r)
	if n.rule != nil {
		n.rule.Forget(standby)
	}
}

func (n *testNode) onCommitted(lsn wal.LSN, _ time.Time) {
	if old := wal.LSN(n.committed.Swap(uint64(lsn))); lsn > n.log.Durable().LSN {
		n.t.Errorf("%s: told that %d is committed, %d before, %v durable", n.name, lsn, old, n.log.Durable())
	}
}

func (n *testNode) install(_ context.Context, m snapshot.Manifest, dir string, known wal.LSN) error {
	if n.votes() {
		n.t.Errorf("%s votes while its log is replaced: a crash now leaves a voter without what it acked (R11)", n.name)
	}
	if err := snapshot.Check(n.fs, dir, m); err != nil {
		return err
	}
	if err := n.log.Reset(m.Position, wal.SaveOptions{Dir: "diverged", Reason: "snapshot", Known: known}); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.installed = append(n.installed, m)
	n.applied = m.Position
	return n.fs.RemoveAll(dir)
}

// activate makes n the active of an epoch.
func (n *testNode) activate(epoch wal.Epoch, sync wal.SyncSet) {
	n.t.Helper()
	must(n.t, n.fence.Observe(epoch, n.name, sync))
	n.mu.Lock()
	n.rule = NewCommitRule(n.name, sync, 0, n.log.End().LSN+1)
	n.mu.Unlock()
	n.sender.SetSync(sync)
	var err error
	n.writer, err = n.log.NewWriter(wal.WriterOptions{
		Epoch: epoch, Committed: n.commit,
		OnDurable: func(p wal.Position) {
			n.mu.Lock()
			n.rule.Durable(p.LSN)
			n.mu.Unlock()
			n.sender.CommittedChanged()
		},
		OnError: func(err error) { n.t.Errorf("%s: writer: %v", n.name, err) },
	})
	must(n.t, err)
}

// write appends count records and returns the last LSN, without waiting.
func (n *testNode) write(count int) wal.LSN {
	n.t.Helper()
	var last wal.LSN
	for i := range count {
		must(n.t, n.writer.Admit(context.Background()))
		lsn, err := n.writer.Append(wal.KindEffects, fmt.Appendf(nil, "%s-%d-%0100d", n.name, i, i))
		must(n.t, err)
		last = lsn
	}
	return last
}

// extend appends frames of one record each, as if received, without a writer.
func (n *testNode) extend(epoch wal.Epoch, count int, salt string) {
	n.t.Helper()
	for i := range count {
		f, err := wal.EncodeFrame(n.log.End(), wal.FrameOptions{Epoch: epoch, Codec: wal.CodecS2, Time: time.Unix(1, 0)},
			[]wal.Record{{Kind: wal.KindEffects, Payload: fmt.Appendf(nil, "%s %d", salt, i)}})
		must(n.t, err)
		_, err = n.log.AppendFrames([]*wal.Frame{f})
		must(n.t, err)
	}
}

func (n *testNode) waitDurable(lsn wal.LSN) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("%s durable at %d", n.name, lsn), func() bool { return n.log.Durable().LSN >= lsn })
}

// pair is an active a and a standby b on a real mesh.
func pair(t testing.TB, change func(node string, s *SenderOptions, r *ReceiverOptions)) (*testNet, *testNode, *testNode) {
	t.Helper()
	net := newTestNet(t)
	names := []string{"a", "b"}
	nodes := map[string]*testNode{}
	for _, name := range names {
		nodes[name] = newTestNode(t, name, func(s *SenderOptions, r *ReceiverOptions) {
			if change != nil {
				change(name, s, r)
			}
		})
	}
	for _, name := range names {
		n := nodes[name]
		n.mesh = net.start(name, names...)
		n.mesh.Handle(KindLog, n.sender.Serve)
	}
	waitConnected(t, nodes["a"].mesh, "b")
	waitConnected(t, nodes["b"].mesh, "a")
	return net, nodes["a"], nodes["b"]
}

// follow runs b's receiver once against source and returns how it ended.
func (n *testNode) follow(ctx context.Context, source string, p Purpose, until wal.Position) error {
	s, err := n.mesh.Open(ctx, source, KindLog, "g")
	if err != nil {
		return err
	}
	return n.receiver.Run(ctx, s, source, p, until)
}

// keepFollowing runs the receiver again and again until the test ends, and hands on every error.
func (n *testNode) keepFollowing(source string, each func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := n.follow(ctx, source, Follow, wal.Position{})
			if each != nil && ctx.Err() == nil && !errors.Is(err, ErrNotConnected) {
				each(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	n.t.Cleanup(stop)
	return stop
}

// sameLog checks that two logs hold the same history (equal LSN and chain hash) and that b's frames can all be read.
func sameLog(t testing.TB, a, b *wal.Log) {
	t.Helper()
	if a.End() != b.End() {
		t.Fatalf("logs end at %v and %v", a.End(), b.End())
	}
	r, err := b.NewReader(b.Start().LSN)
	must(t, err)
	defer r.Close()
	next := b.Start().LSN + 1
	for {
		f, err := r.TryNext()
		must(t, err)
		if f == nil {
			break
		}
		if f.First != next {
			t.Fatalf("frame begins at %d, want %d", f.First, next)
		}
		must(t, f.Each(func(wal.Record) error { next++; return nil }))
	}
	if next != b.End().LSN+1 {
		t.Fatalf("records end at %d, log at %d", next-1, b.End().LSN)
	}
}

// flipConn flips one bit of what is read, once, after a number of bytes.
type flipConn struct {
	net.Conn
	after *atomic.Int64
}

func (c *flipConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if left := c.after.Add(-int64(n)); n > 0 && left <= 0 && left > -int64(n) {
		b[n-1] ^= 0x10
	}
	return n, err
}

// memSource is a state with a few files.
type memSource struct {
	fs    vfs.FS
	log   *wal.Log
	files int
	size  int
}

func (s *memSource) Checkpoint(dir string) (wal.Position, error) {
	pos := s.log.Durable()
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return pos, err
	}
	for i := range s.files {
		f, err := s.fs.Create(s.fs.PathJoin(dir, fmt.Sprintf("%06d.sst", i)), vfs.WriteCategoryUnspecified)
		if err != nil {
			return pos, err
		}
		_, err = io.WriteString(f, fmt.Sprintf("%0*d", s.size, i))
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return pos, err
		}
	}
	return pos, nil
}
