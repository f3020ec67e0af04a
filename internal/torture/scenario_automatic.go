package torture

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"repld/internal/admin"
	"repld/wal"
)

func automaticScenario() scenario {
	return scenario{
		name: "automatic", share: 4, kills: true, rows: []string{"P1", "P3"},
		about: "SIGKILL and SIGSTOP of the active with automatic failover: nobody promotes, reads have to be linearizable all the time",
		run:   runAutomatic,
	}
}

// runAutomatic: P1 and P3 without a person. Clients go where the active is; reads through an active that was replaced would be found, because it has to hold a lease for them (R14).
func runAutomatic(_ context.Context, p *play) error {
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, automatic: true}); err != nil {
		return err
	}
	p.begin(true)
	stop := p.chase()
	defer stop()
	for p.more() {
		if err := p.acks(50 + p.rnd.IntN(200)); err != nil {
			return err
		}
		old, epoch, err := p.findActive(0, nil)
		if err != nil {
			return err
		}
		frozen := p.rnd.IntN(2) == 0
		if frozen {
			p.row.Faults++
			err = old.proc.freeze()
		} else {
			p.kill(old)
		}
		if err != nil {
			return err
		}
		began := time.Now()
		_, _, err = p.findActive(epoch, old)
		p.log.Info("failover", "from", old.name, "to", p.active.name, "frozen", frozen, "took", time.Since(began))
		if frozen {
			err = errors.Join(err, old.proc.signal(syscall.SIGCONT))
		} else {
			err = errors.Join(err, p.up(old))
		}
		if err == nil {
			err = p.followed()
		}
		if err != nil {
			return err
		}
	}
	stop()
	if err := p.followed(); err != nil {
		return err
	}
	return p.judge()
}

// findActive waits until a node, not but, is active in an epoch above one, and makes it the play's.
func (p *play) findActive(above wal.Epoch, but *node) (found *node, epoch wal.Epoch, err error) {
	err = p.until(90*time.Second, "an active", func() error {
		found = nil
		said := ""
		for _, name := range p.fleet.order {
			n := p.fleet.nodes[name]
			if n == but || !n.proc.alive() {
				continue
			}
			ctx, cancel := context.WithTimeout(p.ctx, time.Second)
			s, err := n.status(ctx)
			cancel()
			if err != nil {
				said += fmt.Sprintf("; %s: %v", name, err)
				continue
			}
			said += fmt.Sprintf("; %s is %s in epoch %d", name, s.Role, s.Epoch)
			if s.Role == admin.RoleActive && s.Epoch > max(above, epoch) {
				found, epoch = n, s.Epoch
			}
		}
		if found == nil {
			epoch = 0
			return fmt.Errorf("none above epoch %d%s", above, said)
		}
		return nil
	})
	if err == nil {
		p.active = found
	}
	return found, epoch, err
}

// followed waits until all follow the active, whoever that is by then: on a busy machine it may change again.
func (p *play) followed() error {
	for tries := 0; ; tries++ {
		if _, _, err := p.findActive(0, nil); err != nil {
			return err
		}
		if err := p.caughtUp(); err == nil || !errors.Is(err, errDeposed) || tries == 5 {
			return err
		}
	}
}

// chase keeps the clients at the active until stop is called.
func (p *play) chase() (stop func()) {
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		at := p.load.target.Load()
		var epoch wal.Epoch
		for ctx.Err() == nil {
			for _, name := range p.fleet.order {
				n := p.fleet.nodes[name]
				short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				s, err := n.status(short)
				cancel()
				if err == nil && s.Role == admin.RoleActive && s.Epoch > epoch {
					epoch = s.Epoch
					if n != at {
						at = n
						p.load.move(n)
					}
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(30 * time.Millisecond):
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
