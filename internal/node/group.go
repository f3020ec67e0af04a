package node

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"repld/failover"
	"repld/failover/raftstore"
	"repld/internal/events"
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
	raft      *raftstore.Store // the token store, when it is raft
	log       *wal.Log
	recovery  wal.Recovery
	state     *state
	commit    *commit
	seq       *sequencer
	applier   *applier
	phases    *phases
	digests   *digests
	alarms    *alarms
	events    *events.Log
	hooksFrom uint64 // number of the last event before this life
	guard     *pauseGuard
	hold      hold
	peers     *peers
	roster    *roster
	sender    *replicate.Sender
	receiver  *replicate.Receiver
	follower  *follower
	retention *retention
	archiver  *archiver
	ring      *snapshot.Ring
	ship      *shipper // nil unless this node lives from an archive
	seeder    *seeder
	tight     atomic.Bool // the disk is short: no checkpoints are made
	runner    *failover.Runner
	lease     *readLease
	voter     *voter
	probe     probe
	exposure  exposure
	proof     proof
	drills    drills
	handover  handover

	maintenance maintenance
	sightings   sightings
	consented   atomic.Bool // max_loss consented to the promotion under way
	stopping    atomic.Bool // this node is on its way out
	schedule    schedule
	trafficSeen time.Time // owned by the voter's goroutine
	repair      *repairer // while the group is opened
	scrub       *scrubber

	serving serving
	open    atomic.Bool   // clients may write
	opened  atomic.Uint64 // epoch in which open was set last
	left    atomic.Uint64 // epoch in which this node was open, until its clients were sent to the next active; 0 = none
	marks   atomic.Uint64 // numbers digest marks
	expired atomic.Uint64 // keys deleted by expiry
	repairs atomic.Uint64 // holes of the log that were filled
	onDisk  atomic.Int64  // bytes of the state, as of the last trimming round

	replayTook atomic.Int64 // nanoseconds, of the newest promotion
	started    time.Time
	clients    func() int    // connections now; set once by Open
	commands   func() uint64 // executed so far; set once by Open
	met        chan struct{} // capacity 1: a session with a peer came up

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

// nodes lists all data nodes, this one first.
func (g *group) nodes() []string {
	return append([]string{g.o.Name}, g.o.dataPeers()...)
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
	g.phases.committed(g.commit.lsn())
	g.applier.kick()
	if g.serving.epoch() != 0 {
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
	g.phases.applied(at.LSN)
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
	g.regressEvent(standby, r)
	g.commit.update(func(c *replicate.CommitRule) { c.Forget(standby) })
}
