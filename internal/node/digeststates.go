package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"repld/internal/kv"
)

// keptState is the snapshot of a digested state, kept for a while: when digests differ the states are compared range by range, at the same position (kv.Ranges). Old versions
// of rows stay on the disk until it is let go.
type keptState struct {
	id     string
	sn     *kv.Snapshot
	expire *time.Timer

	// guarded by digests.mu
	users  int
	gone   bool // closed by whoever uses it last
	ctx    context.Context
	cancel context.CancelFunc // of all that read it
}

const (
	keptStates  = 2               // at most
	keepStateOf = 2 * time.Minute // since somebody asked for it last
)

// errStateNotKept says that the snapshot of a mark was let go.
var errStateNotKept = errors.New("the state at that mark is not kept any more")

// keepState takes over the mark's snapshot. One that the state's replacement has made useless is closed.
func (d *digests) keepState(m waitingMark, r kv.Ranges) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.installs != d.mu.installs {
		_ = m.Snapshot.Close() // nothing is read from it any more
		return
	}
	d.mu.ranges[m.ID] = r
	k := &keptState{id: m.ID, sn: m.Snapshot}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	d.mu.kept = append(d.mu.kept, k)
	for len(d.mu.kept) > keptStates {
		d.dropLocked(d.mu.kept[0])
	}
	k.expire = time.AfterFunc(keepStateOf, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dropLocked(k)
	})
}

// dropLocked lets a snapshot go, at the latest when those that read it have ended.
func (d *digests) dropLocked(k *keptState) {
	if k.gone {
		return
	}
	k.gone = true
	k.expire.Stop()
	k.cancel()
	for i, other := range d.mu.kept {
		if other == k {
			d.mu.kept = append(d.mu.kept[:i:i], d.mu.kept[i+1:]...)
			break
		}
	}
	if k.users == 0 {
		_ = k.sn.Close() // it was only read
	}
}

// dropStates lets all snapshots go.
func (d *digests) dropStates() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.mu.kept) > 0 {
		d.dropLocked(d.mu.kept[0])
	}
}

// touch prolongs the life of a mark's snapshot: somebody is still waiting for other nodes.
func (d *digests) touch(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.mu.kept {
		if k.id == id {
			k.expire.Reset(keepStateOf)
		}
	}
}

// use returns the snapshot of a mark, and what is called when it is not read any more.
func (d *digests) use(ctx context.Context, id string) (context.Context, *kv.Snapshot, func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.mu.kept {
		if k.id != id {
			continue
		}
		k.users++
		k.expire.Reset(keepStateOf)
		ctx, cancel := context.WithCancel(ctx)
		unhook := context.AfterFunc(k.ctx, cancel)
		return ctx, k.sn, func() {
			unhook()
			cancel()
			d.mu.Lock()
			defer d.mu.Unlock()
			if k.users--; k.gone && k.users == 0 {
				_ = k.sn.Close() // it was only read
			}
		}, nil
	}
	return nil, nil, nil, errStateNotKept
}

// rangesRequest asks a node for the ranges of its state at a mark: for all of it, or read anew within [From, To).
type rangesRequest struct {
	ID    string `json:"id"`
	Whole bool   `json:"whole,omitempty"`
	From  []byte `json:"from,omitempty"`
	To    []byte `json:"to,omitempty"`
}

// rangesAt answers it.
func (d *digests) rangesAt(ctx context.Context, r rangesRequest) (kv.Ranges, error) {
	if r.Whole {
		d.mu.Lock()
		defer d.mu.Unlock()
		ranges, ok := d.mu.ranges[r.ID]
		if !ok {
			return kv.Ranges{}, fmt.Errorf("ranges of %q: %w", r.ID, errNoDigest)
		}
		return ranges, nil
	}
	ctx, sn, done, err := d.use(ctx, r.ID)
	if err != nil {
		return kv.Ranges{}, err
	}
	defer done()
	return sn.Ranges(ctx, markRate(r.ID, d.rate), r.From, r.To)
}
