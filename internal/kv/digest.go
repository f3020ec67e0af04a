package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"repld/wal"
)

// Snapshot is the state at one position, kept while applying goes on. Old versions of rows stay on disk until it is closed.
type Snapshot struct {
	s    *Store
	sn   *pebble.Snapshot
	pos  wal.Position
	busy func() bool // see YieldTo
}

// Snapshot takes a snapshot of the applied state. It must be closed before the store is.
func (s *Store) Snapshot() (*Snapshot, error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	sn := s.db.NewSnapshot()
	pos, _, err := readSystem(sn)
	if err != nil {
		err = errors.Join(fmt.Errorf("snapshot: %w", err), sn.Close())
		s.gate.leave()
		return nil, err
	}
	return &Snapshot{s: s, sn: sn, pos: pos}, nil
}

// YieldTo makes digests that have no rate of their own leave the processor to others while busy says so: they work for 1/yieldShare of the time of one core then, but never slower than YieldFloor.
// busy is called each few milliseconds. Call it before the first digest.
func (sn *Snapshot) YieldTo(busy func() bool) { sn.busy = busy }

const (
	yieldShare = 20
	// YieldFloor is the bytes a second that a digest reads at least, however busy others are: so it ends (R12).
	YieldFloor = 4 << 20
)

// Position is the snapshot's exact position.
func (sn *Snapshot) Position() wal.Position { return sn.pos }

// Close releases the snapshot. A second call does nothing.
func (sn *Snapshot) Close() error {
	if sn.sn == nil {
		return nil
	}
	err := sn.sn.Close()
	sn.sn = nil
	sn.s.gate.leave()
	return err
}

// Digest sums up the rows of a state, except its applied position: states with equal rows have equal digests, whatever
// their files look like.
type Digest struct {
	Position wal.Position `json:"position"`
	// Hash is xxhash64 over, for each row in key order: uvarint length · key · uvarint length · value.
	Hash  wal.Hash `json:"hash"`
	Rows  int64    `json:"rows"`
	Bytes int64    `json:"bytes"` // of keys and values
}

// Digest reads the whole snapshot at no more than rate bytes per second (0 = as fast as it can). It ends early with ctx.
func (sn *Snapshot) Digest(ctx context.Context, rate int64) (Digest, error) {
	if sn.sn == nil {
		return Digest{}, fmt.Errorf("digest: %w", ErrClosed)
	}
	d := newDigester(ctx, rate, sn.busy)
	if err := walkRows(sn.sn, d.add); err != nil {
		return Digest{}, fmt.Errorf("digest at %s: %w", sn.pos, err)
	}
	return d.sum(sn.pos), nil
}

// walkRows calls fn for each row in order, until it returns an error.
func walkRows(r pebble.Reader, fn func(key, value []byte) error) error {
	return walkBounded(r, nil, fn)
}

// walkBounded is walkRows within bounds.
func walkBounded(r pebble.Reader, o *pebble.IterOptions, fn func(key, value []byte) error) error {
	it, err := r.NewIter(o)
	if err != nil {
		return readError("walk rows", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = fn(it.Key(), v)
		} else {
			err = readError("walk rows", err)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return readError("walk rows", err)
	}
	return nil
}

// digester hashes rows and keeps to a rate.
type digester struct {
	ctx   context.Context
	rate  int64
	start time.Time
	check int64       // bytes at which the context and the rate are looked at next
	busy  func() bool // others want the processor; nil: nobody does
	woke  time.Time   // when the present step began
	hash  *xxhash.Digest
	rows  int64
	bytes int64
	num   [binary.MaxVarintLen64]byte
}

// digestStep is how many bytes pass between two looks at the context and the rate.
const digestStep = 64 << 10

func newDigester(ctx context.Context, rate int64, busy func() bool) *digester {
	now := time.Now()
	return &digester{ctx: ctx, rate: rate, start: now, woke: now, busy: busy, hash: xxhash.New()}
}

func (d *digester) add(key, value []byte) error {
	if string(key) == positionRow {
		return nil
	}
	d.write(key)
	d.write(value)
	d.rows++
	d.bytes += int64(len(key) + len(value))
	if d.bytes < d.check {
		return nil
	}
	d.check = d.bytes + digestStep
	return d.pause()
}

// write hashes a string so that no two rows run into each other. Writing to a hash cannot fail.
func (d *digester) write(b []byte) {
	_, _ = d.hash.Write(d.num[:binary.PutUvarint(d.num[:], uint64(len(b)))])
	_, _ = d.hash.Write(b)
}

func (d *digester) pause() error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	var wait time.Duration
	switch {
	case d.rate > 0:
		due := time.Duration(float64(d.bytes) / float64(d.rate) * float64(time.Second))
		wait = due - time.Since(d.start)
	case d.busy != nil && d.busy():
		wait = yieldFor(time.Since(d.woke))
	}
	if wait <= 0 {
		d.woke = time.Now()
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		d.woke = time.Now()
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// yieldFor is how long to leave the processor to others after a step that took so long.
func yieldFor(worked time.Duration) time.Duration {
	return min((yieldShare-1)*worked, floorStep-min(worked, floorStep))
}

// floorStep is what a step and the wait behind it take at YieldFloor.
const floorStep = digestStep * time.Second / YieldFloor

func (d *digester) sum(pos wal.Position) Digest {
	return Digest{Position: pos, Hash: wal.Hash(d.hash.Sum64()), Rows: d.rows, Bytes: d.bytes}
}
