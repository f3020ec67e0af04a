package kv

import (
	"hash/maphash"
	"math/bits"
)

// recent remembers of recently used keys what a write has to know about them: whether they are there, and when they expire. Without it every SET
// looks its key up in Pebble's memtables, which costs several cache misses a level; with it, most do one.
//
// It says what a key holds after the newest record that was evaluated, so only the Sequencer may use it, and only for keys that are not in the overlay. Keys are
// known by two seeded 64-bit hashes, one for the place and one kept: that two keys meet in both is less likely than an undetected error of the memory.
type recent struct {
	place, tag maphash.Seed
	buckets    []recentBucket
}

// recentBucket is one cache line; the newest entry is the first.
type recentBucket [4]recentEntry

// recentEntry is empty if meta is 0.
type recentEntry struct {
	tag  uint64
	meta uint64 // 0, or expiry in unix milliseconds << 2 | presence << 1 | 1
}

const recentBucketBytes = 64

// maxRecentExpiry is the latest expiry that fits into an entry.
const maxRecentExpiry = 1<<61 - 1

// newRecent takes at most limit bytes, of which only what is used is resident.
func newRecent(limit int64) recent {
	n := max(limit/recentBucketBytes, 1)
	return recent{place: maphash.MakeSeed(), tag: maphash.MakeSeed(), buckets: make([]recentBucket, n)}
}

// bucket returns the bucket of a key, and its tag.
func (r *recent) bucket(key []byte) (*recentBucket, uint64) {
	at, _ := bits.Mul64(maphash.Bytes(r.place, key), uint64(len(r.buckets)))
	return &r.buckets[at], maphash.Bytes(r.tag, key)
}

// get returns what is known of key. known is false for a key that was not used recently.
func (r *recent) get(key []byte) (present bool, expireAt int64, known bool) {
	b, tag := r.bucket(key)
	for i := range b {
		if e := &b[i]; e.tag == tag && e.meta != 0 {
			return e.meta&2 != 0, int64(e.meta >> 2), true
		}
	}
	return false, 0, false
}

// put notes what key holds from now on.
func (r *recent) put(key []byte, present bool, expireAt int64) {
	b, tag := r.bucket(key)
	e := recentEntry{tag: tag, meta: uint64(expireAt)<<2 | 1}
	if present {
		e.meta |= 2
	}
	if expireAt > maxRecentExpiry {
		e.meta = 0 // unknown, which is never wrong
	}
	at := len(b) - 1 // the oldest makes room
	for i := range b {
		if b[i].tag == tag {
			at = i
			break
		}
	}
	copy(b[1:at+1], b[:at])
	b[0] = e
}

// forget forgets every key.
func (r *recent) forget() { clear(r.buckets) }
