package node

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"repld/internal/admin"
	"repld/internal/kv"
)

// digests computes the digest of the state at each mark of the log, in the background, and keeps the latest. Every node applies the same
// marks at the same position, so the answers of all nodes can be compared (design decision 10).
type digests struct {
	node   string
	rate   int64       // bytes per second, 0 = unlimited
	busy   func() bool // clients want the processor; nil: nobody does
	logger *slog.Logger

	work chan waitingMark

	mu struct {
		sync.Mutex
		installs uint64             // calls of cancel
		stop     context.CancelFunc // ends the latest digest, if it is still going on
		order    []string
		results  map[string]admin.NodeDigest
		ranges   map[string]kv.Ranges
		kept     []*keptState
		changed  chan struct{} // closed and replaced with each result
	}
}

// waitingMark is a mark of the state before install number installs+1.
type waitingMark struct {
	kv.Mark
	installs uint64
}

// keptDigests bounds what is remembered, and what waits: a mark that finds the queue full takes the place of the oldest one, which somebody asked for longest ago.
const keptDigests = 16

func newDigests(node string, rate int64, logger *slog.Logger) *digests {
	d := &digests{node: node, rate: rate, logger: logger, work: make(chan waitingMark, keptDigests)}
	d.mu.results, d.mu.ranges = make(map[string]admin.NodeDigest), make(map[string]kv.Ranges)
	d.mu.changed = make(chan struct{})
	return d
}

// marked is kv's OnMark: it must not block the applier.
func (d *digests) marked(m kv.Mark) {
	d.mu.Lock()
	w := waitingMark{m, d.mu.installs}
	d.mu.Unlock()
	for {
		select {
		case d.work <- w:
			return
		default:
		}
		select {
		case oldest := <-d.work:
			d.giveUp(oldest.Mark, "too many digests are waiting")
		default: // just taken
		}
	}
}

// run digests until ctx ends; then it closes the snapshots that are left.
func (d *digests) run(ctx context.Context) error {
	for {
		select {
		case m := <-d.work:
			d.digest(ctx, m)
		case <-ctx.Done():
			d.dropStates()
			for {
				select {
				case m := <-d.work:
					m.Snapshot.Close()
				default:
					return nil
				}
			}
		}
	}
}

// replaced is what a mark is answered with whose state is gone.
const replaced = "the state is being replaced by a snapshot"

// cancel gives up what waits and what is going on: the state is about to be replaced. The caller sees to it that no marks come meanwhile.
func (d *digests) cancel() {
	d.dropStates()
	d.mu.Lock()
	d.mu.installs++
	if d.mu.stop != nil {
		d.mu.stop()
	}
	d.mu.Unlock()
	for {
		select {
		case w := <-d.work:
			d.giveUp(w.Mark, replaced)
		default:
			return
		}
	}
}

// begin notes the digest that is going on, unless its state is being replaced since it was taken from the queue.
func (d *digests) begin(w waitingMark, stop context.CancelFunc) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.installs != d.mu.installs {
		return false
	}
	d.mu.stop = stop
	return true
}

func (d *digests) giveUp(m kv.Mark, why string) {
	_ = m.Snapshot.Close() // nothing was read
	d.keep(m.ID, admin.NodeDigest{Node: d.node, Position: m.Position, Error: why})
}

func (d *digests) digest(ctx context.Context, m waitingMark) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !d.begin(m, cancel) {
		d.giveUp(m.Mark, replaced)
		return
	}
	r := admin.NodeDigest{Node: d.node, Position: m.Position}
	m.Snapshot.YieldTo(d.busy)
	sum, ranges, err := m.Snapshot.DigestRanges(ctx, markRate(m.ID, d.rate))
	if err != nil {
		_ = m.Snapshot.Close() // what was read is of no use
		r.Error = fmt.Sprintf("digest state: %v", err)
		d.logger.Error("state digest failed", "mark", m.ID, "position", m.Position, "error", err)
	} else {
		r.Digest, r.Rows, r.Bytes = sum.Hash, uint64(sum.Rows), uint64(sum.Bytes)
		d.logger.Info("state digest", "mark", m.ID, "position", m.Position, "digest", sum.Hash, "rows", sum.Rows)
		d.keepState(m, ranges)
	}
	d.keep(m.ID, r)
}

// rateSeparator stands between the name of a mark and the bytes a second that its digests may read: a mark's id is all that the log carries of a request. A node that does
// not know of it takes the whole for a name.
const rateSeparator = ";rate="

// markRate is the rate of a mark's digests: its own, but never above the node's.
func markRate(id string, own int64) int64 {
	_, text, _ := strings.Cut(id, rateSeparator)
	rate, err := strconv.ParseInt(text, 10, 64)
	if err != nil || rate <= 0 || (own > 0 && own < rate) {
		return own
	}
	return rate
}

func (d *digests) keep(id string, r admin.NodeDigest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.mu.results[id]; !known {
		d.mu.order = append(d.mu.order, id)
	}
	d.mu.results[id] = r
	for len(d.mu.order) > keptDigests {
		delete(d.mu.results, d.mu.order[0])
		delete(d.mu.ranges, d.mu.order[0])
		d.mu.order = d.mu.order[1:]
	}
	close(d.mu.changed)
	d.mu.changed = make(chan struct{})
}

// wait returns the digest of mark id as soon as it is there; errNoDigest when ctx ends before.
func (d *digests) wait(ctx context.Context, id string) (admin.NodeDigest, error) {
	for {
		d.mu.Lock()
		r, ok := d.mu.results[id]
		changed := d.mu.changed
		d.mu.Unlock()
		if ok {
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return admin.NodeDigest{}, errNoDigest
		}
	}
}
