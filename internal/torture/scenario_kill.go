package torture

import (
	"context"
	"time"
)

func killScenario() scenario {
	return scenario{
		name: "kill", share: 5, kills: true, rows: []string{"P1", "P2", "P5"},
		about: "SIGKILL of the active, a standby, or all at random moments under load, and again while they recover",
		run:   runKill,
	}
}

// runKill: P1 (kill at random steps of the write path), P2 (kill during recovery), P5 (to the process an OOM kill is a SIGKILL).
func runKill(_ context.Context, p *play) error {
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1}); err != nil {
		return err
	}
	p.begin(true)
	for p.more() {
		if err := p.acks(20 + p.rnd.IntN(300)); err != nil {
			return err
		}
		var err error
		switch x := p.rnd.IntN(10); {
		case x < 5:
			err = p.killActive()
		case x < 8:
			err = p.killAndRestart(p.any(p.active))
		default:
			err = p.killAll()
		}
		if err != nil {
			return err
		}
	}
	return p.judge()
}

// killActive kills it and promotes another node while it is down, or itself after its restart.
func (p *play) killActive() error {
	old, next := p.active, p.any(p.active)
	p.kill(old)
	if p.rnd.IntN(3) == 0 {
		next = old
		if err := p.restart(old); err != nil {
			return err
		}
	}
	if err := p.promote(next); err != nil {
		return err
	}
	p.load.move(next)
	if old != next {
		if err := p.restart(old); err != nil {
			return err
		}
	}
	return p.caughtUp()
}

func (p *play) killAndRestart(n *node) error {
	p.kill(n)
	if err := p.restart(n); err != nil {
		return err
	}
	return p.caughtUp()
}

// killAll kills all at about the same moment. Any of them may be the next active: what was acked is on two disks, and the survey finds it.
func (p *play) killAll() error {
	for _, name := range p.fleet.order {
		p.kill(p.fleet.nodes[name])
		p.pause(p.upTo(2 * time.Millisecond))
	}
	for _, name := range p.fleet.order {
		if err := p.restart(p.fleet.nodes[name]); err != nil {
			return err
		}
	}
	next := p.fleet.nodes[p.fleet.order[p.rnd.IntN(len(p.fleet.order))]]
	if err := p.promote(next); err != nil {
		return err
	}
	p.load.move(next)
	return p.caughtUp()
}

// restart starts a node, kills it while it recovers a few times with probability one half (P2), and starts it for good.
func (p *play) restart(n *node) error {
	for p.rnd.IntN(2) == 0 {
		if err := p.up(n); err != nil {
			return err
		}
		p.pause(p.upTo(120 * time.Millisecond))
		p.kill(n)
	}
	return p.up(n)
}
