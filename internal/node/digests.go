package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"repld/internal/admin"
	"repld/internal/kv"
)

// digests computes the digest of the state at each mark of the log, in the background, and keeps the latest. Every node applies the same
// marks at the same position, so the answers of all nodes can be compared (design decision 10).
type digests struct {
	node   string
	rate   int64 // bytes per second, 0 = unlimited
	logger *slog.Logger

	work chan kv.Mark
	stop chan struct{} // capacity 1: give up the digest that is going on

	mu struct {
		sync.Mutex
		order   []string
		results map[string]admin.NodeDigest
		changed chan struct{} // closed and replaced with each result
	}
}

// keptDigests bounds what is remembered; a mark that finds the queue full is answered with an error, never waited for.
const keptDigests = 16

func newDigests(node string, rate int64, logger *slog.Logger) *digests {
	d := &digests{node: node, rate: rate, logger: logger, work: make(chan kv.Mark, keptDigests), stop: make(chan struct{}, 1)}
	d.mu.results = make(map[string]admin.NodeDigest)
	d.mu.changed = make(chan struct{})
	return d
}

// marked is kv's OnMark: it must not block the applier.
func (d *digests) marked(m kv.Mark) {
	select {
	case d.work <- m:
	default:
		d.giveUp(m, "too many digests are waiting")
	}
}

// run digests until ctx ends; then it closes the snapshots that are left.
func (d *digests) run(ctx context.Context) error {
	for {
		select {
		case m := <-d.work:
			d.digest(ctx, m)
		case <-ctx.Done():
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

// cancel gives up what waits and what is going on: the state is about to be replaced.
func (d *digests) cancel() {
	for {
		select {
		case m := <-d.work:
			d.giveUp(m, "the state is being replaced by a snapshot")
			continue
		case d.stop <- struct{}{}:
		default:
		}
		return
	}
}

func (d *digests) giveUp(m kv.Mark, why string) {
	_ = m.Snapshot.Close() // nothing was read
	d.keep(m.ID, admin.NodeDigest{Node: d.node, Position: m.Position, Error: why})
}

func (d *digests) digest(ctx context.Context, m kv.Mark) {
	defer m.Snapshot.Close()
	select {
	case <-d.stop: // of an earlier install
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching := make(chan struct{})
	defer close(watching)
	go func() {
		select {
		case <-d.stop:
			cancel()
		case <-watching:
		}
	}()
	r := admin.NodeDigest{Node: d.node, Position: m.Position}
	sum, err := m.Snapshot.Digest(ctx, d.rate)
	if err != nil {
		r.Error = fmt.Sprintf("digest state: %v", err)
		d.logger.Error("state digest failed", "mark", m.ID, "position", m.Position, "error", err)
	} else {
		r.Digest, r.Rows, r.Bytes = sum.Hash, uint64(sum.Rows), uint64(sum.Bytes)
		d.logger.Info("state digest", "mark", m.ID, "position", m.Position, "digest", sum.Hash, "rows", sum.Rows)
	}
	d.keep(m.ID, r)
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
