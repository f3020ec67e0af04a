package crashlife

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"repld/internal/admin"
	"repld/internal/faultfs"
)

// recovered starts both nodes on what a crash before operation n left, promotes the first that the rule allows, without consent to loss, and expects the other
// one to follow, and everything that was acked or promised to be there.
func (p *pair) recovered(n int, first string, disks map[string]*faultfs.Disk) (way string, err error) {
	q := newPair(p.model, disks)
	err = q.recover(p, n, first)
	return q.way, err
}

func (q *pair) recover(p *pair, n int, first string) (err error) {
	defer func() {
		for _, h := range q.hosts {
			if h.node == nil {
				continue
			}
			if h.cancel == nil {
				err = errors.Join(err, h.node.Close())
			} else if stopped := h.stop(); err == nil {
				err = stopped
			}
		}
	}()
	for name, h := range q.hosts {
		if err := h.open(); err != nil {
			h.node = nil
			return fmt.Errorf("open %s: %w", name, err)
		}
		if got, want := h.status().Epoch, p.model.promised(name, n); got < want {
			return fmt.Errorf("%s is in epoch %d, %d was promised (R3)", name, got, want)
		}
	}
	for _, h := range q.hosts {
		if err := h.run(); err != nil {
			return err
		}
	}
	active, err := q.takeOver(first)
	if err != nil {
		return err
	}
	if err := q.settled(active); err != nil {
		return err
	}
	var copies [][]string
	for _, name := range both {
		found, err := q.hosts[name].all()
		if err == nil {
			err = p.model.check(n, found)
		}
		if err != nil {
			return fmt.Errorf("on %s, %s active: %w", name, active, err)
		}
		copies = append(copies, found)
	}
	if !slices.Equal(copies[0], copies[1]) {
		return errors.New("the copies differ (N3)")
	}
	return nil
}

// takeOver promotes one of the nodes, first if possible, and returns its name. Two refusals are accepted if they last, because each names its way out, which is
// then taken and counted: no node has any record, but the token knows that an epoch was granted (then no write was acked, R11); and only one of the two is a voter, while
// the rule wants the grant of the other one, too (then that one has all that was acked: the check that follows makes no allowance for the consent).
func (p *pair) takeOver(first string) (active string, err error) {
	order := slices.Clone(both)
	if first != order[0] {
		slices.Reverse(order)
	}
	var req admin.PromoteRequest
	refused := 0
	err = until(func() error {
		if p.meshed() {
			refused++
		}
		var errs []error
		for _, name := range order {
			err := p.hosts[name].promote(req)
			if err == nil {
				active = name
				return nil
			}
			errs = append(errs, fmt.Errorf("promote %s: %w", name, err))
		}
		failed := errors.Join(errs...)
		voters := slices.DeleteFunc(slices.Clone(both), func(name string) bool { return !p.hosts[name].status().Voter })
		switch {
		case refused < 20:
		case strings.Contains(failed.Error(), "use --bootstrap to begin anew"):
			req.Bootstrap, p.way = true, "--bootstrap"
		case len(voters) == 1:
			req.AllowDataLoss, p.way, order = true, "--allow-data-loss", voters
		}
		return failed
	})
	return active, err
}

// meshed reports whether each node reaches the other.
func (p *pair) meshed() bool {
	for _, h := range p.hosts {
		for _, s := range h.node.Status(context.Background(), false).Nodes {
			if s.Error != "" {
				return false
			}
		}
	}
	return true
}
