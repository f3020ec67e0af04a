package server

import (
	"sync"
	"sync/atomic"
)

// Watcher is one session's set of watched keys. It becomes dirty when an evaluation touches one of them, and stays so
// until the session starts a new one.
type Watcher struct {
	dirty atomic.Bool
	// existing is set by the session, under the sequencer lock and before Watch, when one of the keys exists: only then
	// can deleting everything touch it (a key that came into being later made the watcher dirty already).
	existing atomic.Bool
	keys     []string // owned by Watches, under its lock
}

// Dirty reports whether a watched key was touched.
func (w *Watcher) Dirty() bool { return w.dirty.Load() }

// Expect makes w dirty also when everything is deleted, as if one of its keys existed. Called before Watch.
func (w *Watcher) Expect() { w.existing.Store(true) }

// Watches is the table of watched keys of one group, for Backends: Sequence.Watch calls Add, Backend.Unwatch calls Remove,
// and kv.Sequencer.Touched is given Touch. It has its own lock, which is the innermost one.
type Watches struct {
	any atomic.Int64 // watchers; lets Touch return at once when nobody watches
	mu  struct {
		sync.Mutex
		keys map[string]map[*Watcher]struct{}
		all  map[*Watcher]struct{}
	}
}

// Add makes w dirty once one of keys is touched. The caller holds the sequencer lock, so that it is ordered with writes.
func (t *Watches) Add(keys [][]byte, w *Watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.keys == nil {
		t.mu.keys = make(map[string]map[*Watcher]struct{})
		t.mu.all = make(map[*Watcher]struct{})
	}
	for _, k := range keys {
		set := t.mu.keys[string(k)]
		if set == nil {
			set = make(map[*Watcher]struct{}, 1)
			t.mu.keys[string(k)] = set
		}
		if _, again := set[w]; again {
			continue
		}
		set[w] = struct{}{}
		w.keys = append(w.keys, string(k))
	}
	t.mu.all[w] = struct{}{}
	t.any.Store(int64(len(t.mu.all)))
}

// Remove forgets w. It may be called for a watcher that was never added, and more than once.
func (t *Watches) Remove(w *Watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range w.keys {
		set := t.mu.keys[k]
		delete(set, w)
		if len(set) == 0 {
			delete(t.mu.keys, k)
		}
	}
	w.keys = nil
	delete(t.mu.all, w)
	t.any.Store(int64(len(t.mu.all)))
}

// Invalidate makes every watcher dirty: the node stops being active, and what others write meanwhile is not seen here.
func (t *Watches) Invalidate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.mu.all {
		w.dirty.Store(true)
	}
}

// Touch makes the watchers of key dirty; with all, those of every key that existed.
func (t *Watches) Touch(key []byte, all bool) {
	if t.any.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if all {
		for w := range t.mu.all {
			if w.existing.Load() {
				w.dirty.Store(true)
			}
		}
		return
	}
	for w := range t.mu.keys[string(key)] {
		w.dirty.Store(true)
	}
}
