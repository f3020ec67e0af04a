package torture

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

func saturationScenario() scenario {
	return scenario{
		name: "saturation", share: 3, rows: []string{"P4", "W5"}, needs: func(Options) string { return noNet() },
		about: "CPU and disk saturated, 20 % of all packets lost, links that flap: automatic failover with the defaults, and no failover happens",
		run:   runSaturation,
	}
}

// runSaturation: P4 and W5 with failover by itself and every default: whatever slows the cluster down is no failure, so the epoch stays what it is.
func runSaturation(_ context.Context, p *play) error {
	x, err := newNets("a", "b", "c")
	if err != nil {
		return err
	}
	p.later(x.close)
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, automatic: true, patient: true, addr: x.addr, wrap: x.enter}); err != nil {
		return err
	}
	active, before, err := p.findActive(0, nil)
	if err != nil {
		return err
	}
	p.begin(true)
	kinds := []struct {
		name string
		do   func(lasts time.Duration) error
	}{
		{"CPU and disk saturated", p.starve},
		{"20 % of all packets lost", func(lasts time.Duration) error { return p.lossEverywhere(x, lasts) }},
		{"links flap", func(lasts time.Duration) error { return p.flap(x, lasts) }},
	}
	lasts := max(time.Second, time.Until(p.deadline)/time.Duration(len(kinds)))
	for _, k := range kinds {
		if err := p.acks(30); err != nil {
			return err
		}
		p.log.Info("saturation", "what", k.name, "lasts", lasts)
		p.row.Faults++
		p.row.Rounds++
		if err := errors.Join(k.do(lasts), x.heal()); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		now, epoch, err := p.findActive(0, nil)
		switch {
		case err != nil:
			return err
		case now != active || epoch != before:
			return fmt.Errorf("false failover: %s for %v, and %s is active in epoch %d, before it was %s in %d", k.name, lasts, now.name, epoch, active.name, before)
		}
	}
	p.note("%v of each: no failover", lasts)
	if err := p.caughtUp(); err != nil {
		return err
	}
	return p.judge()
}

// starve has four busy processes for each core and one that writes and syncs compete with the nodes.
func (p *play) starve(lasts time.Duration) (err error) {
	var hogs []*process
	defer func() {
		for _, h := range hogs {
			err = errors.Join(err, h.signal(syscall.SIGKILL))
			<-h.done
		}
	}()
	scratch := filepath.Join(p.dir, "scratch")
	work := []string{fmt.Sprintf("while :; do i=0; while [ $i -lt 64 ]; do printf '%%1048576s' x; i=$((i+1)); done > %s; sync %s; done", scratch, scratch)}
	for range 4 * runtime.NumCPU() {
		work = append(work, "while :; do :; done")
	}
	for _, w := range work {
		h, err := launch(filepath.Join(p.dir, "hogs.log"), nil, "sh", "-c", w)
		if err != nil {
			return err
		}
		hogs = append(hogs, h)
	}
	p.pause(lasts)
	return nil
}

// lossEverywhere loses every fifth packet at each node.
func (p *play) lossEverywhere(x *nets, lasts time.Duration) error {
	for _, n := range p.fleet.order {
		if err := x.rule(n, "numgen random mod 100 < 20 drop"); err != nil {
			return err
		}
	}
	p.pause(lasts)
	return nil
}

// flap cuts the link between two nodes again and again: for up to two seconds between the active and one standby, which the other one vetoes, and all links of the active for
// less than makes suspicious.
func (p *play) flap(x *nets, lasts time.Duration) error {
	for end := time.Now().Add(lasts); time.Now().Before(end) && p.ctx.Err() == nil; {
		var others []string
		for _, n := range p.fleet.order {
			if n != p.active.name {
				others = append(others, n)
			}
		}
		cut, short := others, 50*time.Millisecond+p.upTo(150*time.Millisecond)
		if p.rnd.IntN(2) == 0 {
			i := p.rnd.IntN(len(others))
			cut, short = others[i:i+1], min(100*time.Millisecond+p.upTo(2*time.Second), lasts)
		}
		for _, n := range cut {
			if err := x.apart(p.active.name, n); err != nil {
				return err
			}
		}
		p.pause(short)
		if err := x.heal(); err != nil {
			return err
		}
		p.pause(200*time.Millisecond + p.upTo(800*time.Millisecond))
	}
	return nil
}
