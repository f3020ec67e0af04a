package kv

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// baseIter walks the meta rows of Pebble.
type baseIter struct {
	s       *Store
	it      *pebble.Iterator // nil: nothing to walk
	reverse bool
	started bool
	now     int64 // hides what has expired; 0 hides nothing
	entry   Entry
	err     error
}

// bounds returns the Pebble bounds of a range of user keys; ok is false when it is empty.
func (o RangeOptions) bounds() (lower, upper []byte, ok bool) {
	lower = appendKeyRow(nil, o.Lower)
	upper = []byte{byte(RowCollection)}
	if o.Upper != nil {
		upper = appendKeyRow(nil, o.Upper)
	}
	return lower, upper, bytes.Compare(lower, upper) < 0
}

// newBaseIter holds the store open until the iterator is closed.
func newBaseIter(s *Store, r pebble.Reader, o RangeOptions, now int64) (*baseIter, error) {
	b := &baseIter{s: s, reverse: o.Reverse, now: now}
	lower, upper, ok := o.bounds()
	if !ok {
		return b, nil
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		s.gate.leave()
		return nil, readError("walk keys", err)
	}
	b.it = it
	return b, nil
}

// Next implements Iterator.
func (b *baseIter) Next() bool {
	if b.it == nil || b.err != nil {
		return false
	}
	for b.step() {
		v, err := b.it.ValueAndErr()
		if err != nil {
			b.err = readError("walk keys", err)
			return false
		}
		if b.entry, err = decodeMeta(v); err != nil {
			b.err = fmt.Errorf("walk keys at %q: %w", b.Key(), err)
			return false
		}
		if b.now == 0 || !b.entry.expired(b.now) {
			return true
		}
	}
	if err := b.it.Error(); err != nil {
		b.err = readError("walk keys", err)
	}
	return false
}

func (b *baseIter) step() bool {
	first := !b.started
	b.started = true
	switch {
	case first && b.reverse:
		return b.it.Last()
	case first:
		return b.it.First()
	case b.reverse:
		return b.it.Prev()
	}
	return b.it.Next()
}

// Key implements Iterator.
func (b *baseIter) Key() []byte { return b.it.Key()[1:] }

// Entry implements Iterator.
func (b *baseIter) Entry() Entry { return b.entry }

// Err implements Iterator.
func (b *baseIter) Err() error { return b.err }

// Close implements Iterator.
func (b *baseIter) Close() error {
	if b.it == nil {
		return nil
	}
	err := b.it.Close()
	b.it = nil
	b.s.gate.leave()
	if b.err != nil {
		return b.err
	}
	if err != nil {
		return readError("walk keys", err)
	}
	return nil
}

// shadow is a key whose value in Pebble is not the newest.
type shadow struct {
	key     []byte
	entry   Entry
	deleted bool
}

// mergeIter walks Pebble with shadows laid over it; shadows are sorted in the direction of the walk.
type mergeIter struct {
	base    *baseIter // hides nothing, because a shadow may hide or revive; nil after a Clear
	shadows []shadow
	cmp     func(a, b []byte) int
	now     int64
	primed  bool
	more    bool // base stands on a key not yet returned
	key     []byte
	entry   Entry
}

// Next implements Iterator.
func (m *mergeIter) Next() bool {
	for m.advance() {
		if !m.entry.expired(m.now) {
			return true
		}
	}
	return false
}

// advance takes the next key from either side; of equal keys the shadow wins.
func (m *mergeIter) advance() bool {
	for {
		if !m.primed && m.base != nil {
			m.more = m.base.Next()
		}
		m.primed = true
		if m.base != nil && m.base.err != nil {
			return false
		}
		if len(m.shadows) == 0 && !m.more {
			return false
		}
		if len(m.shadows) == 0 || m.more && m.cmp(m.base.Key(), m.shadows[0].key) < 0 {
			m.key, m.entry = m.base.Key(), m.base.Entry()
			m.primed = false // moves only on the next call, so that key and entry stay valid
			return true
		}
		s := m.shadows[0]
		m.shadows = m.shadows[1:]
		if m.more && bytes.Equal(m.base.Key(), s.key) {
			m.primed = false
		}
		if !s.deleted {
			m.key, m.entry = s.key, s.entry
			return true
		}
	}
}

// Key implements Iterator.
func (m *mergeIter) Key() []byte { return m.key }

// Entry implements Iterator.
func (m *mergeIter) Entry() Entry { return m.entry }

// Err implements Iterator.
func (m *mergeIter) Err() error {
	if m.base == nil {
		return nil
	}
	return m.base.Err()
}

// Close implements Iterator.
func (m *mergeIter) Close() error {
	if m.base == nil {
		return nil
	}
	return m.base.Close()
}
