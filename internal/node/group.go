package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"repld/failover"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/replicate"
	"repld/snapshot"
	"repld/wal"
)

// group is one replicated log with its state and its epoch: the parts, and how they are tied together. Who may write is the runner's business,
// for whom the group is the failover.Host (host.go); what clients see is in backend.go.
type group struct {
	o           *Options
	dir         string
	incarnation string
	logger      *slog.Logger
	fatal       func(error) // stops the node; called at most once that matters

	fence     *failover.Fence
	token     failover.Store
	closeTok  func() error
	log       *wal.Log
	recovery  wal.Recovery
	state     *state
	commit    *commit
	seq       *sequencer
	applier   *applier
	digests   *digests
	alarms    *alarms
	guard     *pauseGuard
	peers     *peers
	sender    *replicate.Sender
	receiver  *replicate.Receiver
	follower  *follower
	retention *retention
	runner    *failover.Runner

	serving atomic.Uint64 // epoch in which this node serves followers, 0 = none
	open    atomic.Bool   // clients may write
	marks   atomic.Uint64 // numbers digest marks
	started time.Time
	clients func() int    // connections now; set once by Open
	met     chan struct{} // capacity 1: a session with a peer came up

	confirming sync.Mutex // one confirm at a time

	writer struct {
		sync.Mutex
		w *wal.Writer
	}
	snapshots struct {
		sync.Mutex
		m *snapshot.Manager
	}
}

// openGroup opens everything that lies on disk. Nothing runs yet.
func openGroup(o *Options, id identity, fresh bool, mesh *replicate.Mesh, fatal func(error)) (_ *group, err error) {
	g := &group{
		o: o, dir: o.FS.PathJoin(o.Dir, "groups", o.Group), incarnation: id.Incarnation,
		logger: o.Logger.With("group", o.Group), fatal: fatal, alarms: newAlarms(), met: make(chan struct{}, 1), started: time.Now(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.closeDisk())
		}
	}()
	for _, d := range []string{o.FS.PathJoin(o.Dir, "groups"), g.dir, g.path("diverged"), g.path("wal"), g.path("token")} {
		// Always synced, not only when made: a crash may have come between making it and syncing its parent.
		if err := makeDir(o.FS, d); err != nil {
			return nil, err
		}
	}
	if err := g.openFence(fresh); err != nil {
		return nil, err
	}
	g.guard = newPauseGuard(o.PauseLimit)
	g.digests = newDigests(o.Name, o.DigestRate, g.logger)
	if err := g.openState(id); err != nil {
		return nil, err
	}
	g.commit = newCommit(g.committedMoved)
	g.commit.reset(g.knownCommitted())
	g.seq = newSequencer(func() wal.LSN { return g.state.applied().LSN }, int64(o.QueueBytes), o.CommitTimeout, server.ReadOnly(g.fence.Epoch(), g.holder()))
	delay := o.ApplyDelay
	g.applier = newApplier(g.log, g.state, delay)
	g.applier.limit, g.applier.applied = g.commit.lsn, g.advanced
	g.retention = &retention{log: g.log, state: g.state, budget: o.LogBudget, needed: g.needed, every: o.Trim, logger: g.logger}
	g.peers = newPeers(mesh)
	if err := g.tie(mesh); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *group) path(name string) string { return g.o.FS.PathJoin(g.dir, name) }

func (g *group) openFence(fresh bool) error {
	slots, rec, err := failover.OpenSlots(failover.SlotsOptions{FS: g.o.FS, Dir: g.dir, Name: "epoch", Create: fresh})
	if err != nil {
		return fmt.Errorf("open epoch file: %w", err)
	}
	for _, bad := range rec.Bad {
		g.logger.Warn("epoch slot damaged, the other one is used", "error", bad)
	}
	g.fence = failover.NewFence(slots)
	g.token = g.o.Token
	if g.token == nil {
		store, err := failover.OpenFileStore(failover.FileStoreOptions{FS: g.o.FS, Dir: g.path("token")})
		if err != nil {
			return fmt.Errorf("open token store: %w", err)
		}
		g.token, g.closeTok = store, store.Close
	}
	return nil
}

// openState opens the state, then the log, which must reach at least as far as the state surely did (R8), then checks that the state lies on
// the log's history.
func (g *group) openState(id identity) error {
	o := g.o
	g.state = &state{drain: o.CommitTimeout, options: kv.Options{
		FS: o.FS, Dir: g.path("state"), CacheBytes: o.CacheBytes, MemTableBytes: o.MemTableBytes, StallLimit: o.StallLimit,
		OnFatal: func(err error) { g.fatal(fmt.Errorf("state: %w", err)) }, OnMark: g.digests.marked, Logger: g.logger,
	}}
	options := wal.Options{
		FS: o.FS, Dir: g.path("wal"), Identity: wal.Identity{Cluster: o.Cluster, Group: o.Group, Incarnation: id.incarnation()},
		SegmentBytes: o.SegmentBytes, MaxFrameBytes: o.MaxFrameBytes, MemoryBytes: o.MemoryTail, Logger: g.logger,
	}
	openLog := func() (err error) {
		g.log, g.recovery, err = wal.Open(options)
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		return nil
	}
	err := g.state.open(g.path("state.new"), func(at wal.Position) error {
		// A crash interrupted the install of a snapshot: the log begins anew at its position.
		if err := openLog(); err != nil {
			return err
		}
		return g.resetLog(at, 0) // which records are in the new history is not known any more: all that are not sure to be are saved
	})
	if err != nil {
		return err
	}
	at := g.state.applied()
	if g.log == nil {
		options.KnownDurable = at.LSN
		if err := openLog(); err != nil {
			return err
		}
	}
	if have, err := g.log.PositionAt(at.LSN); err != nil || have != at {
		return fmt.Errorf("state at %s is not on the history of the log, which has %s there (%v): restore both from one copy, or empty the data directory to have the node seeded anew",
			at, have, err)
	}
	if g.recovery.Doubt && len(o.Peers) > 0 && g.fence.Voter() {
		g.logger.Warn("log tail was damaged and cut: this node does not vote for data until a peer has shown it that nothing is missing", "end", g.log.End())
		return g.fence.SetVoter(false)
	}
	return nil
}

// resetLog makes the log begin at a snapshot's position, saving what the new history may not contain: records behind known (R9).
func (g *group) resetLog(at wal.Position, known wal.LSN) error {
	save := wal.SaveOptions{Dir: g.path("diverged"), Reason: fmt.Sprintf("replaced by a snapshot at %s", at), Known: known}
	if err := g.log.Reset(at, save); err != nil {
		return fmt.Errorf("reset log to %s: %w", at, err)
	}
	return nil
}

// knownCommitted is what this node's own disk proves to be committed.
func (g *group) knownCommitted() wal.LSN {
	known := g.state.applied().LSN
	if end := g.log.End(); end.LSN > known {
		if f, err := g.log.FrameAt(end.LSN); err == nil {
			known = max(known, f.Committed)
		}
	}
	return known
}

// tie makes the parts that call each other.
func (g *group) tie(mesh *replicate.Mesh) (err error) {
	fence := replicateFence{g.fence, g.o.Name}
	g.newSnapshots()
	g.sender, err = replicate.NewSender(replicate.SenderOptions{
		Group: g.o.Group, Node: g.o.Name, Log: g.log, Fence: fence, Snapshots: g, Committed: g.commit.lsn,
		MayServe: g.mayServe, OnAck: g.acked, OnRegress: g.regressed, OnStale: g.stale,
		Heartbeat: g.o.Heartbeat, BulkRate: g.o.BulkRate, Logger: g.o.Logger,
	})
	if err != nil {
		return err
	}
	g.receiver, err = replicate.NewReceiver(replicate.ReceiverOptions{
		Group: g.o.Group, Node: g.o.Name, Log: g.log, Fence: fence, Applied: g.state.applied,
		Voter: g.fence.Voter, SetVoter: g.setVoter,
		OnCommitted: func(lsn wal.LSN, _ time.Time) { g.commit.learned(lsn) },
		OnDiverged: func(d wal.Diverged) {
			g.logger.Warn("log suffix saved aside and cut", "path", d.Path, "from", d.From, "to", d.To, "records", d.Records)
		},
		DivergedDir: g.path("diverged"), FS: g.o.FS, IncomingDir: g.path("incoming"), StagedDir: g.path("state.new"), Install: g.install, Rewind: g.rewind,
		Logger: g.o.Logger,
	})
	if err != nil {
		return err
	}
	g.follower = newFollower(g.o.Name, g.o.Group, mesh, g.receiver, g.streamEnded, g.logger)
	g.fence.OnRise(g.epochRose)
	g.runner, err = failover.NewRunner(failover.RunnerOptions{
		Node: g.o.Name, Nodes: g.nodes(), Host: host{g}, Fence: g.fence, Store: g.token, Next: g.nextSync, Logger: g.logger,
	})
	if err != nil {
		return err
	}
	mesh.Handle(streamLog, func(peer replicate.PeerInfo, name string, s net.Conn) { g.sender.Serve(peer, name, s) })
	return nil
}

// nodes lists all data nodes, this one first.
func (g *group) nodes() []string {
	all := []string{g.o.Name}
	for _, p := range g.o.Peers {
		all = append(all, p.Name)
	}
	return all
}

// nextSync is the sync set as configured: what an epoch of this node starts with.
func (g *group) nextSync() wal.SyncSet {
	return wal.SyncSet{Members: g.o.syncMembers(), K: g.o.Sync.K}
}

// active reports whether clients may write here.
func (g *group) active() bool { return g.open.Load() }

// holder returns who holds the epoch as far as this node knows.
func (g *group) holder() string { return g.fence.Holder() }

// committedMoved is called with the commit lock held whenever the committed LSN rose: the applier applies, the standbys are told.
func (g *group) committedMoved() {
	g.applier.kick()
	if g.serving.Load() != 0 {
		g.sender.CommittedChanged()
	}
	if w := g.seq.writer.Load(); w != nil {
		w.Progress(g.commit.lsn())
	}
}

// advanced is called by the applier after each step: clients up to there are answered. A node that stood still asks its peers first whether it
// is still the active.
func (g *group) advanced(at wal.Position) {
	if g.active() && g.guard.paused() {
		g.confirm()
	}
	g.seq.finish(at.LSN)
}

// durable is the log writer's word that its file is synced up to p.
func (g *group) durable(p wal.Position) {
	g.commit.update(func(r *replicate.CommitRule) { r.Durable(p.LSN) })
}

func (g *group) acked(standby string, a replicate.Ack) {
	if a.Counts {
		g.commit.update(func(r *replicate.CommitRule) { r.Acked(standby, a.Durable, a.Sync) })
	}
}

func (g *group) regressed(standby string, r replicate.Regress) {
	g.logger.Warn("standby lost records that it had acked", "standby", standby, "had", r.Had, "has", r.Has, "reason", r.Reason)
	g.commit.update(func(c *replicate.CommitRule) { c.Forget(standby) })
}

// stale is a peer's word that it knows a newer epoch (R15).
func (g *group) stale(e wal.Epoch, holder string) { go g.observe(nodeState{Epoch: e, Holder: holder}) }

// streamEnded looks at why following ended: it may carry a newer epoch.
func (g *group) streamEnded(err error) {
	var stale *replicate.StaleEpochError
	if errors.As(err, &stale) && stale.Ours {
		g.observe(nodeState{Epoch: stale.Epoch, Holder: stale.Holder})
	}
	switch {
	case errors.Is(err, wal.ErrFailed):
		g.fatal(fmt.Errorf("log: %w", err))
	case errors.Is(err, failover.ErrFailed):
		g.fatal(fmt.Errorf("epoch file: %w", err))
	}
}

// observe takes note of an epoch that somebody named.
func (g *group) observe(s nodeState) {
	if s.Epoch == 0 || s.Holder == "" {
		return
	}
	err := g.fence.Observe(s.Epoch, s.Holder, s.Sync)
	switch {
	case errors.Is(err, failover.ErrConflict):
		// Two nodes were promoted at the same time. If this one lost and the other one really serves the epoch, it accepts a follower.
		if g.holder() == g.o.Name && g.runner.Role() == failover.RoleStandby {
			g.follower.follow(s.Holder)
		} else if g.active() {
			g.alarms.raise("epoch-conflict", fmt.Sprintf("epoch %d is held by %s as well as by this node: demote one of them", s.Epoch, s.Holder))
		}
	case errors.Is(err, failover.ErrFailed):
		g.fatal(fmt.Errorf("epoch file: %w", err))
	case err != nil && !errors.Is(err, failover.ErrStaleEpoch):
		g.logger.Warn("epoch not noted", "epoch", s.Epoch, "holder", s.Holder, "error", err)
	}
}

// epochRose is called while the fence persists a higher epoch, before anybody is told of it (R3): from its return on nothing of an older epoch
// is committed or acked by this node.
func (g *group) epochRose(e wal.Epoch, holder string) {
	g.follower.follow("") // a stream of the older epoch ends; the runner says whom to follow now
	if holder == g.o.Name {
		return
	}
	g.serving.Store(0)
	g.open.Store(false) // before the broadcast of stop, for those who wait for acks
	g.commit.stop()
	g.shut(server.ReadOnly(e, holder))
	g.sender.DropAll(fmt.Sprintf("epoch %d is held by %s", e, holder))
	g.runner.HigherEpoch(e, holder)
}

// shut refuses writes from now on and answers those in flight as unknown (R13).
func (g *group) shut(refusal error) {
	g.open.Store(false)
	g.seq.stop(refusal)
}

// mayServe says whether this node may serve a log stream now.
func (g *group) mayServe(p replicate.Purpose) error {
	if p == replicate.Follow && wal.Epoch(g.serving.Load()) != g.fence.Epoch() || g.fence.Epoch() == 0 {
		return fmt.Errorf("node %s is not active: epoch %d is held by %q", g.o.Name, g.fence.Epoch(), g.holder())
	}
	return nil
}

// setVoter persists whether this node's log counts (R11). Becoming a voter settles a doubt about a damaged tail.
func (g *group) setVoter(v bool) error {
	if v {
		if err := g.log.SettleDoubt(); err != nil {
			return err
		}
	}
	return g.fence.SetVoter(v)
}

// rewind is called before the tail of the log is cut: nothing above to is applied from now on.
func (g *group) rewind(to wal.Position) (wal.Position, error) {
	g.commit.rewind(to.LSN)
	g.applier.step.Lock() // a step that is going on ends
	defer g.applier.step.Unlock()
	return g.state.applied(), nil
}

// install replaces log and state by a received snapshot.
func (g *group) install(_ context.Context, m snapshot.Manifest, dir string, known wal.LSN) error {
	g.logger.Info("installing snapshot", "position", m.Position, "bytes", m.Bytes())
	g.digests.cancel()    // they hold snapshots of the state
	g.applier.step.Lock() // the applier rests until log and state fit together again
	defer g.applier.step.Unlock()
	if err := g.state.replace(dir, func(at wal.Position) error { return g.resetLog(at, known) }); err != nil {
		err = fmt.Errorf("install snapshot at %s: %w", m.Position, err)
		g.fatal(err) // the state is closed; opening the node again finishes the install
		return err
	}
	g.commit.reset(m.Position.LSN)
	g.newSnapshots()
	g.applier.kick()
	return nil
}

// newSnapshots forgets the checkpoints of the state: a replaced state has another history.
func (g *group) newSnapshots() {
	g.snapshots.Lock()
	defer g.snapshots.Unlock()
	if g.snapshots.m != nil {
		if err := g.snapshots.m.Close(); err != nil {
			g.logger.Warn("checkpoints not removed", "error", err)
		}
	}
	g.snapshots.m = snapshot.NewManager(snapshot.ManagerOptions{
		FS: g.o.FS, Dir: g.path("checkpoints"), Cluster: g.o.Cluster, Group: g.o.Group, Source: checkpointer{g.state},
		LogStart: func() wal.LSN { return g.log.Start().LSN }, Logger: g.logger,
	})
}

// needed is the first LSN that connected standbys need from the log, or will need after the snapshot that they are being seeded from.
func (g *group) needed() (wal.LSN, bool) {
	lsn, ok := g.sender.Needs()
	g.snapshots.Lock()
	defer g.snapshots.Unlock()
	if at, kept := g.snapshots.m.Oldest(); kept && (!ok || at+1 < lsn) {
		return at + 1, true
	}
	return lsn, ok
}

// AcquireID implements replicate.SnapshotSource.
func (g *group) AcquireID(ctx context.Context, id string) (*snapshot.Snapshot, error) {
	g.snapshots.Lock()
	m := g.snapshots.m
	g.snapshots.Unlock()
	return m.AcquireID(ctx, id)
}

// checkpointer is the snapshot.Source of a state that may be replaced.
type checkpointer struct{ state *state }

// Checkpoint implements snapshot.Source.
func (c checkpointer) Checkpoint(dir string) (wal.Position, error) {
	st, err := c.state.acquire()
	if err != nil {
		return wal.Position{}, err
	}
	defer c.state.release()
	return st.Checkpoint(dir)
}

// framePace is how long a frame may wait for the one before it to be committed. Beyond that, standbys are far away and frames overlap.
const framePace = time.Millisecond

// startEpoch starts the log writer and waits until the epoch-start record is committed (R5).
func (g *group) startEpoch(ctx context.Context, start wal.EpochStart) (wal.LSN, error) {
	payload, err := json.Marshal(start)
	if err != nil {
		return 0, err
	}
	end := g.log.End()
	w, err := g.log.NewWriter(wal.WriterOptions{
		Epoch: start.Epoch, Codec: g.o.Codec, Committed: g.commit.lsn, OnDurable: g.durable, QueueBytes: g.o.QueueBytes, Pace: framePace,
		OnError: func(err error) { g.runner.Failed(fmt.Errorf("log: %w", err)) },
	})
	if err != nil {
		return 0, err
	}
	g.writer.Lock()
	g.writer.w = w
	g.writer.Unlock()
	rule := replicate.NewCommitRule(g.o.Name, start.Sync, g.commit.lsn(), end.LSN+1)
	rule.Durable(g.log.Durable().LSN)
	ours := func() bool { return g.fence.Epoch() == start.Epoch && g.holder() == g.o.Name }
	if !g.commit.start(rule, ours) {
		return 0, fmt.Errorf("epoch %d: %w: epoch %d is held by %s", start.Epoch, failover.ErrFenced, g.fence.Epoch(), g.holder())
	}
	if end == (wal.Position{}) {
		// The first epoch of a blank log: a crash between the record and this would leave a log that nobody counts. A blank one never counts (R11).
		if err := g.setVoter(true); err != nil {
			return 0, err
		}
	}
	g.serving.Store(uint64(start.Epoch))
	g.sender.SetSync(start.Sync)
	lsn, err := w.Append(wal.KindEpochStart, payload)
	if err != nil {
		return 0, err
	}
	for {
		changed := g.commit.wait()
		if g.commit.lsn() >= lsn && ours() {
			return lsn, g.setVoter(true) // this log is the history now, whatever was in doubt
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("epoch-start record %d is not committed: sync %s: %w", lsn, start.Sync, context.Cause(ctx))
		}
	}
}

// stopWriter ends the log writer, if there is one.
func (g *group) stopWriter() error {
	g.serving.Store(0)
	g.commit.stop()
	g.writer.Lock()
	w := g.writer.w
	g.writer.w = nil
	g.writer.Unlock()
	if w == nil {
		return nil
	}
	return w.Close()
}

// closeDisk closes what openGroup opened, in reverse.
func (g *group) closeDisk() error {
	var errs []error
	g.snapshots.Lock()
	if g.snapshots.m != nil {
		errs = append(errs, g.snapshots.m.Close())
	}
	g.snapshots.Unlock()
	if g.state != nil {
		if st, err := g.state.acquire(); err == nil {
			errs = append(errs, st.Flush())
			g.state.release()
		}
		errs = append(errs, g.state.shut())
	}
	if g.log != nil {
		errs = append(errs, g.log.Close())
	}
	if g.closeTok != nil {
		errs = append(errs, g.closeTok())
	}
	if g.fence != nil {
		errs = append(errs, g.fence.Close())
	}
	return errors.Join(errs...)
}

// replicateFence is failover's fence in the words of replicate.
type replicateFence struct {
	f    *failover.Fence
	self string
}

func (r replicateFence) Epoch() wal.Epoch { return r.f.Epoch() }
func (r replicateFence) Holder() string   { return r.f.Holder() }

// Observe implements replicate.Fence. It is called for the word of whoever serves its log in epoch e, while this node follows or, as the candidate of its
// own epoch, fast-forwards.
func (r replicateFence) Observe(e wal.Epoch, holder string, sync wal.SyncSet) error {
	err := r.f.Accept(e, holder, r.self, sync)
	var stale *failover.StaleEpochError
	if errors.As(err, &stale) {
		return &replicate.StaleEpochError{Epoch: stale.Epoch, Holder: stale.Holder}
	}
	return err
}
