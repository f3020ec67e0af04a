package kv

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"repld/wal"
)

// Store is the open state of a group. Apply is for one goroutine; everything else may be called from any.
type Store struct {
	o      Options
	db     *pebble.DB
	gate   *gate
	health *health

	applied atomic.Pointer[wal.Position]
	keys    atomic.Int64 // the row 00 'n' at applied
	records atomic.Uint64
	commits atomic.Uint64
	views   sync.Pool              // of *ReadView
	spare   atomic.Pointer[recent] // for the next Sequencer; nil until Prepare

	apply struct { // the applier's
		sync.Mutex
		buf   []byte // the batch being gathered
		batch *pebble.Batch
	}
	closing struct {
		sync.Mutex
		done bool
		err  error
	}
}

// Open opens the state in o.Dir, creating it at the zero position if there is none. The state is at some position at
// which it once was, at or above every position that DurablyApplied has returned; the log must be applied from there.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	h := newHealth(o)
	db, err := openPebble(o, h)
	if err != nil {
		h.close()
		return nil, openError(o.FS, o.Dir, err)
	}
	s := &Store{o: o, db: db, gate: newGate(), health: h}
	s.views.New = func() any { return &ReadView{s: s} }
	s.apply.batch = new(pebble.Batch)
	if err := s.load(); err != nil {
		err = fmt.Errorf("open state %s: %w", o.Dir, err)
		if !h.isParked() {
			err = errors.Join(err, db.Close())
		}
		h.close()
		return nil, err
	}
	return s, nil
}

// load reads what is kept in memory: the applied position and the number of keys.
func (s *Store) load() error {
	pos, keys, err := readSystem(s.db)
	if err != nil {
		return err
	}
	s.applied.Store(&pos)
	s.keys.Store(keys)
	return nil
}

// readSystem reads the system rows; both are zero in an empty state.
func readSystem(r pebble.Reader) (pos wal.Position, keys int64, err error) {
	err = readRow(r, positionRow, func(b []byte) (err error) { pos, err = decodePosition(b); return err })
	if err == nil {
		err = readRow(r, countRow, func(b []byte) (err error) { keys, err = decodeCount(b); return err })
	}
	return pos, keys, err
}

func readRow(r pebble.Reader, row string, decode func([]byte) error) error {
	v, closer, err := r.Get([]byte(row))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return readError("read system row", err)
	}
	return errors.Join(decode(v), closer.Close())
}

// openPebble opens Pebble. When it is stopped on its way by a failed MANIFEST or directory, the call returns with the reason and Pebble stays as it is: the
// process should end.
func openPebble(o Options, h *health) (*pebble.DB, error) {
	type opened struct {
		db  *pebble.DB
		err error
	}
	done := make(chan opened, 1)
	p := pebbleOptions(o, h)
	p.FS = dirFS{o.FS, h}
	go func() {
		db, err := pebble.Open(o.Dir, p)
		done <- opened{db, err}
	}()
	select {
	case r := <-done:
		return r.db, r.err
	case <-h.parked:
		return nil, h.err()
	}
}

// pebbleOptions is what every way of opening a state shares.
func pebbleOptions(o Options, h *health) *pebble.Options {
	p := &pebble.Options{
		FS:                 o.FS,
		DisableWAL:         true, // the group's log is the source of truth
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             pebbleLogger{h},
		EventListener:      h.listener(),
		// Pebble takes memtables (the one in use and one to use again, and those that wait) out of its cache.
		CacheSize:    o.CacheBytes + 2*o.MemTableBytes,
		MemTableSize: uint64(o.MemTableBytes),
		// Memtables that wait for their flush hold writers back before memory runs out.
		MemTableStopWritesThreshold: o.MemTables,
		// Compaction that lags costs reads; stopping writes for it would look like a dead disk (StallLimit).
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 1000,
		LBaseMaxBytes:         64 << 20,
		MaxOpenFiles:          512,
	}
	p.CompactionConcurrencyRange = func() (int, int) { return 1, 2 }
	p.Experimental.CompactionScheduler = newCompactions(h.dead)
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

// Applied is the position up to which the state holds the log's effects. It costs one atomic load.
func (s *Store) Applied() wal.Position { return *s.applied.Load() }

// Err is the reason given to OnFatal, nil while all is well.
func (s *Store) Err() error { return s.health.err() }

// enter admits a call: not after Close, and not after a failure.
func (s *Store) enter() error {
	if err := s.health.err(); err != nil {
		return err
	}
	if !s.gate.enter() {
		return ErrClosed
	}
	return nil
}

// Close closes the state after waiting for its readers (ErrBusy when they outlast four times the StallLimit; it may be
// called again). What was applied but not flushed is lost from the files and comes back from the log: call Flush before
// for a quick start. After a failure it may leave Pebble open, because Pebble would not return; the process should end.
func (s *Store) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closing.done {
		return s.closing.err
	}
	limit := 4 * s.o.StallLimit
	if s.health.err() != nil {
		limit = s.o.StallLimit
	}
	if n := s.gate.close(limit); n > 0 {
		return errors.Join(fmt.Errorf("close state: %w: %d users", ErrBusy, n), s.health.err())
	}
	s.closing.done = true
	if s.health.isParked() {
		s.closing.err = fmt.Errorf("close state: %w", s.health.err())
	} else {
		s.closing.err = s.closePebble()
	}
	s.health.close()
	return s.closing.err
}

func (s *Store) closePebble() error {
	t := s.health.guard("close", 4*s.o.StallLimit)
	defer t.Stop()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}
