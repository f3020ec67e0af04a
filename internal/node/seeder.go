package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/archive"
	"repld/internal/events"
	"repld/replicate"
	"repld/wal"
)

// seeder fills a blank standby from the archive of its own cluster: the newest backup becomes its state, the archived log behind that its log. The active is spared the reading and the sending.
//
// It runs in the place of a log stream, before the first one (follower.before): what ends a stream ends it, a newer epoch, a promotion of this node, a stop; and who waits for a stream to
// end waits for it (R3). What it brings is worth what a stale standby has, and no more: the node does not count (R11) until the ordinary handshake with the active has found the place, by LSN and
// chain hash, where both histories agree, has cut or replaced what the active does not have (R9, R15), and it has what the active had then. Nothing that was archived is taken for committed here: the
// active says what is.
//
// Whatever the archive lacks is the active's to send, the whole state if need be. That is said, and is no reason to wait.
type seeder struct {
	*group

	mu struct {
		sync.Mutex
		over      bool // nothing is left to do
		last      *admin.SeedStatus
		candidate wal.Epoch // in which somebody was seen to be a candidate
		since     time.Time // when
		held      wal.LSN   // the log is kept from here while a state is made from the archive (reseed.go), 0 = not
	}
	one sync.Mutex // one reseed at a time
}

const (
	seedArchive = "archive" // ArchiveOptions.Seed, SeedStatus.From
	// seedNote is a file: the state came from the archive, and the archived log is still to be fetched.
	seedNote = "seed.archive"

	// seedTries bounds the attempts at what may pass, a network say; files that are here are not fetched again.
	seedTries = 3
	seedAgain = 500 * time.Millisecond
	// seedStall is how long the archive may give nothing (R12).
	seedStall = time.Minute
)

var (
	// errSeedLater: nobody serves the log now, so that it is not known what is wanted.
	errSeedLater = fmt.Errorf("seeding from the archive waits for the active: %w", replicate.ErrNotConnected)
	// errSeedNotNow: a candidate serves its log, whose epoch begins only once it is acked. It may need this node for that, with whatever it can send.
	errSeedNotNow = errors.New("a candidate is served before the archive is asked")
	errSeedStall  = fmt.Errorf("the archive gave nothing for %s", seedStall)
)

// before is what goes before a log stream: it returns nil when the stream may begin.
func (s *seeder) before(ctx context.Context, active string) error {
	if !s.wanted() {
		return nil
	}
	err := s.try(ctx, active)
	switch {
	case errors.Is(err, errSeedNotNow):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx) // the next stream, or the next life, goes on with it
	case errors.Is(err, errSeedLater):
		return err
	}
	s.streamEnded(err) // it may be the disk's
	s.end(err)
	return nil
}

// wanted reports whether the archive is to be asked before the active is.
func (s *seeder) wanted() bool {
	s.mu.Lock()
	over := s.mu.over
	s.mu.Unlock()
	return !over && s.o.Archive.Seed == seedArchive && s.o.Archive.on() && (s.answer().Blank || exists(s.o.FS, s.path(seedNote)))
}

// try seeds, again if what went wrong may pass.
func (s *seeder) try(ctx context.Context, active string) (err error) {
	for attempt := 1; ; attempt++ {
		if err = s.seed(ctx, active); err == nil || ctx.Err() != nil || attempt == seedTries {
			return err
		}
		for _, lasting := range []error{errSeedLater, errSeedNotNow, archive.ErrNotFound, archive.ErrDamaged, archive.ErrGap, archive.ErrKey, archive.ErrVersion, wal.ErrFailed, errNoSeed} {
			if errors.Is(err, lasting) {
				return err
			}
		}
		s.logger.Warn("archive cannot be read now", "attempt", attempt, "error", err)
		select {
		case <-time.After(seedAgain):
		case <-ctx.Done():
		}
	}
}

// end notes how it came out: nothing is left to do for the archive.
func (s *seeder) end(err error) {
	if rmErr := s.o.FS.RemoveAll(s.path(seedNote)); rmErr != nil {
		s.logger.Warn("note of a seeding not removed", "error", rmErr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.over = true
	done := admin.SeedStatus{}
	if s.mu.last != nil {
		done = *s.mu.last
	}
	done.Running, done.Bytes, done.Total = false, 0, 0
	whole := done.Position.LSN > 0
	done.Archived = s.log.End().LSN
	switch {
	case err == nil:
		s.logger.Info("seeded from the archive", "snapshot", done.Snapshot, "position", done.Position.String(), "archived", done.Archived)
		s.events.Record(events.Snapshot, "seeded from the archive", slog.String("snapshot", done.Snapshot), slog.Any("position", done.Position), slog.Any("archived", done.Archived))
	case whole:
		done.Note = fmt.Sprintf("the archived log could be taken up to LSN %d only: %v; the active sends the rest", done.Archived, err)
	default:
		done = admin.SeedStatus{Note: fmt.Sprintf("not seeded from the archive: %v; the active seeds this node", err)}
	}
	if err != nil {
		s.logger.Warn("archive not used for all of the seeding", "note", done.Note)
		s.events.Record(events.Snapshot, "archive not used for all of the seeding", slog.String("note", done.Note))
	}
	s.mu.last = &done
}

// installed notes where a state has come from.
func (s *seeder) installed(st admin.SeedStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.last != nil && st.Note == "" {
		st.Note = s.mu.last.Note
		st.Running = s.mu.last.Running
	}
	s.mu.last = &st
}

// note changes what status says of the work that goes on.
func (s *seeder) note(change func(*admin.SeedStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := admin.SeedStatus{From: seedArchive, Running: true}
	if s.mu.last != nil {
		next = *s.mu.last
	}
	change(&next)
	s.mu.last = &next
}

// status is what a person sees of it.
func (s *seeder) status(out *admin.NodeStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.last == nil {
		return
	}
	st := *s.mu.last
	out.Seed = &st
	if st.Running {
		out.Link = seedArchive
	}
}

// needs is the first LSN of the log that a state which is being made will go on from.
func (s *seeder) needs() (wal.LSN, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.held, s.mu.held > 0
}

// errNoSeed: no backup can be used.
var errNoSeed = errors.New("no backup can be used")

// seed makes the newest usable backup the state of this blank node, and appends the archived log. It may be called again after it was broken off anywhere.
func (s *seeder) seed(ctx context.Context, active string) error {
	epoch := s.fence.Epoch()
	st := s.peers.status(ctx, active)
	switch {
	case st.Error != "" || st.Epoch != epoch:
		return errSeedLater
	case st.Role != admin.RoleActive:
		return s.later(epoch)
	}
	s.note(func(x *admin.SeedStatus) { x.From, x.Running = seedArchive, true })
	ctx, alive, stop := stalls(ctx)
	defer stop()
	ar, err := s.ownArchive(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	if s.answer().Blank {
		if err := s.install(ctx, ar, epoch, st, alive); err != nil {
			return cause(ctx, err)
		}
	}
	return cause(ctx, s.follow(ctx, ar, epoch, alive))
}

// later says whether a candidate is waited for or served: for a second it may become active without this node's help. In the first epoch of all there is nothing that would be worth the wait.
func (s *seeder) later(epoch wal.Epoch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.candidate != epoch {
		s.mu.candidate, s.mu.since = epoch, time.Now()
	}
	if epoch > 1 && time.Since(s.mu.since) < s.o.Archive.candidateWait {
		return errSeedLater
	}
	return errSeedNotNow
}

// stalls returns a context that ends when alive was not called for seedStall.
func stalls(ctx context.Context) (_ context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(seedStall, func() { cancel(errSeedStall) })
	return ctx, func() { t.Reset(seedStall) }, func() {
		t.Stop()
		cancel(nil)
	}
}

// cause names the stall behind an error.
func cause(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSeedStall) {
		return errSeedStall
	}
	return err
}

// ownArchive opens the archive of this cluster for reading; one that does not exist is not made.
func (g *group) ownArchive(ctx context.Context) (*archive.Archive, error) {
	o := g.o.Archive
	return archive.Open(ctx, archive.Options{URL: o.URL, KeyFile: o.KeyFile, Cluster: g.o.Cluster, Group: g.o.Group, Rate: o.Rate, Store: o.Store})
}

// install makes the newest usable backup this node's state.
func (s *seeder) install(ctx context.Context, ar *archive.Archive, epoch wal.Epoch, active admin.NodeStatus, alive func()) error {
	all, bad := ar.Backups(ctx)
	chunks, err := ar.Chunks(ctx)
	if err != nil {
		return err
	}
	why := []error{bad}
	for _, b := range s.newestFirst(all) {
		if err := usable(b, chunks, active); err != nil {
			why = append(why, err)
			continue
		}
		err := s.take(ctx, ar, b, epoch, alive)
		if err == nil || !errors.Is(err, archive.ErrDamaged) && !errors.Is(err, archive.ErrNotFound) {
			return err
		}
		s.logger.Warn("backup not used for seeding", "backup", b.ID, "error", err)
		why = append(why, fmt.Errorf("backup %s: %w", b.ID, err))
	}
	if len(all) == 0 {
		why = append(why, fmt.Errorf("there is no backup of %s", s.o.Cluster))
	}
	return fmt.Errorf("%w: %w", errNoSeed, errors.Join(why...))
}

// newestFirst orders backups by position. A lagged standby takes one that is older than its delay, if there is one: its state is behind for a reason.
func (s *seeder) newestFirst(all []archive.Backup) []archive.Backup {
	all = slices.Clone(all)
	slices.Reverse(all)
	if s.o.ApplyDelay > 0 {
		old := slices.DeleteFunc(slices.Clone(all), func(b archive.Backup) bool { return time.Since(b.Created) < s.o.ApplyDelay })
		if len(old) > 0 {
			return old
		}
	}
	return all
}

// usable says why a backup is of no use for a standby of that active: it is of another history, or the archived log does not reach to where the active's begins.
func usable(b archive.Backup, chunks []archive.Chunk, active admin.NodeStatus) error {
	if b.Position.Epoch > active.Epoch || b.Position.LSN > active.End.LSN {
		return fmt.Errorf("backup %s is at %s, ahead of the active's log, which ends at %s in epoch %d", b.ID, b.Position, active.End, active.Epoch)
	}
	path, err := archive.Path(chunks, b.Position, active.Epoch)
	if err != nil {
		return fmt.Errorf("backup %s: %w", b.ID, err)
	}
	end := b.Position.LSN
	if n := len(path); n > 0 {
		end = path[n-1].End.LSN
	}
	if start := active.Start.LSN; end < start {
		return fmt.Errorf("with backup %s the archive reaches to LSN %d, the active's log begins behind LSN %d", b.ID, end, start)
	}
	return nil
}

// take makes a backup the state of this node, whose log begins at the backup's position then.
func (s *seeder) take(ctx context.Context, ar *archive.Archive, b archive.Backup, epoch wal.Epoch, alive func()) error {
	s.logger.Info("seeding from the archive", "backup", b.ID, "position", b.Position.String(), "bytes", b.Bytes())
	s.note(func(x *admin.SeedStatus) { x.Snapshot, x.Bytes, x.Total = b.ID, 0, b.Bytes() })
	r, m, err := s.fetchBackup(ctx, ar, b, "incoming", func(n int64) {
		alive()
		s.note(func(x *admin.SeedStatus) { x.Bytes += n })
	})
	if err != nil {
		return err
	}
	// Before the state has its final name: from then on a restart installs it (R11).
	if err := s.setVoter(false); err != nil {
		return err
	}
	if err := writeWhole(s.o.FS, s.path(seedNote), []byte(b.ID+"\n")); err != nil {
		return err
	}
	if err := s.current(ctx, epoch); err != nil {
		return err
	}
	if err := r.Complete(s.path("state.new")); err != nil {
		return err
	}
	return s.group.install(ctx, m, s.path("state.new"), 0)
}

// current returns an error when what goes on is not wanted any more.
func (s *seeder) current(ctx context.Context, epoch wal.Epoch) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e := s.fence.Epoch(); e != epoch {
		return errSeedLater
	}
	return nil
}

// follow appends the archived log behind this node's.
func (s *seeder) follow(ctx context.Context, ar *archive.Archive, epoch wal.Epoch, alive func()) error {
	chunks, err := ar.Chunks(ctx)
	if err != nil {
		return err
	}
	from := s.log.End()
	path, err := archive.Path(chunks, from, epoch)
	if err != nil {
		return err
	}
	var batch []*wal.Frame
	size := int64(0)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := s.current(ctx, epoch); err != nil {
			return err
		}
		_, err := s.log.AppendFrames(batch)
		batch, size = nil, 0
		return err
	}
	err = ar.Walk(ctx, path, from, func(f *wal.Frame) error {
		alive()
		batch, size = append(batch, f), size+f.Size()
		if size >= restoreBatch {
			return flush()
		}
		return nil
	})
	return errors.Join(err, flush()) // what was read before an error is sound
}
