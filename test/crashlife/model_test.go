package crashlife

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"repld/wal"
)

// model is what a life promised, and when: all that a crash at some operation must not take away.
type model struct {
	now func() int // index of the next operation of any disk

	mu    sync.Mutex
	sent  map[string][]moment // versions of a key, as sent
	acked map[string][]moment // as acked
	seen  map[string][]moment // epochs of a node
}

// moment: v was so from before operation at.
type moment struct{ at, v int }

func newModel(now func() int) *model {
	return &model{now: now, sent: map[string][]moment{}, acked: map[string][]moment{}, seen: map[string][]moment{}}
}

const keys = 24

func keyName(i int) string { return fmt.Sprintf("key-%02d", i) }

// valueOf is what version v of a key is. It does not compress.
func valueOf(key string, v int) string {
	rng := rand.New(rand.NewPCG(uint64(v), uint64(key[len(key)-1])))
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%d/", key, v)
	for range 300 + rng.IntN(900) {
		b.WriteByte(byte(33 + rng.IntN(90)))
	}
	return b.String()
}

// next notes that a new version of the key is sent.
func (m *model) next(key string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := len(m.sent[key]) + 1
	m.sent[key] = append(m.sent[key], moment{m.now(), v})
	return v
}

func (m *model) ack(key string, v int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked[key] = append(m.acked[key], moment{m.now(), v})
}

func (m *model) epoch(node string, e wal.Epoch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[node] = append(m.seen[node], moment{m.now(), int(e)})
}

// before returns the highest value of those that were so before operation n began.
func before(all []moment, n int) (v int) {
	for _, m := range all {
		if m.at <= n {
			v = max(v, m.v)
		}
	}
	return v
}

// check compares what is found after a crash at operation n: each key has a version that was sent, and at least the one that was acked (R1).
func (m *model) check(n int, found []string) error {
	if len(found) != keys {
		return fmt.Errorf("%d values for %d keys", len(found), keys)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, value := range found {
		key := keyName(i)
		low, high := before(m.acked[key], n), before(m.sent[key], n)
		v := 0
		if value != "" {
			if _, err := fmt.Sscanf(value, key+"/%d/", &v); err != nil || value != valueOf(key, v) {
				return fmt.Errorf("%s has a value that nobody wrote: %.40q", key, value)
			}
		}
		if v < low || v > high {
			return fmt.Errorf("%s has version %d: version %d was acked, %d sent", key, v, low, high)
		}
	}
	return nil
}

// promised is the epoch that the node had persisted before operation n (R3).
func (m *model) promised(node string, n int) wal.Epoch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return wal.Epoch(before(m.seen[node], n))
}
