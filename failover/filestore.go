package failover

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	tokenSuffix  = ".token"
	tempPrefix   = "tmp-"
	maxTokenSize = 64 << 10 // bytes of one stored record
	listRetries  = 16       // a reader that is overtaken by pruning lists again
)

// FileStoreOptions says where the token files are.
type FileStoreOptions struct {
	FS     vfs.FS        // default vfs.Default
	Dir    string        // existing and itself durable; required. With Shared: on storage that all nodes mount
	Shared bool          // all nodes use this same directory
	Poll   time.Duration // how often Watch looks for a change made by another process, default 500 ms
	Keep   int           // newest revisions kept for the curious, default 16
	Logger *slog.Logger  // default discards
}

// EnsureDefaults fills what is unset.
func (o *FileStoreOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Poll == 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Keep == 0 {
		o.Keep = 16
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot work.
func (o *FileStoreOptions) Validate() error {
	if o.Dir == "" || o.Poll < 0 || o.Keep < 1 {
		return fmt.Errorf("file store: dir %q, poll %s, keep %d: %w", o.Dir, o.Poll, o.Keep, ErrInvalid)
	}
	return nil
}

// FileStore keeps the token as one file a revision, named by it. A revision is taken by linking a synced file to its
// name, which only one of several callers can do, whatever process they are in. It is for one node, for clusters
// whose promotions a person orders, and for a directory on storage that every node mounts with coherent names
// (link is exclusive, a listing shows what was linked before). Opened twice on one node at once it must be Shared.
type FileStore struct {
	o FileStoreOptions

	mu struct {
		sync.Mutex // held over a whole CompareAndSet: one writer a process
		err        error
		changed    chan struct{} // closed and replaced on each change made through this store
	}
}

var _ Store = (*FileStore)(nil)

// OpenFileStore checks that the newest revision can be read. A damaged one is refused by name (D11): an older one
// would name a node that has lost the token.
func OpenFileStore(o FileStoreOptions) (*FileStore, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &FileStore{o: o}
	s.mu.changed = make(chan struct{})
	if _, err := s.Load(context.Background()); err != nil {
		return nil, err
	}
	if o.Shared {
		return s, nil // another node may be about to link its file
	}
	if err := s.removeLeftovers(); err != nil {
		return nil, err
	}
	return s, nil
}

// removeLeftovers removes what a crash left between creating and linking a file.
func (s *FileStore) removeLeftovers() error {
	names, err := s.o.FS.List(s.o.Dir)
	if err != nil {
		return fmt.Errorf("list token files: %w", err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n, tempPrefix) {
			continue
		}
		if err := s.o.FS.Remove(s.o.FS.PathJoin(s.o.Dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove leftover token file: %w", err)
		}
	}
	return nil
}

// Shared implements Store.
func (s *FileStore) Shared() bool { return s.o.Shared }

// Load implements Store.
func (s *FileStore) Load(ctx context.Context) (Record, error) {
	for range listRetries {
		if err := ctx.Err(); err != nil {
			return Record{}, err
		}
		revs, err := s.list()
		if err != nil {
			return Record{}, fmt.Errorf("list token files: %w", err)
		}
		if len(revs) == 0 {
			return Record{}, nil
		}
		rec, err := s.read(revs[len(revs)-1])
		if !errors.Is(err, fs.ErrNotExist) {
			return rec, err
		}
	}
	return Record{}, fmt.Errorf("token files in %s change faster than they can be read", s.o.Dir)
}

// CompareAndSet implements Store.
func (s *FileStore) CompareAndSet(ctx context.Context, rev uint64, next Record) (Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return Record{}, s.mu.err
	}
	cur, err := s.Load(ctx)
	if err != nil {
		return Record{}, err
	}
	if err := checkNext(cur, rev, next); err != nil {
		return cur, err
	}
	next.Rev = rev + 1
	won, err := s.linkLocked(next)
	if err != nil {
		return Record{}, err
	}
	newest, err := s.Load(ctx)
	if err != nil {
		return Record{}, err
	}
	// Even a caller whose link succeeded has not won when there is a later revision: either somebody has already taken the token
	// on, or the name was free only because it was pruned while this caller slept.
	if !won || newest.Rev != next.Rev {
		return newest, fmt.Errorf("token revision %d: %w: revision %d, epoch %d is held by %s", next.Rev, ErrConflict, newest.Rev, newest.Epoch, newest.Holder)
	}
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
	s.pruneLocked(next.Rev)
	return newest, nil
}

// Watch implements Store.
func (s *FileStore) Watch(ctx context.Context, after uint64) (Record, error) {
	tick := time.NewTicker(s.o.Poll)
	defer tick.Stop()
	for {
		s.mu.Lock()
		changed, err := s.mu.changed, s.mu.err
		s.mu.Unlock()
		if err != nil {
			return Record{}, err
		}
		rec, err := s.Load(ctx)
		if err != nil || rec.Rev > after {
			return rec, err
		}
		select {
		case <-ctx.Done():
			return Record{}, ctx.Err()
		case <-changed:
		case <-tick.C:
		}
	}
}

// Close refuses everything but Load from now on, and ends every Watch.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err == nil {
		s.failLocked(fmt.Errorf("token store: %w", ErrClosed))
	}
	return nil
}

// checkNext is the rule of CompareAndSet that every implementation shares: the revision is the one that was read,
// epochs only rise, and one epoch has one holder.
func checkNext(cur Record, rev uint64, next Record) error {
	switch {
	case cur.Rev != rev:
		return fmt.Errorf("token: %w: revision is %d, not %d", ErrConflict, cur.Rev, rev)
	case next.Epoch < cur.Epoch:
		return fmt.Errorf("token: %w: epoch %d is below %d", ErrConflict, next.Epoch, cur.Epoch)
	case next.Epoch == cur.Epoch && next.Holder != cur.Holder:
		return fmt.Errorf("token: %w", &ConflictError{Epoch: cur.Epoch, Holder: cur.Holder, Other: next.Holder})
	case next.Epoch == 0 || next.Holder == "":
		return fmt.Errorf("token: %w: epoch %d held by %q", ErrInvalid, next.Epoch, next.Holder)
	}
	return nil
}

// linkLocked stores rec under its revision's name; false when the name was taken. Content is synced before the name
// appears, the name before this returns. After a failed write, link or sync nothing more is promised (R10).
func (s *FileStore) linkLocked(rec Record) (bool, error) {
	doc, err := json.Marshal(rec)
	if err != nil || len(doc) > maxTokenSize-boxHeader {
		return false, fmt.Errorf("token: %w: record of %d bytes: %w", ErrInvalid, len(doc), err)
	}
	tmp := s.o.FS.PathJoin(s.o.Dir, tempPrefix+rand.Text())
	err = writeFile(s.o.FS, tmp, encodeBox(tokenMagic, rec.Rev, doc))
	if err == nil {
		err = s.o.FS.Link(tmp, s.path(rec.Rev))
	}
	taken := errors.Is(err, fs.ErrExist)
	if taken {
		err = nil
	}
	if rm := s.o.FS.Remove(tmp); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	err = errors.Join(err, syncDir(s.o.FS, s.o.Dir))
	if err != nil {
		s.failLocked(fmt.Errorf("token revision %d in %s: %w: %w", rec.Rev, s.o.Dir, ErrFailed, err))
		return false, s.mu.err
	}
	return !taken, nil
}

// failLocked makes err the answer to every later CompareAndSet, and wakes the watchers.
func (s *FileStore) failLocked(err error) {
	s.mu.err = err
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

// pruneLocked removes revisions that nobody needs. Failing to remove is no reason to fail.
func (s *FileStore) pruneLocked(newest uint64) {
	revs, err := s.list()
	if err != nil {
		s.o.Logger.Warn("cannot prune token files", "err", err)
		return
	}
	for _, r := range revs {
		if r+uint64(s.o.Keep) > newest {
			return
		}
		if err := s.o.FS.Remove(s.path(r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.o.Logger.Warn("cannot prune token file", "file", s.path(r), "err", err)
		}
	}
}

// list returns the revisions in rising order. Names of another form are not ours and are left alone.
func (s *FileStore) list() ([]uint64, error) {
	names, err := s.o.FS.List(s.o.Dir)
	if err != nil {
		return nil, err
	}
	var revs []uint64
	for _, n := range names {
		digits, ok := strings.CutSuffix(n, tokenSuffix)
		if !ok || len(digits) != 20 {
			continue
		}
		if r, err := strconv.ParseUint(digits, 10, 64); err == nil && r > 0 {
			revs = append(revs, r)
		}
	}
	slices.Sort(revs)
	return revs, nil
}

func (s *FileStore) path(rev uint64) string {
	return s.o.FS.PathJoin(s.o.Dir, fmt.Sprintf("%020d%s", rev, tokenSuffix))
}

func (s *FileStore) read(rev uint64) (Record, error) {
	f, err := s.o.FS.Open(s.path(rev))
	if err != nil {
		return Record{}, fmt.Errorf("open token: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTokenSize+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return Record{}, fmt.Errorf("read token %s: %w", s.path(rev), err)
	}
	rec, err := decodeRecord(b)
	if err == nil && rec.Rev != rev {
		err = fmt.Errorf("%w: it holds revision %d", errBox, rec.Rev)
	}
	switch {
	case errors.Is(err, ErrVersion):
		return Record{}, fmt.Errorf("%s: %w", s.path(rev), err)
	case err != nil:
		return Record{}, &CorruptError{File: s.path(rev), Reason: err.Error()}
	}
	return rec, nil
}

// decodeRecord decodes the stored form of one revision.
func decodeRecord(b []byte) (Record, error) {
	rev, doc, err := decodeBox(tokenMagic, b)
	if err != nil {
		return Record{}, err
	}
	if extra := len(b) - boxHeader - len(doc); extra != 0 {
		return Record{}, fmt.Errorf("%w: %d bytes after the record", errBox, extra)
	}
	var rec Record
	if err := decodeStrict(doc, &rec); err != nil {
		return Record{}, fmt.Errorf("%w: %w", errBox, err)
	}
	if rec.Rev != rev || rev == 0 || rec.Epoch == 0 || rec.Holder == "" {
		return Record{}, fmt.Errorf("%w: revision %d (%d outside), epoch %d held by %q", errBox, rec.Rev, rev, rec.Epoch, rec.Holder)
	}
	return rec, nil
}

func writeFile(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
