package kv

import (
	"errors"
	"fmt"
)

// Set makes key hold a string, to expire at expireAt (unix milliseconds, 0 = never). ErrTooLarge above the limits.
func (t *Txn) Set(key, value []byte, expireAt int64) error {
	if err := t.checkSizes(key, value, expireAt); err != nil {
		return err
	}
	present, was, err := t.peek(key)
	if err != nil {
		return err
	}
	if present && was != 0 && was != expireAt {
		t.payload.deleteExpiry(was, key)
	}
	k, v := t.payload.setKey(key, value, expireAt)
	if expireAt != 0 && (!present || was != expireAt) {
		t.payload.setExpiry(expireAt, k)
	}
	if !present {
		t.count++
	}
	t.change(change{key: k, entry: Entry{Type: TypeString, Value: v, ExpireAt: expireAt}})
	return nil
}

func (t *Txn) checkSizes(key, value []byte, expireAt int64) error {
	switch {
	case t.err != nil:
		return t.err
	case len(key) > MaxKeyBytes:
		return t.fail(fmt.Errorf("key of %d bytes: %w: limit %d", len(key), ErrTooLarge, MaxKeyBytes))
	case len(value) > MaxValueBytes:
		return t.fail(fmt.Errorf("value of %d bytes: %w: limit %d", len(value), ErrTooLarge, MaxValueBytes))
	case expireAt < 0:
		return t.fail(errors.New("expiry is before 1970"))
	}
	return nil
}

// Delete removes key. existed is false for a key that had expired, which is removed all the same.
func (t *Txn) Delete(key []byte) (existed bool, err error) {
	present, expireAt, err := t.peek(key)
	if err != nil || !present {
		return false, err
	}
	t.remove(key, expireAt)
	return !expiredAt(expireAt, t.nowMs), nil
}

// DeleteExpired removes key if it has expired at Now and has not been removed yet, and reports whether it did.
func (t *Txn) DeleteExpired(key []byte) (bool, error) {
	present, expireAt, err := t.peek(key)
	if err != nil || !present || !expiredAt(expireAt, t.nowMs) {
		return false, err
	}
	t.remove(key, expireAt)
	return true, nil
}

func (t *Txn) remove(key []byte, expireAt int64) {
	k := t.payload.deleteKey(key)
	if expireAt != 0 {
		t.payload.deleteExpiry(expireAt, k)
	}
	t.count--
	t.change(change{key: k, deleted: true})
}

// SetExpire changes when key expires (0 = never) and reports whether there is such a key.
func (t *Txn) SetExpire(key []byte, expireAt int64) (bool, error) {
	e, ok, err := t.Get(key)
	if err != nil || !ok {
		return false, err
	}
	if e.ExpireAt == expireAt {
		return true, nil
	}
	return true, t.Set(key, e.Value, expireAt)
}

// Clear removes every key (FLUSHALL), by one range delete.
func (t *Txn) Clear() error {
	if t.err != nil {
		return t.err
	}
	if t.count == 0 && t.payload.n == 0 {
		return nil
	}
	t.payload.clear()
	t.count, t.cleared = 0, true
	t.changes = t.changes[:0]
	clear(t.index)
	return nil
}

// change notes the newest of a key's changes.
func (t *Txn) change(c change) {
	if i, ok := t.own(c.key); ok {
		t.changes[i] = c
		return
	}
	t.changes = append(t.changes, c)
	switch n := len(t.changes); {
	case n == indexFrom:
		if t.index == nil {
			t.index = make(map[string]int)
		}
		for i := range t.changes {
			t.index[string(t.changes[i].key)] = i
		}
	case n > indexFrom:
		t.index[string(c.key)] = n - 1
	}
}
