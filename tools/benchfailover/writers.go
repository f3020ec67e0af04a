package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	writerCount = 16
	ringKeys    = 2048                   // of each writer; a write replaces the one that many before
	opTimeout   = 100 * time.Millisecond // after which a writer tries another node
	avoidFor    = 2 * time.Second        // a node that did not answer
)

// conn writes and reads on one node.
type conn interface {
	set(key string, n int) error
	get(keys []string) ([]int, error) // 0 for a key that is not there
	close()
}

// writers write without pause, until told to rest.
type writers struct {
	dial func(node int) (conn, error)
	home []int // nodes that take writes: the writers live on their hosts, in turn, and try no others
	all  []*writer
	stop atomic.Bool
	rest sync.RWMutex // held for reading during a write; for writing while the writers rest
	wg   sync.WaitGroup

	mu struct {
		sync.Mutex
		last   time.Time // the newest ack
		gap    time.Duration
		gapAt  time.Time // when the longest gap began
		acked  int
		errors int
		kinds  map[string]int
	}
}

type writer struct {
	id    int
	at    int // of home: where it writes now
	conns [machineCount]conn
	avoid [machineCount]time.Time
	next  int
	acked [ringKeys]int // newest acked value of each ring key, 0 for none
}

func startWriters(dial func(node int) (conn, error), home []int) *writers {
	w := &writers{dial: dial, home: home}
	w.mu.kinds = map[string]int{}
	for i := range writerCount {
		x := &writer{id: i, at: i % len(home)}
		w.all = append(w.all, x)
		w.wg.Go(func() { w.run(x) })
	}
	return w
}

func (w *writers) run(x *writer) {
	defer func() {
		for _, c := range x.conns {
			if c != nil {
				c.close()
			}
		}
	}()
	for !w.stop.Load() {
		w.rest.RLock()
		err := w.once(x)
		w.rest.RUnlock()
		if err != nil {
			w.failed(err)
			time.Sleep(time.Millisecond)
		}
	}
}

func (w *writers) once(x *writer) error {
	if time.Now().Before(x.avoid[w.home[x.at]]) {
		w.moveOn(x)
	}
	n := w.home[x.at]
	if x.conns[n] == nil {
		c, err := w.dial(n)
		if err != nil {
			w.moveOn(x)
			return err
		}
		x.conns[n] = c
	}
	x.next++
	slot := x.next % ringKeys
	began := time.Now()
	err := x.conns[n].set(ringKey(x.id, slot), x.next)
	if err != nil {
		var refused *refusal
		if asRefusal(err, &refused) {
			if !strings.HasPrefix(refused.text, "UNKNOWN") { // a node that says so is well, however long that took, and takes or forwards the next write
				w.moveOn(x)
			}
			return err
		}
		x.conns[n].close()
		x.conns[n] = nil
		if time.Since(began) >= opTimeout {
			x.avoid[n] = time.Now().Add(avoidFor)
		}
		w.moveOn(x)
		return err
	}
	x.acked[slot] = x.next
	w.ack()
	return nil
}

// moveOn has the next write go to the next node.
func (w *writers) moveOn(x *writer) { x.at = (x.at + 1) % len(w.home) }

func ringKey(writer, slot int) string { return fmt.Sprintf("w%02d:%04d", writer, slot) }

func (w *writers) ack() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := now.Sub(w.mu.last); g > w.mu.gap && !w.mu.last.IsZero() {
		w.mu.gap, w.mu.gapAt = g, w.mu.last
	}
	w.mu.last = now
	w.mu.acked++
}

func (w *writers) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.errors++
	text := err.Error()
	if len(text) > 60 {
		text = text[:60]
	}
	w.mu.kinds[text]++
}

// seen is how often each error was seen since the last call.
func (w *writers) seen() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	kinds := w.mu.kinds
	w.mu.kinds = map[string]int{}
	return kinds
}

// begin forgets what was measured before, and sends every writer home.
func (w *writers) begin() {
	w.rest.Lock()
	for _, x := range w.all {
		x.at, x.avoid = x.id%len(w.home), [machineCount]time.Time{}
	}
	w.rest.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.gap, w.mu.errors, w.mu.last = 0, 0, time.Time{}
}

// measured returns the longest gap since begin, the present one counted, how many acks there were in all, and the errors since begin.
func (w *writers) measured() (gap time.Duration, acked, errors int, last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.gap, w.mu.acked, w.mu.errors, w.mu.last
}

// when tells when the longest gap since begin was, in the words of the nodes' logs.
func (w *writers) when() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	const clock = "15:04:05.000"
	return fmt.Sprintf("no ack from %s to %s", w.mu.gapAt.UTC().Format(clock), w.mu.gapAt.Add(w.mu.gap).UTC().Format(clock))
}

// checkAtOnce is how many keys are read back in one go.
const checkAtOnce = 128

// check has the writers rest and counts acked writes that the node does not have.
func (w *writers) check(node int) (lost int, err error) {
	w.rest.Lock()
	defer w.rest.Unlock()
	c, err := w.dial(node)
	if err != nil {
		return 0, err
	}
	defer func() { c.close() }()
	for _, x := range w.all {
		var keys []string
		var acked []int
		for slot, n := range x.acked {
			if n != 0 {
				keys, acked = append(keys, ringKey(x.id, slot)), append(acked, n)
			}
		}
		for len(keys) > 0 {
			some := keys[:min(len(keys), checkAtOnce)]
			var have []int
			err := until(settleLimit, func() (err error) { // a busy machine may take longer than a writer waits
				if have, err = c.get(some); err != nil {
					c.close()
					if again, e := w.dial(node); e == nil {
						c = again
					}
				}
				return err
			})
			if err != nil {
				return lost, fmt.Errorf("read back: %w", err)
			}
			for i := range have {
				if have[i] < acked[i] {
					lost++
				}
			}
			keys, acked = keys[len(some):], acked[len(some):]
		}
		clear(x.acked[:]) // the next round checks its own
	}
	return lost, nil
}

func (w *writers) end() {
	w.stop.Store(true)
	w.wg.Wait()
}
