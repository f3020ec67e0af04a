package kv

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"repld/wal"
)

// Sequencer evaluates writes, one record after the other, against the applied state plus the effects of the records in
// flight. There is at most one for a Store. All its calls and those of its Txn are made under the group's sequencer lock.
type Sequencer struct {
	s       *Store
	over    overlay
	recent  recent
	count   int64 // number of keys after the newest record in flight
	txn     Txn
	touched func(key []byte, all bool)
	soonest int64 // no expiry index row in Pebble is before this, in unix milliseconds
}

// What a Sequencer takes, beside the cache, for what it knows of recently used keys: a part of CacheBytes, at most enough for a million keys.
const (
	recentShare    = 4
	maxRecentBytes = 16 << 20
)

// NewSequencer starts evaluating writes. The whole log must have been applied, and from now on nothing may be applied
// that did not pass through the Sequencer (epoch starts and marks excepted, which change no keys).
func (s *Store) NewSequencer() *Sequencer {
	r := s.spare.Swap(nil)
	if r == nil {
		r = s.newRecent()
	}
	q := &Sequencer{s: s, over: newOverlay(), recent: *r, count: s.keys.Load()}
	q.txn.q = q
	return q
}

// Prepare makes ahead what takes NewSequencer time, megabytes of memory, so that a promotion does not wait for that. Called again before that it changes nothing.
func (s *Store) Prepare() {
	if s.spare.Load() == nil {
		s.spare.CompareAndSwap(nil, s.newRecent())
	}
}

func (s *Store) newRecent() *recent {
	r := newRecent(min(s.o.CacheBytes/recentShare, maxRecentBytes))
	return &r
}

// Touched sets the hook that Txn.Commit calls for each key that the record changed, and with all for a Clear. It is
// for WATCH. key is valid during the call.
func (q *Sequencer) Touched(fn func(key []byte, all bool)) { q.touched = fn }

// Begin starts the evaluation of one record at time now. Commit or Abort must end it before the next Begin.
func (q *Sequencer) Begin(now time.Time) *Txn {
	t := &q.txn
	if t.open {
		panic("kv: Begin while another record is being evaluated")
	}
	t.begin(now)
	return t
}

// Applied tells that every record up to lsn is in Pebble: Apply has returned for it.
func (q *Sequencer) Applied(lsn wal.LSN) { q.over.drop(lsn) }

// InFlight is the number of records that were committed to the overlay and are not applied yet.
func (q *Sequencer) InFlight() int { return len(q.over.flights) - q.over.head }

// Expired returns up to limit keys that are due at now by the expiry index of the applied state, and that no record in flight has
// touched. They are candidates: Txn.DeleteExpired decides again when it deletes them.
func (q *Sequencer) Expired(now time.Time, limit int) ([][]byte, error) {
	if err := q.s.enter(); err != nil {
		return nil, fmt.Errorf("expired keys: %w", err)
	}
	defer q.s.gate.leave()
	if q.over.cleared != 0 {
		return nil, nil
	}
	nowMs := now.UnixMilli()
	it, err := q.s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendExpiryRow(nil, q.soonest, nil),
		UpperBound: appendExpiryRow(nil, nowMs+1, nil),
	})
	if err != nil {
		return nil, readError("expired keys", err)
	}
	var keys [][]byte
	soonest := nowMs + 1
	for ok := it.First(); ok && len(keys) < limit; ok = it.Next() {
		at, key := splitExpiryRow(it.Key())
		soonest = min(soonest, at)
		if q.over.keys[string(key)] == nil {
			keys = append(keys, append([]byte(nil), key...))
		}
	}
	if err := it.Close(); err != nil {
		return nil, readError("expired keys", err)
	}
	// The rows before the first that was found are gone: the next scan need not pass over their tombstones.
	q.soonest = q.soonestInFlight(max(soonest, q.soonest))
	return keys, nil
}

// soonestInFlight returns at, or the earliest expiry that is on its way into Pebble.
func (q *Sequencer) soonestInFlight(at int64) int64 {
	for _, p := range q.over.keys {
		if p.entry.ExpireAt != 0 && !p.deleted {
			at = min(at, p.entry.ExpireAt)
		}
	}
	return at
}
