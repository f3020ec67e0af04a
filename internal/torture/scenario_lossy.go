package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"repld/internal/torture/lossyfs"
)

func lossyScenario() scenario {
	return scenario{
		name: "lossy", share: 3, cuts: true, rows: []string{"D2", "D4", "D16"}, needs: func(Options) string { return lossyfs.Available() },
		about: "a FUSE file system: power cuts that keep unsynced writes in any order, a sync that fails and drops its pages, slow syncs",
		run:   runLossy,
	}
}

// lossyDisk is a device on FUSE. It is never unmounted in between: a cut leaves it as after a new start.
type lossyDisk struct {
	fs  *lossyfs.FS
	rnd *rand.Rand
}

func (d lossyDisk) cut() error    { return d.fs.Cut(d.rnd) }
func (d lossyDisk) detach() error { return nil }
func (d lossyDisk) attach() error { return nil }

// slowSync is how long each sync of a slow disk lasts.
const slowSync = 200 * time.Millisecond

// runLossy: D2 (any of the unsynced writes lost, parts of them too), D4 (a failed sync: nothing is acked, the node leaves, the sync is not tried again), D16 (slow syncs: it goes on).
func runLossy(_ context.Context, p *play) error {
	fs, err := lossyfs.New(filepath.Join(p.dir, "below"), filepath.Join(p.dir, "lossy"))
	if err != nil {
		return err
	}
	p.later(fs.Close)
	c := &cutter{p: p, disk: lossyDisk{fs, p.rnd}, data: filepath.Join(fs.Mount, "data"), onDisk: filepath.Join(fs.Below, "data")}
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, data: map[string]string{"a": c.data}}); err != nil {
		return err
	}
	c.node = p.active
	p.begin(true)
	for i := 0; p.more() || i < 3 && p.ctx.Err() == nil; i++ {
		if err := p.acks(5 + p.rnd.IntN(100)); err != nil {
			return err
		}
		switch {
		case i%8 == 1:
			err = c.failedSync(fs)
		case i%8 == 2:
			err = c.slowSyncs(fs)
		default:
			if err = c.cutAndCheck(); err == nil {
				err = p.settle(p.fleet.nodes[p.fleet.order[p.rnd.IntN(3)]])
			}
		}
		if err != nil {
			return err
		}
		p.row.Rounds = max(p.row.Rounds, i+1)
	}
	s := fs.Stats()
	p.note("%d syncs, %d of them failed; %d unsynced writes were lost, %d were on the disk all the same", s.Syncs, s.Failed, s.Lost, s.Kept)
	return p.judge()
}

// failedSync has a sync of the active's log fail once.
func (c *cutter) failedSync(fs *lossyfs.FS) error {
	p := c.p
	if err := p.lead(c.node); err != nil {
		return err
	}
	p.row.Faults++
	fs.FailSync("/wal/")
	if err := p.silent(); err != nil {
		return fmt.Errorf("a sync of the log failed (D4): %w", err)
	}
	next := p.any(c.node)
	if err := p.promote(next); err != nil {
		return err
	}
	p.load.move(next)
	if err := p.acks(20); err != nil {
		return err
	}
	return p.replaced(c.node, nil)
}

// slowSyncs makes the active's disk slow: it stays the active and goes on to ack.
func (c *cutter) slowSyncs(fs *lossyfs.FS) error {
	p := c.p
	if err := p.lead(c.node); err != nil {
		return err
	}
	p.row.Faults++
	fs.SlowSync(slowSync)
	err := p.acks(20)
	fs.SlowSync(0)
	if err != nil {
		return fmt.Errorf("each sync takes %v (D16): %w", slowSync, err)
	}
	return p.caughtUp()
}
