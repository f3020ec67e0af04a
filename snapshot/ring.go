package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/wal"
)

// Names in the ring's directory. A checkpoint has its own name only while it is whole:
//
//	making/              one that is being made
//	LSN-EPOCH-ID/        the files, and snapshot.json, the manifest
//	gone-…/              one that is being removed
const (
	makingDir  = "making"
	goneMark   = "gone-"
	newMarkEnd = ".new" // a manifest that is about to replace the one without a digest
)

// Ring keeps the newest few checkpoints of a state on disk, each with its manifest: for rewinding a node whose state has gone past the history (R15), and for drills. They survive a
// restart; of a crash, OpenRing removes what was not whole. A checkpoint consists of links, so it takes space only for what the state has replaced since.
type Ring struct {
	o      RingOptions
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	making sync.Mutex // one at a time

	mu struct {
		sync.Mutex
		kept    []*entry        // oldest first
		hashed  map[string]File // of the state as it is since the last Forget
		forgets int
		above   wal.LSN // of the last Forget
	}
}

// entry is a checkpoint on disk. Its fields but dir are guarded by the ring's mutex.
type entry struct {
	m    Manifest
	dir  string
	refs int
	gone bool // forgotten, and removed with its last reference
}

// Checkpoint describes one that is kept.
type Checkpoint struct {
	Manifest
	Dir string
}

// OpenRing opens the ring in o.Dir, removing what is not whole there.
func OpenRing(o RingOptions) (*Ring, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &Ring{o: o}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open checkpoints: %w", err)
	}
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open checkpoints: %w", err)
	}
	slices.Sort(names) // by LSN, then by epoch
	for _, name := range names {
		dir := o.FS.PathJoin(o.Dir, name)
		m, err := r.load(name, dir)
		if err == nil {
			r.mu.kept = append(r.mu.kept, &entry{m: m, dir: dir})
			continue
		}
		o.Logger.Warn("checkpoint is not whole and is removed", "path", dir, "reason", err)
		if err := o.FS.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("remove checkpoint %s: %w", dir, err)
		}
	}
	return r, nil
}

// load reads the manifest of a checkpoint and sees that its files are there. What is in them is looked at when they are used.
func (r *Ring) load(name, dir string) (Manifest, error) {
	if name == makingDir || strings.HasPrefix(name, goneMark) {
		return Manifest{}, ErrIncomplete
	}
	m, err := ReadManifest(r.o.FS, dir)
	if err != nil {
		return m, err
	}
	if entryName(m) != name {
		return m, fmt.Errorf("%w: %s lies in %s", ErrManifest, entryName(m), name)
	}
	for _, f := range m.Files {
		info, err := r.o.FS.Stat(r.o.FS.PathJoin(dir, f.Name))
		if err != nil || info.Size() != f.Size {
			return m, fmt.Errorf("%w: file %s (%v)", ErrIncomplete, f.Name, err)
		}
	}
	return m, nil
}

func entryName(m Manifest) string {
	return fmt.Sprintf("%020d-%010d-%s", m.Position.LSN, m.Position.Epoch, m.ID)
}

// Take makes a checkpoint of the state as it is now, unless the newest one is that, and drops those that are too many then. The checkpoint counts, durably, as soon as its files are hashed;
// its digest is added behind that.
func (r *Ring) Take(ctx context.Context) (Checkpoint, error) {
	r.making.Lock()
	defer r.making.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	if err := ctx.Err(); err != nil {
		return Checkpoint{}, fmt.Errorf("make checkpoint: %w", err)
	}
	e, err := r.make(ctx)
	if err == nil {
		r.Trim(time.Now())
		err = r.digest(ctx, e)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("make checkpoint: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.gone {
		return Checkpoint{}, fmt.Errorf("make checkpoint: %w: it was dropped while it was made", ErrClosed)
	}
	return Checkpoint{e.m, e.dir}, nil
}

// make makes a checkpoint, or finds that the newest one is of the same position.
func (r *Ring) make(ctx context.Context) (*entry, error) {
	fs, dir, start := r.o.FS, r.o.FS.PathJoin(r.o.Dir, makingDir), time.Now()
	r.mu.Lock()
	forgets, hashed := r.mu.forgets, r.mu.hashed
	r.mu.Unlock()
	if err := fs.RemoveAll(dir); err != nil {
		return nil, err
	}
	pos, err := r.o.Source.Checkpoint(dir)
	if err != nil {
		return nil, errors.Join(err, fs.RemoveAll(dir))
	}
	if e := r.newest(); e != nil && e.m.Position == pos {
		return e, fs.RemoveAll(dir)
	}
	m, err := r.describe(ctx, dir, pos, start, hashed)
	if err == nil {
		err = writeManifest(fs, dir, ManifestName, m)
	}
	if err == nil {
		err = durable.SyncDir(fs, dir)
	}
	e := &entry{m: m, dir: fs.PathJoin(r.o.Dir, entryName(m))}
	if err == nil {
		err = fs.Rename(dir, e.dir)
	}
	if err != nil {
		return nil, errors.Join(err, fs.RemoveAll(dir))
	}
	if err := durable.SyncDir(fs, r.o.Dir); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.mu.kept = append(r.mu.kept, e)
	switch {
	case forgets == r.mu.forgets:
		r.mu.hashed = map[string]File{}
		for _, f := range m.Files {
			if writtenOnce(f.Name) {
				r.mu.hashed[f.Name] = f
			}
		}
	case pos.LSN > r.mu.above:
		r.dropLocked(e)
	}
	r.mu.Unlock()
	r.o.Logger.Info("checkpoint made", "id", m.ID, "position", pos.String(), "files", len(m.Files), "bytes", m.Bytes(), "duration", time.Since(start))
	return e, nil
}

func (r *Ring) newest() *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.mu.kept); n > 0 {
		return r.mu.kept[n-1]
	}
	return nil
}

// describe hashes the files of a checkpoint. Tables are written once, so those that were hashed before are not read again: damage since then shows as a difference to the hash.
func (r *Ring) describe(ctx context.Context, dir string, pos wal.Position, at time.Time, hashed map[string]File) (Manifest, error) {
	id, err := newID()
	if err != nil {
		return Manifest{}, err
	}
	files, _, err := listFiles(r.o.FS, dir)
	if err != nil {
		return Manifest{}, err
	}
	pace := pacer{rate: r.o.Rate, start: time.Now()}
	for i := range files {
		f := &files[i]
		if old, ok := hashed[f.Name]; ok && old.Size == f.Size {
			*f = old
		} else if f.Size, f.Hash, err = hashFile(ctx, r.o.FS, r.o.FS.PathJoin(dir, f.Name), func(n int) { pace.wait(ctx, n) }); err != nil {
			return Manifest{}, fmt.Errorf("hash %s: %w", f.Name, err)
		}
	}
	m := Manifest{Format: Format, Cluster: r.o.Cluster, Group: r.o.Group, ID: id, Position: pos, Created: at.UTC().Round(0), Files: files}
	return m, m.validate()
}

// writtenOnce reports whether a file of a state never changes under its name, so that it may be shared by a link.
func writtenOnce(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// digest adds the digest of the rows to a manifest that has none.
func (r *Ring) digest(ctx context.Context, e *entry) error {
	r.mu.Lock()
	m := e.m
	if e.gone || r.o.Digest == nil || m.Digest != 0 {
		r.mu.Unlock()
		return nil
	}
	e.refs++
	r.mu.Unlock()
	defer r.release(e)
	var err error
	if m.Digest, m.Keys, err = r.o.Digest(ctx, e.dir); err != nil {
		return err
	}
	fs := r.o.FS
	if err := writeManifest(fs, e.dir, ManifestName+newMarkEnd, m); err != nil {
		return err
	}
	if err := fs.Rename(fs.PathJoin(e.dir, ManifestName+newMarkEnd), fs.PathJoin(e.dir, ManifestName)); err != nil {
		return err
	}
	if err := durable.SyncDir(fs, e.dir); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.m = m
	return nil
}

func writeManifest(fs vfs.FS, dir, name string, m Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(fs, fs.PathJoin(dir, name), b)
}

// List describes the checkpoints, the newest first.
func (r *Ring) List() []Checkpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Checkpoint, 0, len(r.mu.kept))
	for _, e := range slices.Backward(r.mu.kept) {
		out = append(out, Checkpoint{e.m, e.dir})
	}
	return out
}

// Extra is how many bytes the checkpoints take beyond what the state takes itself.
func (r *Ring) Extra() (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.extraLocked()
}

func (r *Ring) extraLocked() (int64, error) {
	if len(r.mu.kept) == 0 {
		return 0, nil
	}
	live := map[string]bool{}
	names, err := r.o.FS.List(r.o.Live)
	if err != nil && !isNotExist(err) { // no state: all of it is the ring's
		return 0, fmt.Errorf("size of checkpoints: %w", err)
	}
	for _, name := range names {
		live[name] = true
	}
	total, seen := int64(0), map[File]bool{}
	for _, e := range r.mu.kept {
		for _, f := range e.m.Files {
			if (writtenOnce(f.Name) && live[f.Name]) || seen[f] {
				continue
			}
			seen[f] = true
			total += f.Size
		}
	}
	return total, nil
}

// Trim drops the oldest checkpoints while they are too many, too old at now, or take too much.
func (r *Ring) Trim(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.mu.kept) > 0 {
		oldest, over := r.mu.kept[0], len(r.mu.kept) > r.o.Count
		over = over || (r.o.Age > 0 && len(r.mu.kept) > 1 && now.Sub(oldest.m.Created) > r.o.Age)
		if !over && r.o.Bytes > 0 {
			extra, err := r.extraLocked()
			if err != nil {
				r.o.Logger.Warn("checkpoints not trimmed", "error", err)
				return
			}
			over = extra > r.o.Bytes
		}
		if !over {
			return
		}
		r.dropLocked(oldest)
	}
}

// Forget drops the checkpoints above lsn, one that is being made too, and what is known of the state's files: the state is, or was, replaced, and what comes above lsn is of another history.
// It is to be called before that, in case of a crash, and after, because of what is made meanwhile.
func (r *Ring) Forget(lsn wal.LSN) {
	r.mu.Lock()
	r.mu.forgets, r.mu.above, r.mu.hashed = r.mu.forgets+1, lsn, nil
	r.mu.Unlock()
	r.drop(func(m Manifest) bool { return m.Position.LSN > lsn })
}

// Keep drops the checkpoints for which ok is false.
func (r *Ring) Keep(ok func(Manifest) bool) { r.drop(func(m Manifest) bool { return !ok(m) }) }

// Clear drops all of them, because the disk needs the space, and returns how many there were.
func (r *Ring) Clear() int { return r.drop(func(Manifest) bool { return true }) }

func (r *Ring) drop(which func(Manifest) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Clone(r.mu.kept) {
		if which(e.m) {
			r.dropLocked(e)
			n++
		}
	}
	return n
}

// dropLocked forgets a checkpoint and removes it, unless it is being used.
func (r *Ring) dropLocked(e *entry) {
	r.mu.kept = slices.DeleteFunc(r.mu.kept, func(x *entry) bool { return x == e })
	e.gone = true
	if e.refs == 0 {
		r.removeLocked(e)
	}
}

// removeLocked renames before it removes: half a checkpoint must not have the name of a whole one.
func (r *Ring) removeLocked(e *entry) {
	fs := r.o.FS
	gone := fs.PathJoin(r.o.Dir, goneMark+fs.PathBase(e.dir))
	err := fs.Rename(e.dir, gone)
	if err == nil {
		err = fs.RemoveAll(gone)
	}
	if err != nil { // OpenRing tries again
		r.o.Logger.Warn("checkpoint not removed", "path", e.dir, "error", err)
		return
	}
	r.o.Logger.Info("checkpoint dropped", "id", e.m.ID, "position", e.m.Position.String())
}

func (r *Ring) release(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.refs--; e.refs == 0 && e.gone {
		r.removeLocked(e)
	}
}

// Close ends what Take is doing. What is kept stays on disk.
func (r *Ring) Close() {
	r.cancel()
	r.making.Lock() // it has ended
	defer r.making.Unlock()
}
