package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"repld/internal/admin"
	"repld/internal/durable"
	"repld/internal/events"
	"repld/internal/kv"
	"repld/snapshot"
	"repld/wal"
)

// CheckpointOptions say which checkpoints of the state a node keeps for itself.
type CheckpointOptions struct {
	Every time.Duration // between two; 0 = only on request (the default)
	Count int           // default 3
	Age   time.Duration // 0 = any; the newest stays
	Bytes int64         // that they may take beyond the state itself; 0 = no bound
}

// ringName and backName are directories of the group: the ring of checkpoints, and the one that the state is being replaced by (see rewindState).
const (
	ringName = "ring"
	backName = "state.back"
)

// checkpointRate bounds what digests and hashes of checkpoints read a second, where nothing else is configured.
const checkpointRate = 32 << 20

// openRing opens the ring and drops what is not of the log's history: a cut may have come between.
func (g *group) openRing() (err error) {
	rate := g.o.DigestRate
	def(&rate, checkpointRate)
	c := g.o.Checkpoints
	g.ring, err = snapshot.OpenRing(snapshot.RingOptions{
		FS: g.o.FS, Dir: g.path(ringName), Live: g.path("state"), Cluster: g.o.Cluster, Group: g.o.Group, Source: checkpointer{g.state}, Count: c.Count, Age: c.Age, Bytes: c.Bytes, Rate: rate, Logger: g.logger,
		Digest: func(ctx context.Context, dir string) (wal.Hash, int64, error) {
			d, keys, err := kv.DigestDir(ctx, g.o.FS, dir, rate)
			return d.Hash, keys, err
		},
	})
	if err != nil {
		return err
	}
	start, end := g.log.Start().LSN, g.log.End().LSN
	g.ring.Keep(func(m snapshot.Manifest) bool {
		return m.Position.LSN < start || (m.Position.LSN <= end && g.ours(m.Position))
	})
	return nil
}

// ours reports whether a position lies on this node's log.
func (g *group) ours(p wal.Position) bool {
	at, err := g.log.PositionAt(p.LSN)
	return err == nil && at == p
}

// keepCheckpoints makes a checkpoint now and then, until ctx ends.
func (g *group) keepCheckpoints(ctx context.Context) error {
	defer g.ring.Close()
	every := g.o.Checkpoints.Every
	if every <= 0 {
		<-ctx.Done()
		return nil
	}
	t := time.NewTimer(g.checkpointIn(every))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		// Without a state, or room, there is none; both are said elsewhere.
		if g.state.lacking() == "" && !g.tight.Load() {
			if _, err := g.ring.Take(ctx); err != nil && ctx.Err() == nil {
				g.logger.Warn("no checkpoint made", "error", err)
			}
		}
		g.ring.Trim(time.Now())
		t.Reset(every)
	}
}

// checkpointIn is how long until the first checkpoint of this life: the newest one counts across a restart.
func (g *group) checkpointIn(every time.Duration) time.Duration {
	if all := g.ring.List(); len(all) > 0 {
		return min(every, max(time.Second, every-time.Since(all[0].Created)))
	}
	return min(every, time.Minute)
}

// rewindState replaces a state that holds effects beyond to, which is common with the new history, by the newest checkpoint that lies at or below that, if the log still reaches back to it: what
// is between is applied again (R15). It returns what is applied then; if that is still beyond to, only a peer's snapshot helps.
//
// The log is cut afterwards by the caller. A crash in between leaves a complete state.back, which the next start puts in the state's place; the log then has more than the state, as any log may.
func (g *group) rewindState(to wal.Position) (wal.Position, error) {
	g.ring.Forget(to.LSN)
	for {
		start := g.log.Start().LSN
		held, ok := g.ring.Acquire(func(m snapshot.Manifest) bool { return m.Position.LSN >= start && g.ours(m.Position) })
		if !ok {
			return g.state.applied(), nil
		}
		err := g.rewindTo(held)
		if err != nil {
			g.logger.Warn("checkpoint not used for rewinding", "id", held.Manifest().ID, "error", err)
			held.Drop()
		}
		held.Release()
		if err == nil {
			g.ring.Forget(to.LSN)
			return g.state.applied(), nil
		}
		if errors.Is(err, errRewind) {
			return wal.Position{}, err
		}
	}
}

// errRewind is in errors behind the point of no return: the node stops, and its next start finishes the work.
var errRewind = errors.New("state not replaced by a checkpoint")

func (g *group) rewindTo(held *snapshot.Held) error {
	m, began := held.Manifest(), time.Now()
	if err := held.Check(context.Background()); err != nil {
		return err
	}
	fs, part := g.o.FS, g.path(backName+".part")
	if err := fs.RemoveAll(part); err != nil {
		return err
	}
	if err := held.Fork(part); err != nil {
		return err
	}
	if at, err := kv.ReadPosition(fs, part); err != nil || at != m.Position {
		return errors.Join(fmt.Errorf("checkpoint holds %s, its manifest says %s (%v)", at, m.Position, err), fs.RemoveAll(part))
	}
	before := g.state.applied()
	if err := g.putBack(func() error { return nil }); err != nil {
		return err
	}
	g.logger.Info("state rewound to a checkpoint", "id", m.ID, "position", m.Position.String(), "before", before.String(), "duration", time.Since(began))
	g.events.Record(events.Snapshot, "state rewound to a checkpoint", slog.Any("position", m.Position), slog.Any("before", before))
	g.applier.kick()
	return nil
}

// putBack makes the state that lies in state.back.part, complete and of this log's history, the group's state; the log stays as it is. still is called when nothing is applied or
// installed any more: with its error nothing is changed. An error with errRewind is behind the point of no return.
func (g *group) putBack(still func() error) error {
	fs, part, whole := g.o.FS, g.path(backName+".part"), g.path(backName)
	g.applier.step.Lock() // the applier rests until the state is there again
	defer g.applier.step.Unlock()
	if err := still(); err != nil {
		return err
	}
	if err := fs.Rename(part, whole); err != nil {
		return err
	}
	err := durable.SyncDir(fs, g.dir)
	if err == nil {
		g.digests.cancel() // they hold snapshots of the state
		err = g.state.replace(whole, func(wal.Position) error { return nil })
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errRewind, err)
		g.fatal(err)
		return err
	}
	g.applier.moved.Store(true) // it reads the log from there
	g.rebuilt()
	g.newSnapshots()
	return nil
}

// finishRewind puts a checkpoint in the state's place that a crash has left beside it. One that is damaged is given up: the state that it was to replace is there, or is built anew.
func (g *group) finishRewind() error {
	fs, back := g.o.FS, g.path(backName)
	if err := errors.Join(fs.RemoveAll(back+".part"), fs.RemoveAll(g.path(incomingBackup))); err != nil {
		return err
	}
	if !exists(fs, back) || exists(fs, g.path("state.new")) {
		return fs.RemoveAll(back) // a snapshot is newer
	}
	if _, err := kv.ReadPosition(fs, back); damagedState(err) {
		g.logger.Error("a checkpoint that was to replace the state is damaged", "error", err)
		return fs.RemoveAll(back)
	} else if err != nil {
		return err
	}
	if err := fs.RemoveAll(g.path("state")); err != nil {
		return fmt.Errorf("remove old state: %w", err)
	}
	if err := fs.Rename(back, g.path("state")); err != nil {
		return fmt.Errorf("put checkpoint in the state's place: %w", err)
	}
	return durable.SyncDir(fs, g.dir)
}

// Checkpoints implements admin.Copies: it lists the checkpoints of this node, after making one if that is asked for.
func (a adminAPI) Checkpoints(ctx context.Context, req admin.CheckpointsRequest, emit func(admin.Event)) (admin.CheckpointsResult, error) {
	if other := req.Node; other != "" && other != a.o.Name {
		req.Node = ""
		end, err := a.forward(ctx, other, admin.PathCheckpoints, req, emit)
		return value(end.Checkpoints), err
	}
	if req.Create {
		if _, err := a.ring.Take(ctx); err != nil {
			return admin.CheckpointsResult{}, err
		}
	}
	extra, err := a.ring.Extra()
	out := admin.CheckpointsResult{Node: a.o.Name, Extra: extra, Checkpoints: []admin.Checkpoint{}}
	start := a.log.Start().LSN
	for _, c := range a.ring.List() {
		out.Checkpoints = append(out.Checkpoints, admin.Checkpoint{
			ID: c.ID, Position: c.Position, Created: c.Created, Files: len(c.Files), Bytes: c.Bytes(), Digest: c.Digest, Keys: c.Keys, Dir: c.Dir, Rewind: c.Position.LSN >= start && a.ours(c.Position),
		})
	}
	return out, err
}

// checkpointStatus is what status says of the ring.
func (g *group) checkpointStatus() *admin.CheckpointStatus {
	all := g.ring.List()
	if len(all) == 0 && g.o.Checkpoints.Every <= 0 {
		return nil
	}
	s := &admin.CheckpointStatus{Count: len(all), Every: g.o.Checkpoints.Every}
	if len(all) > 0 {
		s.Newest, s.Created = all[0].Position, all[0].Created
	}
	s.Extra, _ = g.ring.Extra() // what cannot be counted is 0: status goes on
	return s
}
