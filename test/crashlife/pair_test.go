package crashlife

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"repld/internal/admin"
	"repld/internal/faultfs"
	"repld/wal"
)

// pair is two nodes, their disks on one clock.
type pair struct {
	net   *pipes
	model *model
	disks map[string]*faultfs.Disk // that are recorded
	hosts map[string]*host
	marks []mark

	way string // what a person had to say, "" = nothing
}

// mark says what the life was doing from an operation on.
type mark struct {
	at   int
	what string
}

var both = []string{"a", "b"}

// newPair makes two hosts on these disks.
func newPair(m *model, disks map[string]*faultfs.Disk) *pair {
	p := &pair{net: newPipes(), model: m, disks: disks, hosts: map[string]*host{}}
	for i, name := range both {
		p.hosts[name] = &host{name: name, fs: disks[name], peers: []string{both[1-i]}, k: 1, net: p.net}
	}
	return p
}

// mark notes what begins now and which epochs are promised.
func (p *pair) mark(what string) {
	for name, h := range p.hosts {
		if h.cancel != nil {
			p.model.epoch(name, h.status().Epoch)
		}
	}
	p.marks = append(p.marks, mark{p.disks["a"].Clock().Now(), what})
}

func (p *pair) at(n int) (what string) {
	for _, m := range p.marks {
		if m.at <= n {
			what = m.what
		}
	}
	return what
}

// settled waits until the other node follows the active and has its log.
func (p *pair) settled(active string) error {
	return until(func() error {
		a := p.hosts[active].status()
		if a.Role != admin.RoleActive {
			return fmt.Errorf("%s is %s, epoch %d held by %s, alarms %v", active, a.Role, a.Epoch, a.Holder, a.Alarms)
		}
		for name, h := range p.hosts {
			if s := h.status(); name != active && (s.Epoch != a.Epoch || !s.Voter || s.Durable != a.Durable || s.Applied != a.Applied || s.Source != active) {
				return fmt.Errorf("%s does not follow: epoch %d of %d, voter %t, durable %s of %s, applied %s, source %s, link %s, alarms %v", name, s.Epoch, a.Epoch, s.Voter,
					s.Durable, a.Durable, s.Applied, s.Source, s.Link, s.Alarms)
			}
		}
		return nil
	})
}

// try repeats what a cluster may refuse for a moment.
func (p *pair) try(what string, do func() error) error {
	if err := until(do); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// life of both nodes; a is the one that meets everything.
func (p *pair) life() error {
	none := 0
	a, b := p.hosts["a"], p.hosts["b"]
	steps := []struct {
		what string
		do   func() error
	}{
		{"first boot", func() error { return errors.Join(a.start(), b.start()) }},
		{"first promotion", func() error {
			return p.try("promote a", func() error { return a.promote(admin.PromoteRequest{}) })
		}},
		{"settling", func() error { return p.settled("a") }},
		{"replicated writes", func() error { return p.write(a, 12) }},
		{"writes alone, never acked", func() error {
			p.net.part(true)
			return p.unacked(a, 3)
		}},
		{"the other one promoted", func() error {
			return b.promote(admin.PromoteRequest{AllowDataLoss: true, Sync: &none})
		}},
		{"writes of the new epoch", func() error { return p.write(b, 6) }},
		{"being fenced, divergence cut (R9, R15)", func() error {
			p.net.part(false)
			if err := p.settled("b"); err != nil {
				return err
			}
			if s := a.status(); s.Diverged == 0 {
				return errors.New("nothing was saved aside")
			}
			return nil
		}},
		{"switchover", func() error {
			return p.try("switchover to a", func() error { return b.post(admin.PathSwitchover, admin.SwitchoverRequest{To: "a"}) })
		}},
		{"settling again", func() error { return p.settled("a") }},
		{"replicated writes again", func() error { return p.write(a, 8) }},
		{"clean stop", a.stop},
		{"the other one promoted again", func() error {
			return b.promote(admin.PromoteRequest{AllowDataLoss: true, Sync: &none})
		}},
		{"log trimmed beyond the absent one", func() error {
			end := b.status().Durable
			return p.try("trim", func() error {
				if err := p.write(b, 6); err != nil {
					return err
				}
				if at := b.status().Start; at.LSN <= end.LSN {
					return fmt.Errorf("log begins at %s", at)
				}
				return nil
			})
		}},
		{"seeding by snapshot, install (R15)", func() error {
			if err := a.start(); err != nil {
				return err
			}
			return p.settled("b")
		}},
		{"follows again", func() error { return errors.Join(p.write(b, 4), p.settled("b")) }},
		{"promotion of the seeded one", func() error {
			return p.try("switchover to a", func() error { return b.post(admin.PathSwitchover, admin.SwitchoverRequest{To: "a"}) })
		}},
		{"last writes", func() error { return errors.Join(p.settled("a"), p.write(a, 4)) }},
		{"last stop", func() error { return errors.Join(a.stop(), b.stop()) }},
	}
	for _, s := range steps {
		p.mark(s.what)
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	p.mark("all stopped")
	return nil
}

// write has h ack n writes. Clients are moved away some time after a change of roles: one that was comes back with another value, and what it had sent may be there or not.
func (p *pair) write(h *host, n int) error {
	for i := range n {
		err := p.try("write to "+h.name, func() error {
			err := put(h, p.model, keyName((len(p.model.sent[keyName(0)])*5+i*7)%keys))
			if err != nil {
				err = errors.Join(err, h.reconnect())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unacked sends writes whose answer is not waited for: there is nobody to ack them. The client is given up for a new one.
func (p *pair) unacked(h *host, n int) error {
	end := h.status().End
	var b strings.Builder
	for i := range n {
		key := keyName(i)
		value := valueOf(key, p.model.next(key))
		fmt.Fprintf(&b, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
	}
	go func() { _, _ = h.client.conn.Write([]byte(b.String())) }()
	err := until(func() error {
		if s := h.status(); s.Durable.LSN < end.LSN+wal.LSN(n) {
			return fmt.Errorf("log ends at %s", s.Durable)
		}
		return nil
	})
	return errors.Join(err, h.reconnect())
}

// tallies counts crashes by what the life was doing and what a person has to say after them.
type tallies struct {
	mu  sync.Mutex
	all map[string]int
}

func (x *tallies) add(what, way string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == nil {
		x.all = map[string]int{}
	}
	if way != "" {
		what += ": a person says " + way
	}
	x.all[what]++
}

// TestPair cuts the power of both nodes at the operations of their life (R1, R3, R5, R8, R9, R11, R15; FAULTS P1, P2, D2, D21, D22, H9).
// Faults: P1, P2, D2, D21, D22, H9 (power cuts of two nodes)
func TestPair(t *testing.T) {
	clock := &faultfs.Clock{}
	p := newPair(newModel(clock.Now), map[string]*faultfs.Disk{"a": faultfs.NewDiskOn(clock), "b": faultfs.NewDiskOn(clock)})
	if err := p.life(); err != nil {
		t.Fatal(err)
	}
	needed := tallies{}
	a, b := p.disks["a"], p.disks["b"]
	for _, m := range p.marks {
		t.Logf("from operation %5d: %s", m.at, m.what)
	}
	run(t, cases(a, clock.Now()), budget(t, 16), func(c crash) error {
		other := c.policy
		if c.again != 0 {
			other = faultfs.Random(c.again).InOrder(pebbles)
		}
		images := func() map[string]*faultfs.Disk {
			clock := &faultfs.Clock{}
			return map[string]*faultfs.Disk{"a": a.CrashOn(clock, c.at, c.policy), "b": b.CrashOn(clock, c.at, other)}
		}
		all := images()
		first := both[c.at%2]
		what := p.at(c.at)
		way, err := p.recovered(c.at, first, all)
		needed.add(what, way)
		if err != nil {
			return fmt.Errorf("while %s, %s promoted first: %w%s", what, first, err, keep(images()["a"]))
		}
		if c.again == 0 {
			return nil
		}
		again, now := map[string]*faultfs.Disk{}, &faultfs.Clock{}
		second := int(c.again % uint64(all["a"].Clock().Now()+1))
		for name, d := range all {
			again[name] = d.CrashOn(now, second, faultfs.Random(c.again).InOrder(pebbles))
		}
		way, err = p.recovered(c.at, both[c.again%4/2], again)
		needed.add("recovery after "+what, way)
		if err != nil {
			return fmt.Errorf("while %s, second crash, at %d of the recovery: %w", what, second, err)
		}
		return nil
	})
	for _, what := range slices.Sorted(maps.Keys(needed.all)) {
		t.Logf("%4d crashes: %s", needed.all[what], what)
	}
}
