package server

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"sync"
)

// cursors turns positions of SCAN into numbers. A position is the next key to look at, of any length, and a cursor is a
// number below 2^53, because some clients keep it in a floating-point number. So the server remembers the latest positions:
//
//	bit 52      37 36                14 13         0
//	+-------------+--------------------+------------+
//	| first two   | random, not zero   | slot in    |
//	| bytes of key|                    | the table  |
//	+-------------+--------------------+------------+
//
// A cursor that is no longer remembered (16384 later ones were given out, the server restarted, another node answers)
// resumes at the first two bytes of its key: the scan then sees some keys again and misses none, which is what SCAN
// promises: a key that exists during the whole scan is returned at least once.
type cursors struct {
	mu struct {
		sync.Mutex
		slots []position
		next  int
	}
}

type position struct {
	cursor uint64
	key    []byte
}

const (
	cursorSlots  = 1 << 14
	slotBits     = 14
	randomBits   = 23
	maxCursorKey = 4 << 10 // longer keys are remembered by their beginning: seen again, not missed
)

// remember returns a cursor for the position before key.
func (t *cursors) remember(key []byte) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.slots == nil {
		t.mu.slots = make([]position, cursorSlots)
	}
	slot := t.mu.next
	t.mu.next = (slot + 1) % cursorSlots
	random := 1 + rand.Uint64N(1<<randomBits-1)
	cursor := word(key)>>48<<(randomBits+slotBits) | random<<slotBits | uint64(slot)
	t.mu.slots[slot] = position{cursor, bytes.Clone(key[:min(len(key), maxCursorKey)])}
	return cursor
}

// position is where a cursor resumes; nil is the beginning.
func (t *cursors) position(cursor uint64) []byte {
	if cursor == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot := cursor % cursorSlots; t.mu.slots != nil && t.mu.slots[slot].cursor == cursor {
		return t.mu.slots[slot].key
	}
	prefix := cursor >> (randomBits + slotBits)
	return bytes.TrimRight([]byte{byte(prefix >> 8), byte(prefix)}, "\x00")
}

// parseCursor reads a number as strtoul does: a sign may stand before it, and nothing at all is 0.
func parseCursor(b []byte) (uint64, bool) {
	digits := b
	if len(b) > 1 && (b[0] == '-' || b[0] == '+') {
		digits = b[1:]
	}
	if len(b) == 0 {
		return 0, true
	}
	if digits[0] == '-' || digits[0] == '+' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(digits), 10, 64)
	if b[0] == '-' {
		v = -v
	}
	return v, err == nil
}
