package node

import (
	"testing"
	"time"
)

// A node is busy while operations come at some rate, and for a moment after; a look after a long time says nothing of now.
func TestBusyness(t *testing.T) {
	t.Parallel()
	var n uint64
	b := &busyness{}
	now := time.Unix(1000, 0)
	look := func(after time.Duration, ops uint64) bool {
		now = now.Add(after)
		n += ops
		return b.at(now, func() uint64 { return n })
	}
	if look(0, 1_000_000) {
		t.Error("busy at the first look")
	}
	if look(100*time.Millisecond, 10) {
		t.Error("busy at 100/s")
	}
	if !look(100*time.Millisecond, 1000) || !look(time.Millisecond, 0) || !look(busyLasts/2, 0) {
		t.Error("not busy at 10,000/s and soon after")
	}
	if look(busyLasts, 1) {
		t.Error("busy after a rest")
	}
	if look(time.Hour, 1_000_000) {
		t.Error("busy because of what was an hour ago")
	}
}
