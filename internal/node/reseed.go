package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/archive"
	"repld/internal/events"
	"repld/internal/kv"
	"repld/wal"
)

// A standby that has a log is given another state from the archive without touching the log: a backup, and archived frames until the log reaches back to it; the log itself does the rest. So the
// node goes on acking and voting all the time (R1, R11), and serves its old state until the new one is whole.
//
//	incoming.backup/   files of the backup as they come
//	state.back.part/   all of them; archived frames are applied here
//	state.back/        complete, at a position of this node's log: put in the state's place, by the next start if a crash comes between (ring.go)

const incomingBackup = "incoming.backup"

// Reseed implements admin.Copies.
func (a adminAPI) Reseed(ctx context.Context, req admin.ReseedRequest, emit func(admin.Event)) (admin.ReseedResult, error) {
	if other := req.Node; other != "" && other != a.o.Name {
		req.Node = ""
		end, err := a.forward(ctx, other, admin.PathReseed, req, emit)
		return value(end.Reseed), err
	}
	refused := func(format string, args ...any) (admin.ReseedResult, error) {
		return admin.ReseedResult{Node: a.o.Name}, &admin.Error{Code: admin.CodeRefused, Message: "nothing was changed: " + fmt.Sprintf(format, args...)}
	}
	if req.Reason == "" {
		req.Reason = "by hand"
	}
	if !a.seeder.one.TryLock() {
		return refused("node %s is being reseeded already", a.o.Name)
	}
	defer a.seeder.one.Unlock()
	active := a.otherHolder()
	switch {
	case a.ship != nil:
		return refused("node %s lives from another cluster's archive: to seed it anew, stop it and empty its data directory", a.o.Name)
	case a.active() || a.runner.Role() != failover.RoleStandby:
		return refused("node %s is %s: only a standby's state is replaced; switch over first", a.o.Name, a.runner.Role())
	case a.held() != nil:
		return refused("node %s is held: its state is what the hold keeps; release it first", a.o.Name)
	case a.answer().Blank:
		return refused("node %s is blank: it is seeded by itself", a.o.Name)
	case req.Archive && !a.o.Archive.on():
		return admin.ReseedResult{Node: a.o.Name}, usage("node %s has no archive: set archive.url in its configuration", a.o.Name)
	case active == "":
		return admin.ReseedResult{Node: a.o.Name}, &admin.Error{Code: admin.CodeNoActive, Message: "nothing was changed: there is no active to follow"}
	}
	began := time.Now()
	out := admin.ReseedResult{Node: a.o.Name, From: active}
	if req.Archive {
		b, at, err := a.stateFromArchive(ctx, emit)
		switch {
		case err == nil:
			out.From, out.Backup, out.Position = seedArchive, b.ID, at
		case errors.Is(err, errRewind), ctx.Err() != nil:
			return out, err
		case req.Only:
			return refused("the archive cannot be used: %v", err)
		default:
			out.Note = fmt.Sprintf("the archive cannot be used: %v", err)
			emit(admin.Event{Message: out.Note + "; the state is taken from " + active})
		}
	}
	if out.From != seedArchive {
		if _, err := a.replaceState(ctx, replaceRequest{Reason: req.Reason, Asked: a.o.Name}); err != nil {
			return out, err
		}
		emit(admin.Event{Message: fmt.Sprintf("the state is set aside and taken from %s", active)})
		if err := a.awaitState(ctx, a.o.Name); err != nil {
			return out, err
		}
		a.seeder.note(func(x *admin.SeedStatus) { out.Position, x.Note, x.Running = x.Position, out.Note, false })
	}
	err := a.awaitApplied(ctx, emit)
	out.Applied, out.Seconds = a.state.applied(), time.Since(began).Seconds()
	return out, err
}

// awaitApplied waits until the state is where the log was, or the delay lets it be, when it was replaced.
func (g *group) awaitApplied(ctx context.Context, emit func(admin.Event)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, replaceLimit, fmt.Errorf("the log is not applied within %s", replaceLimit))
	defer cancel()
	end := g.commit.lsn()
	if g.o.ApplyDelay > 0 {
		return nil // what is older than the delay is applied at once, and nobody waits for the rest
	}
	said := time.Now()
	for g.state.applied().LSN < end {
		if time.Since(said) > 500*time.Millisecond {
			said = time.Now()
			emit(admin.Event{Message: fmt.Sprintf("replay: lsn %d of %d", g.state.applied().LSN, end)})
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the replay: %w", context.Cause(ctx))
		}
	}
	return nil
}

// stateFromArchive replaces the state by one that is made from the newest backup that fits this node's log. With an error that is not errRewind nothing was changed.
func (g *group) stateFromArchive(ctx context.Context, emit func(admin.Event)) (archive.Backup, wal.Position, error) {
	ctx, alive, stop := stalls(ctx)
	defer stop()
	limit, err := g.reseedLimit()
	if err != nil {
		return archive.Backup{}, wal.Position{}, err
	}
	g.seeder.hold(max(g.log.Start().LSN, 1)) // the log goes on from there
	defer g.seeder.hold(0)
	ar, err := g.ownArchive(ctx)
	if err != nil {
		return archive.Backup{}, wal.Position{}, cause(ctx, err)
	}
	all, bad := ar.Backups(ctx)
	chunks, err := ar.Chunks(ctx)
	if err != nil {
		return archive.Backup{}, wal.Position{}, cause(ctx, err)
	}
	why := []error{bad}
	for _, b := range g.seeder.newestFirst(all) {
		at, err := g.stateFrom(ctx, ar, b, chunks, limit, alive, emit)
		if err == nil || errors.Is(err, errRewind) || ctx.Err() != nil {
			return b, at, cause(ctx, err)
		}
		why = append(why, fmt.Errorf("backup %s: %w", b.ID, err))
	}
	if len(all) == 0 {
		why = append(why, fmt.Errorf("there is no backup of %s", g.o.Cluster))
	}
	return archive.Backup{}, wal.Position{}, fmt.Errorf("%w: %w", errNoSeed, errors.Join(why...))
}

// reseedLimit is the LSN beyond which a new state must not be: what is committed (R7), and on a lagged standby what is applied, so that it does not get ahead of its delay.
func (g *group) reseedLimit() (wal.LSN, error) {
	switch {
	case g.o.ApplyDelay == 0:
		return g.commit.lsn(), nil
	case g.state.lacking() != "":
		return 0, errors.New("this lagged standby has no state, so that it is not known how far it may be")
	}
	return g.state.applied().LSN, nil
}

// hold keeps the log from lsn on, 0: not any more.
func (s *seeder) hold(lsn wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.held = lsn
}

// stateFrom makes a state from one backup and puts it in the place of the present one. It returns where the new state begins.
func (g *group) stateFrom(ctx context.Context, ar *archive.Archive, b archive.Backup, chunks []archive.Chunk, limit wal.LSN, alive func(), emit func(admin.Event)) (at wal.Position, err error) {
	path, err := g.reseedPath(b, chunks, limit)
	if err != nil {
		return at, err
	}
	if err := g.roomFor(b.Bytes()); err != nil {
		return at, err
	}
	part := g.path(backName + ".part")
	defer func() {
		err = errors.Join(err, g.o.FS.RemoveAll(part), g.o.FS.RemoveAll(g.path(incomingBackup)))
	}()
	emit(admin.Event{Message: fmt.Sprintf("backup %s of %s at LSN %d: %d files, %d bytes", b.ID, b.Created.Format(time.RFC3339), b.Position.LSN, len(b.Files), b.Bytes())})
	done, last := int64(0), time.Now()
	r, _, err := g.fetchBackup(ctx, ar, b, incomingBackup, func(n int64) {
		alive()
		if done += n; time.Since(last) > 200*time.Millisecond || done == b.Bytes() {
			last = time.Now()
			emit(admin.Event{Message: fmt.Sprintf("%d of %d bytes", done, b.Bytes()), Percent: 100 * float64(done) / float64(max(b.Bytes(), 1))})
		}
	})
	if err != nil {
		return at, err
	}
	if err := r.Complete(part); err != nil {
		return at, err
	}
	if at, err = g.rollForward(ctx, ar, b, path, part, alive); err != nil {
		return at, err
	}
	before := g.state.applied()
	err = g.putBack(func() error {
		switch { // a cut lowers the committed LSN before it waits for those who are here: so what is above the cut is seen here, or by the cut
		case !g.ours(at) || at.LSN > g.commit.lsn():
			return fmt.Errorf("the state that it gives, at %s, does not lie on this node's log, which begins behind LSN %d and ends at %s", at, g.log.Start().LSN, g.log.End())
		case g.runner.Role() != failover.RoleStandby || g.held() != nil:
			return fmt.Errorf("node %s is %s or held by now", g.o.Name, g.runner.Role())
		}
		return nil
	})
	if err != nil {
		return at, err
	}
	g.ring.Clear() // whoever replaces a state does not trust it, nor what was made from it
	g.alarms.clear(alarmState)
	g.seeder.installed(admin.SeedStatus{From: seedArchive, Snapshot: b.ID, Position: at, At: time.Now()})
	g.logger.Info("state replaced by one from the archive", "backup", b.ID, "position", at.String(), "before", before.String())
	g.events.Record(events.Snapshot, "state replaced by one from the archive", slog.String("backup", b.ID), slog.Any("position", at), slog.Any("before", before))
	g.applier.kick()
	return at, nil
}

// reseedPath is the archived log that leads from a backup to where this node's log begins; none if that reaches back to the backup.
func (g *group) reseedPath(b archive.Backup, chunks []archive.Chunk, limit wal.LSN) ([]archive.Step, error) {
	start := g.log.Start()
	switch {
	case b.Position.LSN > limit:
		return nil, fmt.Errorf("it is at LSN %d, this node may have a state of up to LSN %d", b.Position.LSN, limit)
	case b.Position.LSN >= start.LSN:
		if !g.ours(b.Position) {
			return nil, fmt.Errorf("it is at %s, which is not of this node's history", b.Position)
		}
		return nil, nil
	}
	path, err := archive.Path(chunks, b.Position, g.fence.Epoch())
	if err != nil {
		return nil, err
	}
	if n := len(path); n == 0 || path[n-1].End.LSN < start.LSN {
		return nil, fmt.Errorf("the archived log does not reach to LSN %d, where this node's log begins", start.LSN)
	}
	return path, nil
}

// rollForward applies archived frames to the state in dir until the log of this node goes on from it.
func (g *group) rollForward(ctx context.Context, ar *archive.Archive, b archive.Backup, path []archive.Step, dir string, alive func()) (at wal.Position, err error) {
	if at, err = kv.ReadPosition(g.o.FS, dir); err != nil || at != b.Position {
		return at, errors.Join(fmt.Errorf("%w: the files hold %s, not %s", archive.ErrDamaged, at, b.Position), err)
	}
	if len(path) == 0 {
		return at, nil
	}
	st, err := kv.Open(kv.Options{FS: g.o.FS, Dir: dir, CacheBytes: 16 << 20, MemTableBytes: 16 << 20, StallLimit: restoreStall, Logger: g.logger,
		OnFatal: func(err error) { g.logger.Error("state from the archive failed", "error", err) }})
	if err != nil {
		return at, err
	}
	start := g.log.Start().LSN
	var batch []*wal.Frame
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := st.Apply(batch)
		batch, size = nil, 0
		return err
	}
	err = ar.Walk(ctx, path, at, func(f *wal.Frame) error {
		alive()
		if f.First > start {
			return archive.ErrStop
		}
		batch = append(batch, f)
		if size += int(f.Raw); size >= restoreBatch || len(batch) >= restoreFrames {
			return flush()
		}
		return nil
	})
	if err = errors.Join(err, flush()); err == nil {
		err = st.Flush()
	}
	at = st.Applied()
	return at, errors.Join(err, st.Close())
}

// roomFor refuses what would fill the disk.
func (g *group) roomFor(bytes int64) error {
	u, err := g.o.FS.GetDiskUsage(g.o.Dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	if free := int64(u.AvailBytes); g.tight.Load() || free < bytes+bytes/4+g.o.DiskReserve {
		return fmt.Errorf("the disk has %d MiB free: the state takes %d MiB beside the present one", free>>20, bytes>>20)
	}
	return nil
}
