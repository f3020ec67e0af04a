package sim

import (
	"context"
	"errors"
	"sync"
	"time"

	"repld/failover"
)

// tokens is a token store that all nodes share, somewhere in the network.
type tokens struct {
	mu     sync.Mutex
	record failover.Record
	cut    map[string]int // nodes that do not reach it, by how many faults
}

// reach is one node's way to the shared store. A call that is cut off on its way back has an unknown outcome.
type reach struct {
	*tokens
	node string
	net  *network
}

var _ failover.Store = reach{}

var errUnreachable = errors.New("token store does not answer")

// way waits for the time of one direction and fails if that is cut.
func (r reach) way(ctx context.Context) error {
	t := time.NewTimer(r.net.late(r.node, "store"))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.mu.Lock()
	cut := r.cut[r.node] > 0
	r.mu.Unlock()
	if !cut {
		return nil
	}
	<-ctx.Done()
	return errors.Join(errUnreachable, context.Cause(ctx))
}

func (r reach) call(ctx context.Context, act func() error) (failover.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := r.way(ctx); err != nil {
		return failover.Record{}, err
	}
	r.mu.Lock()
	err := act()
	rec := r.record
	r.mu.Unlock()
	if lost := r.way(ctx); lost != nil {
		return failover.Record{}, lost
	}
	return rec, err
}

// Load implements failover.Store.
func (r reach) Load(ctx context.Context) (failover.Record, error) {
	return r.call(ctx, func() error { return nil })
}

// CompareAndSet implements failover.Store.
func (r reach) CompareAndSet(ctx context.Context, rev uint64, next failover.Record) (failover.Record, error) {
	return r.call(ctx, func() error {
		set, err := failover.Advance(r.record, rev, next)
		if err == nil {
			r.record = set
		}
		return err
	})
}

// Watch implements failover.Store.
func (r reach) Watch(ctx context.Context, after uint64) (failover.Record, error) {
	for {
		rec, err := r.Load(ctx)
		if err != nil || rec.Rev > after {
			return rec, err
		}
		t := time.NewTimer(500 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return failover.Record{}, ctx.Err()
		}
	}
}

// Shared implements failover.Store.
func (r reach) Shared() bool { return true }

func (t *tokens) reachable(node string, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if on {
		t.cut[node]--
	} else {
		t.cut[node]++
	}
}
