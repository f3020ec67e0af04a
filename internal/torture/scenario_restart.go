package torture

import (
	"context"
	"fmt"
	"time"
)

func restartScenario() scenario {
	return scenario{
		name: "restart-loop", share: 2, kills: true, rows: []string{"P2", "P6"},
		about: "a standby, then the active, crash again and again right after their start: no epoch is used up, no file grows without end",
		run:   runRestart,
	}
}

// Bounds of a crash loop.
const (
	crashes  = 6
	loopRoom = 24 << 20 // bytes that the data directory of a node in a loop may grow beyond what the load writes
)

// runRestart: P6 (crash loop under a supervisor), P2.
func runRestart(_ context.Context, p *play) error {
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1}); err != nil {
		return err
	}
	p.begin(true)
	for p.more() {
		if err := p.acks(50); err != nil {
			return err
		}
		if err := p.loop(p.any(p.active)); err != nil {
			return err
		}
		if err := p.caughtUp(); err != nil {
			return err
		}
		if err := p.loopActive(); err != nil {
			return err
		}
	}
	return p.judge()
}

// loop crashes a standby: the cluster's epoch stays, the others go on.
func (p *play) loop(n *node) error {
	before, err := p.epoch(p.active)
	if err != nil {
		return err
	}
	size, acked := grown(n.data), p.load.acked.Load()
	for range crashes {
		p.kill(n)
		if err := p.up(n); err != nil {
			return err
		}
		p.pause(p.upTo(250 * time.Millisecond))
	}
	if err := p.acks(20); err != nil {
		return fmt.Errorf("while %s crashes in a loop: %w", n.name, err)
	}
	after, err := p.epoch(p.active)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("the epoch went from %d to %d while %s crashed %d times (P6)", before, after, n.name, crashes)
	}
	return bounded(n, size, p.load.acked.Load()-acked)
}

// loopActive crashes the active: it uses up no epoch by itself, and stays who it was.
func (p *play) loopActive() error {
	n := p.active
	before, err := p.epoch(n)
	if err != nil {
		return err
	}
	size := grown(n.data)
	for range crashes {
		p.kill(n)
		if err := p.up(n); err != nil {
			return err
		}
		p.pause(p.upTo(250 * time.Millisecond))
	}
	var after uint64
	err = p.until(60*time.Second, n.name+" answers", func() error {
		if !n.proc.alive() {
			return p.died(n)
		}
		e, err := p.epoch(n)
		after = uint64(e)
		return err
	})
	if err != nil {
		return err
	}
	if after != uint64(before) {
		return fmt.Errorf("the epoch went from %d to %d while the active %s crashed %d times and nobody was promoted (P6)", before, after, n.name, crashes)
	}
	if err := bounded(n, size, 0); err != nil {
		return err
	}
	if err := p.promote(n); err != nil {
		return err
	}
	p.load.move(n)
	return p.caughtUp()
}

// bounded holds that a node's files did not grow by more than what was written.
func bounded(n *node, before, acked int64) error {
	if got, most := grown(n.data), before+loopRoom+acked*1024; got > most {
		return fmt.Errorf("the files of %s grew from %d to %d bytes while it crashed %d times (P6)", n.name, before, got, crashes)
	}
	return nil
}
