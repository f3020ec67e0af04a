package failover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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
// name, which only one of several callers can do, whatever process they are in. No lease and no lock file is involved (design decision 0013, 13). It is for one node, for clusters
// whose promotions a person orders, and for a directory on storage that every node mounts with coherent names
// (link is exclusive, a listing shows what was linked before). Opened twice on one node at once it must be Shared.
type FileStore struct {
	o    FileStoreOptions
	turn chan struct{} // capacity 1, full while somebody is at the storage: one at a time a store

	mu struct {
		sync.Mutex
		err     error
		changed chan struct{} // closed and replaced on each change made through this store
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
	s := &FileStore{o: o, turn: make(chan struct{}, 1)}
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

// atStorage calls do when it is its turn. Shared storage may stand still for as long as its server is not reached, and nothing ends a system call: then the
// caller leaves do behind when ctx ends (R12), and later ones wait for it no longer than that either.
func (s *FileStore) atStorage(ctx context.Context, do func() (Record, error)) (Record, error) {
	stands := func() error {
		return fmt.Errorf("token files in %s: the storage does not answer: %w", s.o.Dir, context.Cause(ctx))
	}
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return Record{}, stands()
	}
	type outcome struct {
		rec Record
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		rec, err := do()
		<-s.turn
		done <- outcome{rec, err}
	}()
	select {
	case o := <-done:
		return o.rec, o.err
	case <-ctx.Done():
		return Record{}, stands()
	}
}

// Load implements Store.
func (s *FileStore) Load(ctx context.Context) (Record, error) {
	return s.atStorage(ctx, s.load)
}

// load is called at the storage.
func (s *FileStore) load() (Record, error) {
	for range listRetries {
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
	return s.atStorage(ctx, func() (Record, error) { return s.compareAndSet(rev, next) })
}

// compareAndSet is called at the storage.
func (s *FileStore) compareAndSet(rev uint64, next Record) (Record, error) {
	if err := s.failed(); err != nil {
		return Record{}, err
	}
	cur, err := s.load()
	if err != nil {
		return Record{}, err
	}
	next, err = Advance(cur, rev, next)
	if err != nil {
		return cur, err
	}
	won, err := s.link(next)
	if err != nil {
		return Record{}, err
	}
	newest, err := s.load()
	if err != nil {
		return Record{}, err
	}
	// Even a caller whose link succeeded has not won when there is a later revision: either somebody has already taken the token
	// on, or the name was free only because it was pruned while this caller slept.
	if !won || newest.Rev != next.Rev {
		return newest, fmt.Errorf("token revision %d: %w: revision %d, epoch %d is held by %s", next.Rev, ErrConflict, newest.Rev, newest.Epoch, newest.Holder)
	}
	s.wake()
	s.prune(next.Rev)
	return newest, nil
}

func (s *FileStore) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// fail makes the first err the answer to every later CompareAndSet, and wakes the watchers.
func (s *FileStore) fail(err error) error {
	s.mu.Lock()
	if s.mu.err == nil {
		s.mu.err = err
	}
	err = s.mu.err
	s.mu.Unlock()
	s.wake()
	return err
}

// wake has the watchers look.
func (s *FileStore) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
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

// Close refuses everything but Load from now on, and ends every Watch. It does not wait for storage that stands still.
func (s *FileStore) Close() error {
	_ = s.fail(fmt.Errorf("token store: %w", ErrClosed)) // what failed before stays the reason
	return nil
}
