package torture

import (
	"context"
	"fmt"
	"time"

	"repld/tools/faultproxy"
)

func wireScenario() scenario {
	return scenario{
		name: "wire", share: 4, rows: []string{"W1", "W2", "W4", "W6", "W7", "W8", "W11"},
		about: "delay, trickle, flipped bits, half-open and one-way links, flapping, through a proxy between each pair of nodes",
		run:   runWire,
	}
}

// wires are the proxies between the nodes: of two nodes the one whose name sorts first dials.
type wires struct {
	p     *play
	links map[string]*faultproxy.Proxy // "ab": a dials b
}

// runWire: each round does one thing to the links of one node, and holds that a cut-off active acks nothing, that a standby in trouble stops nobody, and that everything is as
// before once the link is well again.
func runWire(_ context.Context, p *play) error {
	w := &wires{p: p, links: map[string]*faultproxy.Proxy{}}
	real := map[string]string{}
	for _, n := range []string{"a", "b", "c"} {
		addr, err := freeAddr()
		if err != nil {
			return err
		}
		real[n] = addr
	}
	for _, pair := range []string{"ab", "ac", "bc"} {
		x, err := faultproxy.New("127.0.0.1:0", real[pair[1:]], p.rnd.Uint64())
		if err != nil {
			return err
		}
		p.later(x.Close)
		w.links[pair] = x
	}
	err := p.build(layout{
		nodes: []string{"a", "b", "c"}, k: 1, addr: func(n string) string { return real[n] },
		reach: func(from, to string) string {
			if x := w.links[from+to]; x != nil {
				return x.Addr()
			}
			return real[to] // never dialled
		},
	})
	if err != nil {
		return err
	}
	p.begin(false)
	kinds := []struct {
		name string
		do   func() error
	}{
		{"delay (W6)", w.delay}, {"trickle (W7)", w.trickle}, {"flipped bits (W11)", w.flip}, {"half-open (W8)", w.halfOpen}, {"one way (W2)", w.oneWay},
		{"flapping (W4)", w.flap}, {"active cut off (W1)", w.cutOff},
	}
	p.rnd.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for i := 0; p.more() || i < len(kinds) && p.ctx.Err() == nil; i++ {
		k := kinds[i%len(kinds)]
		p.log.Info("link", "fault", k.name)
		if err := p.acks(30); err != nil {
			return err
		}
		p.row.Faults++
		if err := k.do(); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		w.heal()
		if err := p.caughtUp(); err != nil {
			return fmt.Errorf("after %s: %w", k.name, err)
		}
		p.row.Rounds = max(p.row.Rounds, i+1)
	}
	flips := 0
	for _, x := range w.links {
		flips += x.Flips()
	}
	p.note("%d bits were flipped", flips)
	return p.judge()
}

func (w *wires) heal() {
	for _, x := range w.links {
		x.Heal()
	}
}

// of calls fn for each link of a node; in and out are the rules for what goes to it and what comes from it.
func (w *wires) of(n *node, in, out faultproxy.Rule) {
	for pair, x := range w.links {
		switch n.name {
		case pair[:1]: // it dials: its bytes go up
			x.Set(out, in)
		case pair[1:]:
			x.Set(in, out)
		}
	}
}

// delay: a slow link to one standby slows nobody, one to the active slows all, and nothing breaks.
func (w *wires) delay() error {
	r := faultproxy.Rule{Delay: time.Duration(5+w.p.rnd.IntN(60)) * time.Millisecond}
	w.of(w.p.fleet.nodes[w.p.fleet.order[w.p.rnd.IntN(3)]], r, r)
	return w.p.acks(60)
}

// trickle: a link at some bytes a second is closed at the latest when progress is due; the other standby is enough.
func (w *wires) trickle() error {
	r := faultproxy.Rule{BytesPerSec: 20}
	w.of(w.p.any(w.p.active), r, r)
	if err := w.p.acks(60); err != nil {
		return err
	}
	w.p.pause(w.p.upTo(time.Second))
	return nil
}

// flip: bits flip on all links of a node, which may be the active. Whatever gets through, nothing wrong is believed.
func (w *wires) flip() error {
	victim := w.p.fleet.nodes[w.p.fleet.order[w.p.rnd.IntN(3)]]
	r := faultproxy.Rule{FlipEvery: 300 + w.p.rnd.IntN(20_000)}
	w.of(victim, r, r)
	w.p.pause(time.Second)
	if victim != w.p.active {
		return w.p.acks(30)
	}
	return nil
}

// halfOpen: nothing passes, nothing is closed. Both sides notice by themselves.
func (w *wires) halfOpen() error {
	victim := w.p.any(w.p.active)
	w.of(victim, faultproxy.Rule{Hold: true}, faultproxy.Rule{Hold: true})
	if err := w.p.acks(60); err != nil {
		return err
	}
	return w.p.until(40*time.Second, "the active notices that the link to "+victim.name+" is half-open (W8)", func() error {
		s, err := w.p.active.status(w.p.ctx)
		if err != nil {
			return err
		}
		for _, x := range s.Standbys {
			if x.Node == victim.name && x.State != "down" {
				return fmt.Errorf("standby %s is %s", x.Node, x.State)
			}
		}
		return nil
	})
}

// oneWay: bytes pass in one direction only.
func (w *wires) oneWay() error {
	hold, pass := faultproxy.Rule{Hold: true}, faultproxy.Rule{}
	in, out := hold, pass
	if w.p.rnd.IntN(2) == 0 {
		in, out = pass, hold
	}
	w.of(w.p.any(w.p.active), in, out)
	if err := w.p.acks(60); err != nil {
		return err
	}
	w.p.pause(w.p.upTo(2 * time.Second))
	return nil
}

// flap: links break and come back many times a second.
func (w *wires) flap() error {
	for range 15 {
		for _, x := range w.links {
			if w.p.rnd.IntN(2) == 0 {
				x.Refuse(true)
			}
		}
		w.p.pause(w.p.upTo(100 * time.Millisecond))
		w.heal()
		w.p.pause(w.p.upTo(150 * time.Millisecond))
	}
	return nil
}

// cutOff: the active loses both links, and clients that do not know go on with it. It acks nothing. The others elect, it comes back, and follows.
func (w *wires) cutOff() error {
	p := w.p
	old := p.active
	hold := faultproxy.Rule{Hold: true}
	w.of(old, hold, hold)
	return p.replaceCutOff(old, p.any(old), w.heal)
}

// replaceCutOff promotes next while old, the active, is cut off, with clients that stay with it; then heals.
func (p *play) replaceCutOff(old, next *node, heal func()) error {
	loyal := p.startLoad(fmt.Sprintf("loyal%d", len(p.loads)), 4, false, old)
	defer loyal.stopIt()
	if err := p.promote(next); err != nil {
		return err
	}
	acked := loyal.acked.Load()
	p.load.move(next)
	if err := p.acks(60); err != nil {
		return err
	}
	if n := loyal.acked.Load(); n != acked {
		return fmt.Errorf("%s, which is cut off, acked %d commands after %s had been promoted (R2)", old.name, n-acked, next.name)
	}
	heal()
	if err := p.refuses(old); err != nil {
		return err
	}
	loyal.stop()
	return nil
}
