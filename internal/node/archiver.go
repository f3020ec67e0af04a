package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/archive"
	"repld/wal"
)

// ArchiveOptions say where copies are kept outside the cluster.
type ArchiveOptions struct {
	URL      string        // see archive.OpenStore; empty: no archive
	KeyFile  string        // of client-side encryption; empty: none
	Interval time.Duration // how old the newest record may get before it is archived. Default 10 s
	Role     string        // which nodes archive the log: active (default), standby, any
	Rate     int64         // bytes/s of backups and archiving, 0 = unlimited
	Seed     string        // where a blank node takes its first state from: active (default), archive
	Store    archive.Store // instead of URL, for tests

	candidateWait time.Duration // see seeder.later
}

func (o ArchiveOptions) on() bool { return o.URL != "" || o.Store != nil }

// EnsureDefaults fills in the fields that are zero.
func (o *ArchiveOptions) EnsureDefaults() {
	def(&o.Interval, 10*time.Second)
	def(&o.Role, "active")
	def(&o.Seed, "active")
	def(&o.candidateWait, time.Second)
}

// alarmArchive is raised while the archive cannot be written, or misses records.
const alarmArchive = "archive"

// archiver copies the committed log into the archive, piece by piece: a piece is closed at archive.ChunkBytes or when its oldest frame is Interval old. Where it stands it
// learns from the archive itself, so that it needs no memory of its own, and another node can go on.
//
// It is never in the way: it reads the log as a standby does; while the store does not answer, writes go on, and the log waits for it within the
// budget that it waits for standbys (retention). What is trimmed before it was archived is a gap, which is said until a backup closes it.
type archiver struct {
	*group
	o ArchiveOptions

	mu struct {
		sync.Mutex
		open   *archive.Archive
		at     wal.Position // archived up to here
		known  bool         // at is what the archive says
		gap    wal.LSN      // records up to here are missing in the archive, 0 = none
		failed error
		since  time.Time // of failed
		looked time.Time // for a backup that closes the gap
	}
}

// open returns the archive, opened at the first use that succeeds.
func (a *archiver) opened(ctx context.Context) (*archive.Archive, error) {
	a.mu.Lock()
	have := a.mu.open
	a.mu.Unlock()
	if have != nil {
		return have, nil
	}
	ar, err := archive.Open(ctx, archive.Options{URL: a.o.URL, KeyFile: a.o.KeyFile, Cluster: a.group.o.Cluster, Group: a.group.o.Group, Rate: a.o.Rate, Store: a.o.Store, Create: true})
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a.mu.Lock()
	a.mu.open = ar
	a.mu.Unlock()
	return ar, nil
}

// mine reports whether this node archives the log now.
func (a *archiver) mine() bool {
	switch a.o.Role {
	case "active":
		return a.active()
	case "standby":
		return !a.active()
	}
	return true
}

// Bounds of one attempt, and between attempts.
const (
	archiveTry   = 2 * time.Minute
	archiveAgain = time.Second
	archiveSlow  = 30 * time.Second
)

// run archives until ctx ends. Errors are said in status and tried again.
func (a *archiver) run(ctx context.Context) error {
	if !a.o.on() {
		<-ctx.Done()
		return nil
	}
	wait := archiveAgain
	for ctx.Err() == nil {
		err := a.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			wait = archiveAgain
		}
		a.note(err)
		t := time.NewTimer(min(wait, a.o.Interval))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		if err != nil {
			wait = min(2*wait, archiveSlow)
		}
	}
	return nil
}

// note keeps the outcome for status.
func (a *archiver) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil && a.mu.failed == nil:
		a.mu.since = time.Now()
		a.logger.Warn("log not archived", "error", err)
	case err == nil && a.mu.failed != nil:
		a.logger.Info("archiving again", "at", a.mu.at)
	}
	a.mu.failed = err
	switch {
	case err != nil:
		a.alarms.raise(alarmArchive, fmt.Sprintf("the log is not archived since %s: %v", a.mu.since.UTC().Format(time.RFC3339), err))
	case a.mu.gap != 0:
		a.alarms.raise(alarmArchive, fmt.Sprintf("the archive misses records up to LSN %d: a moment behind them cannot be restored until a backup is made (replctl backup create)", a.mu.gap))
	default:
		a.alarms.clear(alarmArchive)
	}
}

// follow archives from where the archive ends until nothing is left to do for this node, or an error.
func (a *archiver) follow(ctx context.Context) error {
	if !a.mine() {
		return nil
	}
	ar, err := a.opened(ctx)
	if err != nil {
		return err
	}
	at, err := a.locate(ctx, ar)
	if err != nil {
		return err
	}
	r, err := a.log.NewReader(at.LSN)
	if err != nil {
		return err
	}
	defer r.Close()
	var next *wal.Frame // read, and not committed yet
	for ctx.Err() == nil && a.mine() {
		frames, err := a.gather(ctx, r, &next)
		if errors.Is(err, wal.ErrDiverged) || errors.Is(err, wal.ErrTrimmed) {
			return nil // look again where we are
		}
		if err != nil || len(frames) == 0 {
			return err
		}
		if err := a.send(ctx, ar, frames); err != nil {
			return err
		}
		a.note(nil)
	}
	return nil
}

func (a *archiver) send(ctx context.Context, ar *archive.Archive, frames []*wal.Frame) error {
	ctx, cancel := context.WithTimeout(ctx, archiveTry)
	defer cancel()
	c, err := ar.PutFrames(ctx, frames)
	if err != nil {
		return err
	}
	a.moved(c.End)
	return nil
}

func (a *archiver) moved(to wal.Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.at, a.mu.known = to, true
}

// gather collects committed frames: a full piece, or what there is once its oldest frame is old enough. None when this node is not to archive any more.
func (a *archiver) gather(ctx context.Context, r *wal.Reader, next **wal.Frame) ([]*wal.Frame, error) {
	var frames []*wal.Frame
	size := int64(0)
	t := time.NewTicker(max(a.o.Interval/10, 10*time.Millisecond))
	defer t.Stop()
	for size < archive.ChunkBytes {
		if *next == nil {
			f, err := r.TryNext()
			if err != nil {
				return nil, err
			}
			*next = f
		}
		if f := *next; f != nil && f.Last() <= a.commit.lsn() {
			frames, size, *next = append(frames, f), size+f.Size(), nil
			continue
		}
		if len(frames) > 0 && time.Since(frames[0].Time) >= a.o.Interval {
			break
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !a.mine() {
			return nil, nil
		}
		a.lookForBackup(ctx)
	}
	if err := r.Err(); err != nil { // what was collected may have been cut since
		return nil, err
	}
	return frames, nil
}

// locate finds the newest archived position that is in this node's log.
func (a *archiver) locate(ctx context.Context, ar *archive.Archive) (wal.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, archiveTry)
	defer cancel()
	chunks, err := ar.Chunks(ctx)
	if err != nil {
		return wal.Position{}, fmt.Errorf("list the archive: %w", err)
	}
	start, end := a.log.Start(), a.log.End()
	best, newest := wal.Position{}, wal.LSN(0)
	for _, c := range chunks {
		newest = max(newest, c.End.LSN)
		if c.End.LSN <= best.LSN || c.End.LSN < start.LSN || c.End.LSN > end.LSN {
			continue
		}
		if have, err := a.log.PositionAt(c.End.LSN); err == nil && have == c.End {
			best = c.End
		}
	}
	if best != (wal.Position{}) || start == (wal.Position{}) {
		a.moved(best)
		return best, nil
	}
	// What the archive holds ends before this log begins, or is of another history: records are missing there.
	if b, err := ar.Backups(ctx); err != nil || len(b) == 0 || b[len(b)-1].Position.LSN < start.LSN {
		a.mu.Lock()
		a.mu.gap = start.LSN
		a.mu.Unlock()
	}
	a.moved(start)
	return start, nil
}

// needs is the first LSN that the archive wants from the log.
func (a *archiver) needs() (wal.LSN, bool) {
	if !a.o.on() || !a.mine() {
		return 0, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.at.LSN + 1, a.mu.known
}

// status is what a person sees of the archive.
func (a *archiver) status() *admin.ArchiveStatus {
	if !a.o.on() {
		return nil
	}
	a.mu.Lock()
	s := &admin.ArchiveStatus{URL: a.o.URL, Archived: a.mu.at, Archives: a.mine(), Gap: a.mu.gap}
	if a.mu.failed != nil {
		s.Error, s.Since = a.mu.failed.Error(), a.mu.since
	}
	known := a.mu.known
	a.mu.Unlock()
	if committed := a.commit.lsn(); s.Archives && known && committed > s.Archived.LSN {
		s.LagRecords = uint64(committed - s.Archived.LSN)
		s.LagSeconds = a.age(s.Archived.LSN + 1)
	}
	return s
}

// gapLook is how often a node that knows of a gap looks whether another one has closed it with a backup.
const gapLook = 5 * time.Second

// lookForBackup forgets a gap that a backup of any node has closed: they are best made by standbys.
func (a *archiver) lookForBackup(ctx context.Context) {
	a.mu.Lock()
	gap, ar, due := a.mu.gap, a.mu.open, time.Since(a.mu.looked) >= min(gapLook, a.o.Interval)
	if gap != 0 && due {
		a.mu.looked = time.Now()
	}
	a.mu.Unlock()
	if gap == 0 || ar == nil || !due {
		return
	}
	all, err := ar.Backups(ctx)
	if err != nil {
		a.logger.Info("backups not listed", "error", err)
	}
	if n := len(all); n > 0 {
		a.backedUp(all[n-1].Position)
	}
}

// backedUp forgets a gap that a backup has closed.
func (a *archiver) backedUp(at wal.Position) {
	a.mu.Lock()
	closed := a.mu.gap != 0 && at.LSN >= a.mu.gap
	if closed {
		a.mu.gap = 0
	}
	failed := a.mu.failed
	a.mu.Unlock()
	if closed {
		a.note(failed)
	}
}
