package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"repld/internal/admin"
	"repld/wal"
)

func automaticScenario() scenario {
	return scenario{
		name: "automatic", share: 4, kills: true, rows: []string{"P1", "P3"},
		about: "SIGKILL and SIGSTOP of the active with automatic failover: nobody promotes, reads have to be linearizable all the time",
		run:   func(_ context.Context, p *play) error { return p.automatic("") },
	}
}

func automaticFileScenario() scenario {
	return scenario{
		name: "automatic-file", share: 2, kills: true, rows: []string{"P1", "P3"},
		about: "the same with the token in a folder that all nodes share",
		run: func(_ context.Context, p *play) error {
			dir := filepath.Join(p.dir, "token")
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return p.automatic(fmt.Sprintf("{store: file, path: %s, shared: true}", dir))
		},
	}
}

func automaticEtcdScenario() scenario {
	return scenario{
		name: "automatic-etcd", share: 2, kills: true, rows: []string{"P1", "P3"}, needs: func(Options) string { return missing("etcd") },
		about: "the same with the token in a real etcd",
		run: func(_ context.Context, p *play) error {
			url, err := p.etcd()
			if err != nil {
				return err
			}
			return p.automatic(fmt.Sprintf("{store: etcd, etcd: {endpoints: [%q]}}", url))
		},
	}
}

// etcd starts an etcd of one member.
func (p *play) etcd() (url string, err error) {
	var at [2]string
	for i := range at {
		addr, err := freeAddr()
		if err != nil {
			return "", err
		}
		at[i] = "http://" + addr
	}
	e, err := launch(filepath.Join(p.dir, "etcd.log"), nil, "etcd", "--name", "t", "--data-dir", filepath.Join(p.dir, "etcd"), "--listen-client-urls", at[0],
		"--advertise-client-urls", at[0], "--listen-peer-urls", at[1], "--initial-advertise-peer-urls", at[1], "--initial-cluster", "t="+at[1], "--log-level", "error")
	if err != nil {
		return "", err
	}
	p.later(func() error {
		err := e.signal(syscall.SIGKILL)
		<-e.done
		return err
	})
	return at[0], nil
}

// automatic: P1 and P3 without a person, whatever keeps the token. Clients go where the active is; reads through an active that was replaced would be found, because it has to hold a
// lease for them (R14), and so would two actives that commit at the same time (R2).
func (p *play) automatic(token string) error {
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, automatic: true, token: token}); err != nil {
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
