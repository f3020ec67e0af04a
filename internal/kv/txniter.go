package kv

import (
	"bytes"
	"slices"
)

// Iter implements View. It costs time in proportion to the effects in flight. What the Txn writes after the call is not
// seen; the iterator must be closed before Commit or Abort.
func (t *Txn) Iter(o RangeOptions) (Iterator, error) {
	if t.err != nil {
		return nil, t.err
	}
	m := &mergeIter{cmp: bytes.Compare, now: t.nowMs}
	if o.Reverse {
		m.cmp = func(a, b []byte) int { return bytes.Compare(b, a) }
	}
	m.shadows = t.shadows(o)
	slices.SortFunc(m.shadows, func(a, b shadow) int { return m.cmp(a.key, b.key) })
	if t.cleared || t.q.over.cleared != 0 {
		return m, nil
	}
	base, err := newBaseIter(t.q.s, t.q.s.db, o, 0)
	if err != nil {
		return nil, t.fail(err)
	}
	m.base = base
	return m, nil
}

// shadows collects the keys of a range that this record or one in flight has changed.
func (t *Txn) shadows(o RangeOptions) []shadow {
	var list []shadow
	for i := range t.changes {
		c := &t.changes[i]
		if o.contains(c.key) {
			list = append(list, shadow{key: c.key, entry: c.entry, deleted: c.deleted})
		}
	}
	if t.cleared {
		return list
	}
	for key, p := range t.q.over.keys {
		k := []byte(key)
		if _, ok := t.own(k); !ok && o.contains(k) {
			list = append(list, shadow{key: k, entry: p.entry, deleted: p.deleted})
		}
	}
	return list
}

func (o RangeOptions) contains(key []byte) bool {
	return bytes.Compare(key, o.Lower) >= 0 && (o.Upper == nil || bytes.Compare(key, o.Upper) < 0)
}
