package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
	"repld/wal"
)

// replayBatch is how many bytes of frames are applied at once.
const replayBatch = 4 << 20

// verifyLog reads the whole log, looks for the state's position in it, and rebuilds the state from it when it reaches back far enough.
func verifyLog(ctx context.Context, g *groupReport, dir string, state kv.Digest, haveState, replay bool) {
	w := &logWalk{ctx: ctx, want: state.Position, found: state.Position == wal.Position{}}
	if haveState && replay {
		w.open(g)
		defer w.close()
	}
	rep, err := wal.Verify(vfs.Default, filepath.Join(dir, "wal"), wal.VerifyOptions{OnFrame: w.frame})
	g.Start, g.Log = rep.Start, rep.End
	switch {
	case len(rep.Problems) > 0:
		for _, p := range rep.Problems {
			g.fault("log", p)
		}
		return // what follows the first problem was not read
	case err != nil:
		g.fault("log", err)
		return
	}
	g.add("log", verdictOK, "cluster %s, group %s, %s, %s, %s, from LSN %d to %s, tail %s", rep.Identity.Cluster, rep.Identity.Group,
		plural(uint64(len(rep.Segments)), "segment"), plural(rep.Frames, "frame"), plural(rep.Records, "record"), rep.Start.LSN+1, rep.End, rep.Tail)
	if !haveState {
		return
	}
	w.found = w.found || rep.Start == state.Position
	compareState(g, rep, state, w.found)
	w.compare(g, rep, state)
}

// compareState: the state has to be a point of the log's history.
func compareState(g *groupReport, rep wal.Report, state kv.Digest, found bool) {
	at := state.Position
	switch {
	case found:
		g.add("state in log", verdictOK, "%s", plural(uint64(rep.End.LSN-at.LSN), "record")+" of the log not applied")
	case at.LSN > rep.End.LSN:
		g.add("state in log", verdictDamaged, "the state is at %s, behind the log's end %s: records are missing (R8)", at, rep.End)
	case at.LSN < rep.Start.LSN:
		g.add("state in log", verdictDamaged, "the state is at %s, but the log begins at %s: records between them are missing", at, rep.Start)
	default:
		g.add("state in log", verdictDamaged, "the log has no frame that ends at %s: they are different histories", at)
	}
}

// logWalk sees every frame of the log: it looks for one position and rebuilds the state up to it.
type logWalk struct {
	ctx   context.Context
	want  wal.Position
	found bool

	dir   string // temporary
	store *kv.Store
	batch []*wal.Frame
	bytes int
	first bool  // a frame was seen
	whole bool  // the first frame was the log's very first
	err   error // of the rebuild, not of the log
}

func (w *logWalk) open(g *groupReport) {
	dir, err := os.MkdirTemp("", "replctl-verify-")
	if err == nil {
		w.dir = dir
		w.store, err = kv.Open(kv.Options{Dir: filepath.Join(dir, "state"), CacheBytes: 8 << 20, MemTableBytes: 8 << 20, StallLimit: 2 * time.Minute})
	}
	if err != nil {
		g.add("replay", verdictUnknown, "no room for a rebuild: %v", err)
	}
}

func (w *logWalk) close() {
	if w.store != nil {
		_ = w.store.Close() // its content is thrown away
	}
	if w.dir != "" {
		_ = os.RemoveAll(w.dir)
	}
}

func (w *logWalk) frame(f *wal.Frame) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if !w.first {
		w.first, w.whole = true, f.First == 1
	}
	end := f.End()
	w.found = w.found || end == w.want
	if w.store == nil || !w.whole || w.err != nil || end.LSN > w.want.LSN {
		return nil
	}
	w.batch = append(w.batch, f)
	w.bytes += len(f.Bytes)
	if w.bytes >= replayBatch {
		w.flush()
	}
	return nil
}

func (w *logWalk) flush() {
	if w.err == nil && len(w.batch) > 0 {
		w.err = w.store.Apply(w.batch)
	}
	w.batch, w.bytes = w.batch[:0], 0
}

// compare holds the rebuilt state against the stored one.
func (w *logWalk) compare(g *groupReport, rep wal.Report, state kv.Digest) {
	if w.store == nil {
		return
	}
	if rep.Start != (wal.Position{}) {
		g.add("replay", verdictSkipped, "the log begins at LSN %d: its head was cut, or the node was seeded", rep.Start.LSN+1)
		return
	}
	w.flush()
	d, err := w.digest()
	switch {
	case err != nil:
		g.fault("replay", err)
	case d.Position != state.Position:
		g.add("replay", verdictDamaged, "rebuilt up to %s, the state is at %s", d.Position, state.Position)
	case d.Hash != state.Hash:
		g.add("replay", verdictDamaged, "the log makes digest %s with %d rows, the state has %s with %d rows", d.Hash, d.Rows, state.Hash, state.Rows)
	default:
		g.add("replay", verdictOK, "a state rebuilt from the log has the same digest %s", d.Hash)
	}
}

func (w *logWalk) digest() (kv.Digest, error) {
	if w.err != nil {
		return kv.Digest{}, w.err
	}
	sn, err := w.store.Snapshot()
	if err != nil {
		return kv.Digest{}, err
	}
	d, err := sn.Digest(w.ctx, 0)
	if e := sn.Close(); err == nil && e != nil {
		err = fmt.Errorf("close snapshot: %w", e)
	}
	return d, err
}
