package kv

import (
	"time"
)

// Type says what a user key holds.
type Type uint8

const (
	// TypeString is a value of bytes, stored inline in the key's meta row.
	TypeString Type = 1
)

// String returns the name that the Redis command TYPE answers.
func (t Type) String() string {
	if t == TypeString {
		return "string"
	}
	return "none"
}

// Entry is what a user key holds.
type Entry struct {
	Type     Type
	Value    []byte // the string value; its capacity equals its length, so append copies
	ExpireAt int64  // unix milliseconds, 0 = never
}

// expired reports whether the entry is hidden at now (unix milliseconds).
func (e Entry) expired(now int64) bool { return expiredAt(e.ExpireAt, now) }

func expiredAt(expireAt, now int64) bool { return expireAt != 0 && expireAt <= now }

// View is state to read, as of one fixed time: keys whose ExpireAt is not after Now are hidden. It is used by one
// goroutine at a time.
type View interface {
	// Get returns what key holds, false if nothing. Entry.Value is valid until the next call on the View or its Close.
	Get(key []byte) (Entry, bool, error)
	// Exists reports whether key holds anything.
	Exists(key []byte) (bool, error)
	// Iter walks the keys of a range; the iterator sees the view as it is now and must be closed before the view is.
	Iter(o RangeOptions) (Iterator, error)
	// Len is the number of keys, those that have expired but are not yet deleted included. It costs O(1).
	Len() (int64, error)
	// Now is the view's time, fixed for its life.
	Now() time.Time
}

// RangeOptions select user keys in [Lower, Upper), in byte order.
type RangeOptions struct {
	Lower, Upper []byte // nil = open
	Reverse      bool   // from the highest key to the lowest
	KeysOnly     bool   // Entry may come without its Value
}

// Iterator walks user keys; it starts before the first and hides expired keys.
type Iterator interface {
	// Next moves to the next key; false at the end or after an error, which Err tells.
	Next() bool
	// Key is the user key, valid until the next call of Next or Close.
	Key() []byte
	// Entry is what the key holds, valid until the next call of Next or Close.
	Entry() Entry
	// Err is the error that ended the walk, nil at a normal end.
	Err() error
	// Close releases the iterator. It may be called more than once.
	Close() error
}

var (
	_ View = (*Txn)(nil)
	_ View = (*ReadView)(nil)
)
