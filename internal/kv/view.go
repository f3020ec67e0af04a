package kv

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// ReadView reads committed, applied state. Each read sees the newest state unless the view is pinned. It is for one
// goroutine at a time and must be closed, once; views are pooled.
type ReadView struct {
	s     *Store
	err   error // why the view cannot read
	now   time.Time
	nowMs int64
	snap  *pebble.Snapshot
	open  bool
	key   []byte // the row key of the current read
	value []byte // what Get has returned last
}

// View returns a view at time now. It costs no snapshot. On a closed or failed store its methods return the reason.
func (s *Store) View(now time.Time) *ReadView {
	v := s.views.Get().(*ReadView)
	v.now, v.nowMs = now, now.UnixMilli()
	v.err = s.enter()
	v.open = true
	return v
}

// Pin makes all that follows see one state: for commands that read several keys. It costs a Pebble snapshot.
func (v *ReadView) Pin() error {
	if v.err != nil || v.snap != nil {
		return v.err
	}
	v.snap = v.s.db.NewSnapshot()
	return nil
}

func (v *ReadView) reader() pebble.Reader {
	if v.snap != nil {
		return v.snap
	}
	return v.s.db
}

// Now implements View.
func (v *ReadView) Now() time.Time { return v.now }

// Get implements View.
func (v *ReadView) Get(key []byte) (Entry, bool, error) {
	e, closer, err := v.lookup(key)
	if closer == nil {
		return Entry{}, false, err
	}
	if e.expired(v.nowMs) {
		return Entry{}, false, closeRead(closer)
	}
	v.value = append(v.value[:0], e.Value...)
	e.Value = v.value[:len(v.value):len(v.value)]
	return e, true, closeRead(closer)
}

// Exists implements View.
func (v *ReadView) Exists(key []byte) (bool, error) {
	e, closer, err := v.lookup(key)
	if closer == nil {
		return false, err
	}
	return !e.expired(v.nowMs), closeRead(closer)
}

// lookup returns a nil closer when there is nothing to return; otherwise the entry is valid until it is closed.
func (v *ReadView) lookup(key []byte) (Entry, io.Closer, error) {
	if v.err != nil {
		return Entry{}, nil, v.err
	}
	v.key = appendKeyRow(v.key[:0], key)
	return getMeta(v.reader(), v.key)
}

// getMeta reads a meta row; the closer is nil when there is none.
func getMeta(r pebble.Reader, row []byte) (Entry, io.Closer, error) {
	b, closer, err := r.Get(row)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return Entry{}, nil, nil
		}
		return Entry{}, nil, readError("read key", err)
	}
	e, err := decodeMeta(b)
	if err != nil {
		return Entry{}, nil, errors.Join(fmt.Errorf("read key %q: %w", row[1:], err), closer.Close())
	}
	return e, closer, nil
}

func closeRead(c io.Closer) error {
	if err := c.Close(); err != nil {
		return readError("read key", err)
	}
	return nil
}

// Len implements View.
func (v *ReadView) Len() (int64, error) {
	if v.err != nil {
		return 0, v.err
	}
	if v.snap == nil {
		return v.s.keys.Load(), nil
	}
	_, keys, err := readSystem(v.snap)
	return keys, err
}

// Iter implements View. It sees one state, pinned or not.
func (v *ReadView) Iter(o RangeOptions) (Iterator, error) {
	if v.err != nil {
		return nil, v.err
	}
	return newBaseIter(v.s, v.reader(), o, v.nowMs)
}

// Close returns the view to its pool. It must be called exactly once: afterwards the view is another reader's.
func (v *ReadView) Close() error {
	if !v.open {
		return nil
	}
	v.open = false
	var err error
	if v.snap != nil {
		err = v.snap.Close()
		v.snap = nil
	}
	if v.err == nil {
		v.s.gate.leave()
	}
	v.err = ErrClosed
	if cap(v.value) > keepValue {
		v.value = nil
	}
	v.s.views.Put(v)
	return err
}

// keepValue is the largest value buffer that waits in a pool.
const keepValue = 1 << 20
