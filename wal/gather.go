package wal

import "time"

// gathering is what the Writer's goroutine remembers for WriterOptions.Gather.
type gathering struct {
	count  uint32 // records of the newest frame
	misses int    // waits in a row that did not pay
	skip   int    // frames not to wait for
	timer  *time.Timer
}

// maxMisses: at worst one frame of 1 << maxMisses waits in vain.
const maxMisses = 6

// gather waits until as many records are there as the newest frame had, or Gather has passed.
func (w *Writer) gather() {
	if w.o.Gather <= 0 || w.count < 2 {
		return
	}
	if w.skip > 0 {
		w.skip--
		return
	}
	if !w.want(w.count) {
		w.misses = 0
		return
	}
	if w.timer == nil {
		w.timer = time.NewTimer(w.o.Gather)
	} else {
		w.timer.Reset(w.o.Gather)
	}
	defer w.timer.Stop()
	for w.want(w.count) {
		select {
		case <-w.pace:
		case <-w.timer.C:
			w.want(0)
			w.misses = min(w.misses+1, maxMisses)
			w.skip = 1 << w.misses
			return
		}
	}
	w.misses = 0
}

// want asks for a poke of pace once n records wait, 0 for none. It reports whether fewer do and nothing is urgent.
func (w *Writer) want(n uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.want = n
	if len(w.mu.queue) != 1 || w.mu.err != nil || w.mu.queue[0].count >= n {
		w.mu.want = 0
		return false
	}
	return true
}
