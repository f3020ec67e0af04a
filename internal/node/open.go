package node

import (
	"errors"
	"fmt"
	"net"
	"time"

	"repld/failover"
	"repld/internal/durable"
	"repld/internal/events"
	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// openGroup opens everything that lies on disk. Nothing runs yet.
func openGroup(o *Options, id identity, fresh bool, mesh *replicate.Mesh, journal *events.Log, fatal func(error)) (_ *group, err error) {
	g := &group{
		o: o, dir: o.FS.PathJoin(o.Dir, "groups", o.Group), incarnation: id.Incarnation,
		logger: o.Logger.With("group", o.Group), fatal: fatal, alarms: newAlarms(journal), events: journal, hooksFrom: journal.Last(), met: make(chan struct{}, 1), started: time.Now(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.closeDisk())
		}
	}()
	for _, d := range []string{o.FS.PathJoin(o.Dir, "groups"), g.dir, g.path("diverged"), g.path("wal"), g.path("token")} {
		// Always synced, not only when made: a crash may have come between making it and syncing its parent.
		if err := durable.MakeDir(o.FS, d); err != nil {
			return nil, err
		}
	}
	if err := removeDrill(o.FS, o.Dir); err != nil {
		return nil, err
	}
	if err := g.openFence(fresh, mesh); err != nil {
		return nil, err
	}
	if fresh {
		if err := writeIdentity(o.FS, o.Dir, id); err != nil {
			return nil, err
		}
	}
	g.guard = newPauseGuard(o.PauseLimit)
	g.digests = newDigests(o.Name, o.DigestRate, g.logger)
	g.digests.busy = (&busyness{ops: g.operations}).now
	if err := g.openState(id); err != nil {
		return nil, err
	}
	g.phases = newPhases()
	g.commit = newCommit(g.committedMoved, func(e wal.Epoch, lsn wal.LSN) { o.Observer.Committed(e, g.log, lsn) })
	g.commit.reset(g.knownCommitted())
	g.seq = newSequencer(func() wal.LSN { return g.state.applied().LSN }, int64(o.QueueBytes), o.CommitTimeout, server.ReadOnly(g.fence.Epoch(), g.holder()))
	delay := o.ApplyDelay
	g.applier = newApplier(g.log, g.state, delay)
	g.applier.limit, g.applier.applied, g.applier.applies = g.commit.lsn, g.advanced, o.Observer.Applied
	if err := g.openHold(); err != nil {
		return nil, err
	}
	g.retention = &retention{log: g.log, state: g.state, budget: o.LogBudget, needed: g.needed, measured: g.onDisk.Store, every: o.Trim, logger: g.logger}
	g.archiver = &archiver{group: g, o: o.Archive}
	if o.Ship.on() {
		g.ship = &shipper{group: g, o: o.Ship}
	}
	g.seeder = &seeder{group: g}
	if err := g.openRing(); err != nil {
		return nil, err
	}
	g.peers = newPeers(mesh, g.o.dataPeers())
	g.scrub = newScrubber(g)
	g.roster = newRoster(g.profile, g.peers, g.o.peerNames(), g.o.Gossip)
	if err := g.tie(mesh); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *group) path(name string) string { return g.o.FS.PathJoin(g.dir, name) }

func (g *group) openFence(fresh bool, mesh *replicate.Mesh) error {
	slots, rec, err := failover.OpenSlots(failover.SlotsOptions{FS: g.o.FS, Dir: g.dir, Name: "epoch", Create: fresh})
	if err != nil {
		return fmt.Errorf("open epoch file: %w", err)
	}
	for _, bad := range rec.Bad {
		g.logger.Warn("epoch slot damaged, the other one is used", "error", bad)
	}
	g.fence = failover.NewFence(slots)
	return g.openToken(mesh)
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
		Voter: g.fence.Voter, SetVoter: g.setVoter, Rebuild: g.rebuilding,
		OnCommitted: func(lsn wal.LSN, _ time.Time) { g.commit.learned(lsn) },
		OnDiverged: func(d wal.Diverged) {
			g.logger.Warn("log suffix saved aside and cut", "path", d.Path, "from", d.From, "to", d.To, "records", d.Records)
			g.divergedEvent(d)
		},
		DivergedDir: g.path("diverged"), FS: g.o.FS, IncomingDir: g.path("incoming"), StagedDir: g.path("state.new"), Install: g.install, Rewind: g.rewind,
		Logger: g.o.Logger,
	})
	if err != nil {
		return err
	}
	g.follower = newFollower(g.o.Name, g.o.Group, mesh, g.receiver, g.streamEnded, g.logger)
	g.follower.before = g.seeder.before
	g.fence.OnRise(g.epochRose)
	g.runner, err = failover.NewRunner(failover.RunnerOptions{
		Node: g.o.Name, Nodes: g.nodes(), Host: host{g}, Fence: g.fence, Store: g.token, Next: g.nextSync, Logger: g.logger,
	})
	if err != nil {
		return err
	}
	g.witness()
	if err := g.newFailover(mesh); err != nil {
		return err
	}
	mesh.Handle(streamLog, func(peer replicate.PeerInfo, name string, s net.Conn) { g.sender.Serve(peer, name, s) })
	return nil
}

// closeDisk closes what openGroup opened, in reverse.
func (g *group) closeDisk() error {
	var errs []error
	if g.ring != nil {
		g.ring.Close()
	}
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
