package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"repld/internal/admin"
	"repld/internal/events"
	"repld/snapshot"
	"repld/wal"
)

// stopApplying has nothing above to applied from now on, before the tail of the log is cut, and returns what is applied.
func (g *group) stopApplying(to wal.Position) wal.Position {
	g.commit.rewind(to.LSN)
	g.applier.step.Lock() // a step that is going on ends
	defer g.applier.step.Unlock()
	return g.state.applied()
}

// rewind is called before the tail of the log is cut because the new history does not contain it. A state that holds some of that goes back to a checkpoint, if it can.
func (g *group) rewind(to wal.Position) (wal.Position, error) {
	if at := g.stopApplying(to); at.LSN <= to.LSN {
		return at, nil
	}
	return g.rewindState(to)
}

// install replaces log and state by a received snapshot.
func (g *group) install(_ context.Context, m snapshot.Manifest, dir string, known wal.LSN) error {
	g.logger.Info("installing snapshot", "position", m.Position, "bytes", m.Bytes())
	g.applier.step.Lock() // the applier rests until log and state fit together again
	defer g.applier.step.Unlock()
	g.digests.cancel() // they hold snapshots of the state
	g.ring.Forget(known)
	if err := g.state.replace(dir, func(at wal.Position) error { return g.resetLog(at, known) }); err != nil {
		err = fmt.Errorf("install snapshot at %s: %w", m.Position, err)
		g.fatal(err) // the state is closed; opening the node again finishes the install
		return err
	}
	g.ring.Forget(known)
	g.rebuilt()
	g.alarms.clear(alarmState)
	g.commit.reset(m.Position.LSN)
	g.newSnapshots()
	from := seedArchive
	if r := g.receiver.Status(); r.Running {
		from = r.Source
	}
	g.seeder.installed(admin.SeedStatus{From: from, Snapshot: m.ID, Position: m.Position, At: time.Now()})
	g.events.Record(events.Snapshot, "snapshot installed", slog.String("from", from), slog.Any("position", m.Position), slog.Int64("bytes", m.Bytes()))
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
	if a, wants := g.archiver.needs(); wants && (!ok || a < lsn) {
		lsn, ok = a, true
	}
	if at, wants := g.seeder.needs(); wants && (!ok || at < lsn) {
		lsn, ok = at, true
	}
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
