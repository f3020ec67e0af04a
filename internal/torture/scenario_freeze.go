package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

func freezeScenario() scenario {
	return scenario{
		name: "freeze", share: 3, rows: []string{"P3", "H9"},
		about: "SIGSTOP of the active, promotion of another node, SIGCONT while clients still trust it",
		run:   runFreeze,
	}
}

// runFreeze: P3 (the woken active acks nothing of its epoch, answers no read as if it were active, steps down), H9 (what only it had is set aside).
func runFreeze(_ context.Context, p *play) error {
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1}); err != nil {
		return err
	}
	p.begin(true)
	for p.more() {
		if err := p.acks(50 + p.rnd.IntN(200)); err != nil {
			return err
		}
		if err := p.freezeActive(); err != nil {
			return err
		}
	}
	return p.judge()
}

func (p *play) freezeActive() error {
	old, next := p.active, p.any(p.active)
	// Clients that stay with the frozen node, whatever happens: their writes and reads are judged with all the others.
	loyal := p.startLoad(fmt.Sprintf("loyal%d", len(p.loads)), 4, true, old)
	defer loyal.stopIt()
	if err := p.until(20*time.Second, "loyal clients write", func() error {
		if loyal.acked.Load() < 10 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		return err
	}
	p.row.Faults++
	if err := old.proc.freeze(); err != nil {
		return err
	}
	if err := p.promote(next); err != nil {
		return errors.Join(err, old.proc.signal(syscall.SIGCONT))
	}
	p.load.move(next)
	if err := p.acks(20 + p.rnd.IntN(100)); err != nil {
		return errors.Join(err, old.proc.signal(syscall.SIGCONT))
	}
	if err := old.proc.signal(syscall.SIGCONT); err != nil {
		return err
	}
	if err := p.refuses(old); err != nil {
		return err
	}
	loyal.stop()
	return p.caughtUp()
}

// refuses waits until a node answers a write with READONLY. An acknowledgement breaks R2.
func (p *play) refuses(n *node) error {
	var taken error
	err := p.until(30*time.Second, n.name+" steps down", func() error {
		ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
		defer cancel()
		err := n.redis.Set(ctx, "torture:stale", n.name, 0).Err()
		if err == nil {
			taken = fmt.Errorf("%s acked a write after %s had been promoted (R2)", n.name, p.active.name)
			return nil
		}
		if !strings.HasPrefix(err.Error(), "READONLY") {
			return err
		}
		return nil
	})
	return errors.Join(err, taken)
}
