package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"repld/internal/admin"
)

func partitionScenario() scenario {
	return scenario{
		name: "partition", share: 4, rows: []string{"W1", "W2", "W5", "H8"}, needs: func(Options) string { return noNet() },
		about: "network namespaces with nftables: partitions, one way too, loss; promotion on both sides",
		run:   runPartition,
	}
}

// nets are network namespaces, one a node and one with the bridge between them. Nothing of them is seen outside.
type nets struct {
	tag   string
	index map[string]int
}

func (x *nets) ns(n string) string { return "rt" + x.tag + n }

// enter is put before a command that shall run in a node's namespace. Not by `ip netns exec`: that makes a mount namespace too, which keeps every file system that is mounted now
// alive after its umount here, and a power cut would not be one.
func (x *nets) enter(n string) []string { return []string{"nsenter", "--net=/run/netns/" + x.ns(n)} }

// addr is a node's address.
func (x *nets) addr(n string) string { return fmt.Sprintf("10.79.0.%d:7600", x.index[n]) }

// netsMade tells the networks of scenarios that run side by side apart.
var netsMade atomic.Int64

func newNets(names ...string) (*nets, error) {
	x := &nets{tag: fmt.Sprintf("%dn%d", os.Getpid(), netsMade.Add(1)), index: map[string]int{}}
	sw := x.ns("-sw")
	steps := [][]string{{"ip", "netns", "add", sw}, {"ip", "-n", sw, "link", "add", "br0", "type", "bridge"}, {"ip", "-n", sw, "link", "set", "br0", "up"}}
	for i, n := range names {
		x.index[n] = i + 1
		ns, v := x.ns(n), "v"+n
		steps = append(steps, []string{"ip", "netns", "add", ns},
			[]string{"ip", "-n", sw, "link", "add", v, "type", "veth", "peer", "name", "eth0", "netns", ns},
			[]string{"ip", "-n", sw, "link", "set", v, "master", "br0", "up"},
			[]string{"ip", "-n", ns, "addr", "add", fmt.Sprintf("10.79.0.%d/24", i+1), "dev", "eth0"},
			[]string{"ip", "-n", ns, "link", "set", "eth0", "up"}, []string{"ip", "-n", ns, "link", "set", "lo", "up"})
	}
	for _, s := range steps {
		if err := tool(s...); err != nil {
			return x, errors.Join(err, x.close())
		}
	}
	return x, nil
}

func (x *nets) close() error {
	var errs []error
	for n := range x.index {
		errs = append(errs, tool("ip", "netns", "del", x.ns(n)))
	}
	return errors.Join(append(errs, tool("ip", "netns", "del", x.ns("-sw")))...)
}

// rule adds a rule to what comes in at a node.
func (x *nets) rule(n, text string) error {
	return x.nft(n, "add table inet f; add chain inet f i { type filter hook input priority 0; }; add rule inet f i "+text)
}

func (x *nets) heal() error {
	var errs []error
	for n := range x.index {
		errs = append(errs, x.nft(n, "flush ruleset"))
	}
	return errors.Join(errs...)
}

func (x *nets) nft(n, text string) error { return tool(append(x.enter(n), "nft", text)...) }

// deaf makes to hear nothing of from.
func (x *nets) deaf(to, from string) error {
	return x.rule(to, fmt.Sprintf("ip saddr 10.79.0.%d drop", x.index[from]))
}

// apart cuts both directions.
func (x *nets) apart(a, b string) error { return errors.Join(x.deaf(a, b), x.deaf(b, a)) }

// noNet says why there are no network namespaces with filters here: tried once.
var noNet = sync.OnceValue(func() string {
	if why := noRoot(); why != "" {
		return why
	}
	if why := missing("ip", "nft", "nsenter"); why != "" {
		return why
	}
	x, err := newNets("p", "q")
	if err != nil {
		return "no network namespaces: " + err.Error()
	}
	err = errors.Join(x.rule("p", "numgen random mod 100 < 5 drop"), x.apart("p", "q"), x.heal())
	if err = errors.Join(err, x.close()); err != nil {
		return "no nftables: " + err.Error()
	}
	return ""
})

// runPartition: W1 and W2 (only the holder of the token acks; a half-dead link is closed), W5 (loss), H8 (promotion on both sides).
func runPartition(_ context.Context, p *play) error {
	x, err := newNets("a", "b", "c")
	if err != nil {
		return err
	}
	p.later(x.close)
	err = p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, addr: x.addr, wrap: x.enter})
	if err != nil {
		return err
	}
	p.begin(false)
	kinds := []struct {
		name string
		do   func(x *nets) error
	}{{"partition, promotion on both sides (W1, H8)", p.bothSides}, {"one way (W2)", p.oneWay}, {"loss (W5)", p.loss}, {"standby cut off (W1)", p.standbyOff}}
	for i := 0; p.more() || i < len(kinds) && p.ctx.Err() == nil; i++ {
		k := kinds[i%len(kinds)]
		p.log.Info("network", "fault", k.name)
		if err := p.acks(30); err != nil {
			return err
		}
		p.row.Faults++
		if err := k.do(x); err != nil {
			return fmt.Errorf("%s: %w", k.name, errors.Join(err, x.heal()))
		}
		if err := x.heal(); err != nil {
			return err
		}
		if err := p.caughtUp(); err != nil {
			return fmt.Errorf("after %s: %w", k.name, err)
		}
		p.row.Rounds = max(p.row.Rounds, i+1)
	}
	return p.judge()
}

// bothSides cuts the active off and promotes on both sides: alone it has no majority of anything, so its promotion is refused (it may say that it is active already), and the other
// side's succeeds.
func (p *play) bothSides(x *nets) error {
	old := p.active
	for _, n := range p.fleet.others(old.name) {
		if err := x.apart(old.name, n.name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	alone := make(chan error, 1)
	go func() {
		r, err := old.admin.Promote(ctx, promoteRequest, nil)
		if err == nil && !r.Already {
			err = fmt.Errorf("%s, which is cut off, was promoted to epoch %d (H8)", old.name, r.Epoch)
			alone <- err
			return
		}
		alone <- nil
	}()
	err := p.replaceCutOff(old, p.any(old), func() { _ = x.heal() })
	return errors.Join(err, <-alone)
}

// oneWay lets a standby hear nothing, or be heard by nobody.
func (p *play) oneWay(x *nets) error {
	victim := p.any(p.active)
	mute := p.rnd.IntN(2) == 0
	for _, n := range p.fleet.others(victim.name) {
		to, from := victim.name, n.name
		if mute {
			to, from = from, to
		}
		if err := x.deaf(to, from); err != nil {
			return err
		}
	}
	if err := p.acks(60); err != nil {
		return err
	}
	return p.seesDown(victim)
}

// standbyOff cuts a standby off; alone it cannot be promoted.
func (p *play) standbyOff(x *nets) error {
	victim := p.any(p.active)
	for _, n := range p.fleet.others(victim.name) {
		if err := x.apart(victim.name, n.name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	r, err := victim.admin.Promote(ctx, promoteRequest, nil)
	var refused *admin.Error
	if err == nil {
		return fmt.Errorf("%s, which is cut off, was promoted to epoch %d (H8)", victim.name, r.Epoch)
	}
	if !errors.As(err, &refused) || refused.Code != admin.CodeRefused {
		return fmt.Errorf("promotion of %s, which is cut off: %w, want a refusal", victim.name, err)
	}
	return p.acks(60)
}

// seesDown waits until the active has noticed that a standby does not answer.
func (p *play) seesDown(victim *node) error {
	return p.until(60*time.Second, "the active notices that "+victim.name+" is half-dead (W2)", func() error {
		s, err := p.active.status(p.ctx)
		if err != nil {
			return err
		}
		for _, y := range s.Standbys {
			if y.Node == victim.name && y.State != "down" {
				return fmt.Errorf("standby %s is %s", y.Node, y.State)
			}
		}
		return nil
	})
}

// loss drops a share of all packets at one node.
func (p *play) loss(x *nets) error {
	victim := p.fleet.order[p.rnd.IntN(3)]
	if err := x.rule(victim, fmt.Sprintf("numgen random mod 100 < %d drop", 1+p.rnd.IntN(20))); err != nil {
		return err
	}
	p.pause(time.Second)
	return p.acks(10)
}
