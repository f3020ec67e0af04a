package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"repld/failover"
	"repld/internal/archive"
	"repld/internal/durable"
	"repld/internal/kv"
	"repld/wal"
)

// RestoreOptions say what is restored, to which moment, and as whom.
type RestoreOptions struct {
	Archive *archive.Archive
	Of      string // cluster that the archive is of
	Group   string // default "default"
	Dir     string // data directory of the new node; must be empty
	Cluster string // name of the new cluster, another one than Of (R11)
	Node    string // name of the new node
	ToLSN   wal.LSN
	ToTime  time.Time // neither: the newest
	Epoch   wal.Epoch // of the history to follow: at most this one; 0: the newest
	Force   bool      // move what is in Dir aside instead of refusing
	Logger  *slog.Logger
	// Progress is told how far it is, in words and percent (0: not known).
	Progress func(message string, percent float64)
}

// RestoreResult is what was restored.
type RestoreResult struct {
	Cluster  string       `json:"cluster"`
	Node     string       `json:"node"`
	Dir      string       `json:"dir"`
	Backup   string       `json:"backup"`
	From     wal.Position `json:"from"`     // of the backup
	Position wal.Position `json:"position"` // of the restored state
	Time     time.Time    `json:"time"`     // when its last frame was written, zero if that is the backup's
	Replayed uint64       `json:"replayed"` // records
	Rate     float64      `json:"rate"`     // of these, a second
	Digest   kv.Digest    `json:"digest"`
	Keys     int64        `json:"keys"`
	Seconds  float64      `json:"seconds"`
	Aside    string       `json:"aside,omitempty"` // where Force has moved what was there
}

// restoringDir holds everything that a restore makes until it is whole. A node does not open a directory that has it.
const restoringDir = "restoring"

// ErrNotEmpty refuses to restore over data.
var ErrNotEmpty = errors.New("directory is not empty")

// ErrRestoring refuses to open a directory in which a restore was broken off.
var ErrRestoring = errors.New("a restore was broken off here")

// Restore makes a data directory from an archive: the newest backup at or before the moment, and the archived log from there on. The node is the only one of a new cluster of its
// own: another cluster name keeps the nodes of the old one from talking to it, and it from them (R11). It may be killed at any moment and run again.
func Restore(ctx context.Context, o RestoreOptions) (RestoreResult, error) {
	r := &restore{RestoreOptions: o, began: time.Now()}
	def(&r.Group, "default")
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	if r.Progress == nil {
		r.Progress = func(string, float64) {}
	}
	if r.Cluster == r.Of || r.Cluster == "" || r.Node == "" {
		return r.result, fmt.Errorf("a restored cluster needs a name of its own, other than %q, so that none of its nodes can join the old one by mistake, and a node name", r.Of)
	}
	r.result = RestoreResult{Cluster: r.Cluster, Node: r.Node, Dir: r.Dir}
	lock, err := r.prepare()
	if err != nil {
		return r.result, err
	}
	err = r.run(ctx)
	err = errors.Join(err, lock.Close())
	r.result.Seconds = time.Since(r.began).Seconds()
	return r.result, err
}

type restore struct {
	RestoreOptions
	result RestoreResult
	began  time.Time
	dir    string // of the group, below restoringDir
	store  *kv.Store
	rest   *wal.Frame // frame of which only a part is wanted
}

// prepare locks the directory, sees that it is empty, and begins anew what was broken off.
func (r *restore) prepare() (lock io.Closer, err error) {
	fs := vfs.Default
	if err := durable.MakeDir(fs, r.Dir); err != nil {
		return nil, err
	}
	lock, err = fs.Lock(filepath.Join(r.Dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", r.Dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return lock, err
	}
	work := filepath.Join(r.Dir, restoringDir)
	ours := exists(fs, work)
	for _, e := range entries {
		switch {
		case e.Name() == "LOCK":
		case ours:
			// It was empty when the restore began, so all of this is the restore's. Its own mark goes last.
			if e.Name() != restoringDir {
				if err := os.RemoveAll(filepath.Join(r.Dir, e.Name())); err != nil {
					return lock, err
				}
			}
		case !r.Force:
			return lock, fmt.Errorf("%s: %w: it has %s; restore into an empty one, or move what is there aside with --force", r.Dir, ErrNotEmpty, e.Name())
		default:
			if r.result.Aside == "" {
				r.result.Aside = r.Dir + ".before-" + r.began.UTC().Format("20060102T150405.000")
				if err := os.Mkdir(r.result.Aside, 0o700); err != nil {
					return lock, err
				}
			}
			if err := os.Rename(filepath.Join(r.Dir, e.Name()), filepath.Join(r.result.Aside, e.Name())); err != nil {
				return lock, err
			}
		}
	}
	if ours {
		if err := os.RemoveAll(filepath.Join(work, "groups")); err != nil {
			return lock, err
		}
	}
	r.dir = filepath.Join(work, "groups", r.Group)
	return lock, durable.MakeDir(fs, r.dir)
}

func (r *restore) run(ctx context.Context) error {
	path, err := r.choose(ctx)
	if err != nil {
		return err
	}
	id, err := newIdentity(r.Cluster, r.Node, r.began)
	if err != nil {
		return err
	}
	r.store, err = kv.Open(kv.Options{Dir: filepath.Join(r.dir, "state"), CacheBytes: restoreCache, MemTableBytes: restoreMemTable, MemTables: restoreMemTables, StallLimit: restoreStall, OnFatal: func(err error) { panic(err) }, Logger: r.Logger})
	if err != nil {
		return err
	}
	err = r.replay(ctx, path)
	if err == nil {
		err = r.finish(ctx, id)
	}
	if err = errors.Join(err, r.store.Close()); err != nil {
		return err
	}
	return r.install(id)
}

// choose fetches the newest backup that lies at or before the moment, in the history that is wanted, and returns the log to replay behind it.
func (r *restore) choose(ctx context.Context) ([]archive.Step, error) {
	all, err := r.Archive.Backups(ctx)
	if err != nil {
		r.Progress(fmt.Sprintf("some backups cannot be read: %v", err), 0)
	}
	chunks, err := r.Archive.Chunks(ctx)
	if err != nil {
		return nil, err
	}
	var why error
	for i := len(all) - 1; i >= 0; i-- {
		b := all[i]
		if (r.ToLSN != 0 && b.Position.LSN > r.ToLSN) || (!r.ToTime.IsZero() && b.Created.After(r.ToTime)) || (r.Epoch != 0 && b.Position.Epoch > r.Epoch) {
			continue
		}
		path, err := archive.Path(chunks, b.Position, r.Epoch)
		if err != nil && r.ToLSN > b.Position.LSN {
			path, err = archive.PathTo(chunks, b.Position, r.ToLSN, r.Epoch)
		}
		if err != nil && r.ToLSN != b.Position.LSN {
			why = errors.Join(why, fmt.Errorf("backup %s at LSN %d: %w", b.ID, b.Position.LSN, err))
			continue
		}
		if n := len(path); r.ToLSN > b.Position.LSN && (n == 0 || path[n-1].End.LSN < r.ToLSN) {
			end := b.Position.LSN
			if n > 0 {
				end = path[n-1].End.LSN
			}
			return nil, fmt.Errorf("the archive ends at LSN %d, before LSN %d", end, r.ToLSN)
		}
		r.result.Backup, r.result.From = b.ID, b.Position
		r.Progress(fmt.Sprintf("backup %s of %s at LSN %d: %d files, %d bytes", b.ID, b.Created.Format(time.RFC3339), b.Position.LSN, len(b.Files), b.Bytes()), 0)
		last := time.Now()
		return path, r.Archive.Fetch(ctx, b, filepath.Join(r.dir, "state"), func(p archive.Progress) {
			if time.Since(last) > 200*time.Millisecond || p.Files == p.FilesTotal {
				last = time.Now()
				r.Progress(fmt.Sprintf("file %d of %d", p.Files, p.FilesTotal), 100*float64(p.Bytes)/float64(max(p.Total, 1)))
			}
		})
	}
	return nil, errors.Join(fmt.Errorf("%w: no backup of cluster %s lies before the moment and can be followed to it", archive.ErrNotFound, r.Of), why)
}

// A restore may run beside a node, so it takes less than a node: two memtables. (Smaller ones take more: below 32 MiB the C library keeps the room of freed ones in pieces.)
const (
	restoreCache     = 16 << 20
	restoreMemTable  = 32 << 20
	restoreMemTables = 2
)

// restoreStall is how long the disk may stand still under a restore, which nobody waits for as for an answer.
const restoreStall = 2 * time.Minute

// Bounds of what is on its way between the archive and the state.
const (
	restoreBatch  = 4 << 20
	restoreFrames = 1024
)

// replay applies the archived log up to the moment; the next batch is fetched while one is applied.
func (r *restore) replay(ctx context.Context, path []archive.Step) error {
	from := r.store.Applied()
	if from != r.result.From {
		return fmt.Errorf("%w: the files of backup %s hold %s, not %s", archive.ErrDamaged, r.result.Backup, from, r.result.From)
	}
	began := time.Now()
	target := r.ToLSN
	if n := len(path); target == 0 && n > 0 {
		target = path[n-1].End.LSN
	}
	g, gctx := errgroup.WithContext(ctx)
	batches := make(chan []*wal.Frame, 1)
	g.Go(func() error {
		defer close(batches)
		return r.read(gctx, path, from, batches)
	})
	g.Go(func() error {
		last := time.Now()
		for frames := range batches {
			if err := r.store.Apply(frames); err != nil {
				return err
			}
			r.result.Time = frames[len(frames)-1].Time
			if at := r.store.Applied().LSN; time.Since(last) > 500*time.Millisecond {
				last = time.Now()
				r.Progress(fmt.Sprintf("replay: lsn %d of %d, %.0f records/s", at, target, float64(at-from.LSN)/time.Since(began).Seconds()), 100*float64(at-from.LSN)/float64(max(target-from.LSN, 1)))
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	r.result.Replayed = uint64(r.store.Applied().LSN - from.LSN)
	if s := time.Since(began).Seconds(); s > 0 {
		r.result.Rate = float64(r.result.Replayed) / s
	}
	return nil
}

// read hands the wanted frames over in batches.
func (r *restore) read(ctx context.Context, path []archive.Step, from wal.Position, out chan<- []*wal.Frame) error {
	var batch []*wal.Frame
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case out <- batch:
			batch, size = nil, 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := r.Archive.Walk(ctx, path, from, func(f *wal.Frame) error {
		switch {
		case r.ToLSN != 0 && f.First > r.ToLSN, !r.ToTime.IsZero() && f.Time.After(r.ToTime):
			return archive.ErrStop
		case r.ToLSN != 0 && f.Last() > r.ToLSN:
			r.rest = f
			return archive.ErrStop
		}
		batch = append(batch, f)
		if size += int(f.Raw); size >= restoreBatch || len(batch) >= restoreFrames {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// finish begins the log at the state's position, with the records of a frame of which only a part is wanted, and writes the epoch file: the new cluster's
// epochs are above all that the old one had, and this node's log counts.
func (r *restore) finish(ctx context.Context, id identity) error {
	at := r.store.Applied()
	log, _, err := wal.Open(wal.Options{Dir: filepath.Join(r.dir, "wal"), Identity: wal.Identity{Cluster: r.Cluster, Group: r.Group, Incarnation: id.incarnation()}, Logger: r.Logger})
	if err != nil {
		return err
	}
	err = log.Reset(at, wal.SaveOptions{})
	if err == nil && r.rest != nil {
		err = r.applyPart(log, at)
	}
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	if err := r.store.Flush(); err != nil {
		return err
	}
	r.Progress("digest of the restored state", 0)
	sn, err := r.store.Snapshot()
	if err != nil {
		return err
	}
	r.result.Digest, err = sn.Digest(ctx, 0)
	if err = errors.Join(err, sn.Close()); err != nil {
		return err
	}
	r.result.Position, r.result.Keys = r.store.Applied(), r.store.Metrics().Keys
	slots, _, err := failover.OpenSlots(failover.SlotsOptions{FS: vfs.Default, Dir: r.dir, Name: "epoch", Create: true})
	if err != nil {
		return err
	}
	fence := failover.NewFence(slots)
	if at.Epoch > 0 {
		err = fence.Grant(at.Epoch, r.Node, wal.SyncSet{Version: 1})
	}
	if err == nil {
		err = fence.SetVoter(true)
	}
	return errors.Join(err, fence.Close())
}

// applyPart writes the wanted records of a frame as a frame of the new cluster's own, and applies that.
func (r *restore) applyPart(log *wal.Log, at wal.Position) error {
	w, err := log.NewWriter(wal.WriterOptions{Epoch: at.Epoch, Now: func() time.Time { return r.rest.Time }})
	if err != nil {
		return err
	}
	err = r.rest.Each(func(rec wal.Record) error {
		if rec.LSN > r.ToLSN {
			return nil
		}
		_, err := w.Append(rec.Kind, rec.Payload)
		return err
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	for lsn := at.LSN + 1; lsn <= r.ToLSN; {
		f, err := log.FrameAt(lsn)
		if err != nil {
			return err
		}
		if err := r.store.Apply([]*wal.Frame{f}); err != nil {
			return err
		}
		lsn = f.Last() + 1
		r.result.Replayed += uint64(f.Count)
	}
	r.result.Time = r.rest.Time
	return nil
}

// install makes the directory a node's: identity, then the group, and the mark that nothing is open any more goes last.
func (r *restore) install(id identity) error {
	fs := vfs.Default
	if err := writeIdentity(fs, r.Dir, id); err != nil {
		return err
	}
	work := filepath.Join(r.Dir, restoringDir)
	if err := os.Rename(filepath.Join(work, "groups"), filepath.Join(r.Dir, "groups")); err != nil {
		return err
	}
	if err := durable.SyncDir(fs, r.Dir); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	return durable.SyncDir(fs, r.Dir)
}
