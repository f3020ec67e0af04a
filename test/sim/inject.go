package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"repld/internal/admin"
	"repld/internal/faultfs"
)

// inject does one event. It runs on the life's own goroutine and does not wait.
func (l *life) inject(e Event, r *rand.Rand) {
	h := l.hosts[e.Node]
	peer := l.hosts[e.Peer]
	done := l.happens(e.Kind)
	lasting := func(undo func()) {
		l.after(e.For, func() {
			undo()
			done()
		})
	}
	cut := func(from, to string) func() {
		l.net.cut(from, to, true)
		return func() { l.net.cut(from, to, false) }
	}
	switch e.Kind {
	case Crash:
		l.down(h, faultfs.Random(r.Uint64()), e.For, done)
	case Kill:
		l.down(h, faultfs.Everything(), e.For, done)
	case Blackout:
		for _, h := range l.hosts {
			l.down(h, faultfs.Random(r.Uint64()), e.For, func() {})
		}
		l.after(e.For, done)
	case Stop:
		h.keepDown(true)
		l.all.Go(func() {
			if err := h.stop(); err != nil {
				l.log.note("a clean stop of %s: %v", h.name, err)
			}
			l.sleep(e.For)
			h.keepDown(false)
			done()
			h.start()
		})
	case Cut:
		undo := []func(){cut(peer.name, h.name)}
		if e.Arg == 1 {
			undo = append(undo, cut(h.name, peer.name))
		}
		lasting(all(undo))
	case Isolate:
		lasting(l.isolate(h, e.Arg == 1))
	case Deaf:
		var undo []func()
		for _, o := range l.reaching(h) {
			undo = append(undo, cut(o, h.name))
		}
		lasting(all(undo))
	case CutStore:
		l.tokens.reachable(h.name, false)
		lasting(func() { l.tokens.reachable(h.name, true) })
	case Reset:
		l.net.reset(h.name, "")
		l.after(10*time.Millisecond, done)
	case Noise:
		l.net.noise(h.name, true)
		l.net.reset(h.name, peer.name)
		lasting(func() { l.net.noise(h.name, false) })
	case SlowSync:
		lasting(l.slow(h))
	case Freeze:
		undo := []func(){l.isolate(h, true), l.slow(h), cut(clients, h.name+"/service"), cut(h.name+"/service", clients)}
		lasting(all(undo))
	case FailSync:
		l.failing(h, faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Path: "wal/*.seg", Times: 1, Fault: faultfs.DropPages(errInjected)}, e, done)
	case FailWrite:
		l.failing(h, faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpWrite}, Path: "wal/*.seg", Times: 1, Fault: faultfs.Short(r.IntN(500), errInjected)}, e, done)
	case FailEpoch:
		kind := []faultfs.Kind{faultfs.OpSync, faultfs.OpWrite}[r.IntN(2)]
		l.failing(h, faultfs.Rule{Ops: []faultfs.Kind{kind}, Path: "epoch", Times: 1, Fault: faultfs.Fail(errInjected)}, e, done)
	case Stick:
		if p := h.running(); p != nil {
			p.stick(4 * e.For)
		}
		l.after(4*e.For, done)
	case Fill:
		lasting(h.fill(r))
	case Rot:
		l.decay(h, e, r, done)
	case Wipe:
		l.lose(h, e.For, done)
	case Coup:
		undo := func() {}
		if a := l.active(); a != nil && a != h {
			undo = l.isolate(a, false)
		}
		l.ask(h, admin.PromoteRequest{Reason: "coup"})
		lasting(undo)
	case Promote:
		l.ask(h, admin.PromoteRequest{})
		done()
	case Twice:
		l.ask(h, admin.PromoteRequest{})
		l.ask(peer, admin.PromoteRequest{})
		done()
	case Force:
		l.ask(h, admin.PromoteRequest{AllowDataLoss: true, Reason: consentReason + "by hand"})
		done()
	case Switchover:
		l.post(h, admin.PathSwitchover, admin.SwitchoverRequest{To: h.name})
		done()
	case NoWitness:
		l.witness.down(faultfs.Random(r.Uint64()), e.For, done)
	case CutWitness:
		var undo []func()
		for _, o := range l.hosts {
			if undo = append(undo, cut(o.name, witnessName)); e.Arg == 1 {
				undo = append(undo, cut(witnessName, o.name))
			}
		}
		lasting(all(undo))
	case Pause:
		l.count(func(s *Stats) { s.Paused++ })
		l.post(h, admin.PathPause, admin.PauseRequest{Reason: "for a test"})
		l.after(e.For, func() { l.post(h, admin.PathPause, admin.PauseRequest{Resume: true}) })
		done()
	case Demote:
		if a := l.active(); a != nil {
			l.post(a, admin.PathDemote, admin.DemoteRequest{Reason: "for a test"})
		}
		done()
	}
}

func all(undo []func()) func() {
	return func() {
		for _, fn := range undo {
			fn()
		}
	}
}

func (l *life) others(h *host) []*host {
	var hs []*host
	for _, o := range l.hosts {
		if o != h {
			hs = append(hs, o)
		}
	}
	return hs
}

// reaching are the names of all nodes that a node talks to.
func (l *life) reaching(h *host) (names []string) {
	for _, o := range l.others(h) {
		names = append(names, o.name)
	}
	if l.witness != nil {
		names = append(names, witnessName)
	}
	return names
}

// isolate cuts a node off from all others, and from the token store.
func (l *life) isolate(h *host, store bool) func() {
	for _, o := range l.reaching(h) {
		l.net.cut(h.name, o, true)
		l.net.cut(o, h.name, true)
	}
	if store {
		l.tokens.reachable(h.name, false)
	}
	return func() {
		for _, o := range l.reaching(h) {
			l.net.cut(h.name, o, false)
			l.net.cut(o, h.name, false)
		}
		if store {
			l.tokens.reachable(h.name, true)
		}
	}
}

// slow makes the syncs of the log slow, as long as the process lives.
func (l *life) slow(h *host) func() {
	p := h.running()
	if p == nil {
		return func() {}
	}
	a := p.slowSyncs(2 * time.Second)
	return a.Stop
}

// down ends a process and starts the next one later.
func (l *life) down(h *host, policy faultfs.Policy, d time.Duration, done func()) {
	h.keepDown(true)
	h.die(policy)
	l.after(d, func() {
		h.keepDown(false)
		done()
		h.start()
	})
}

// failing lets one operation of a process fail. The process ends by itself, unless no such operation comes within the time.
func (l *life) failing(h *host, rule faultfs.Rule, e Event, done func()) {
	p := h.running()
	if p == nil {
		done()
		return
	}
	a := p.fs.Add(rule)
	l.after(e.For, func() {
		a.Stop()
		done()
	})
}

// lose empties the disk of a node, when all the others have what it has and none is in trouble: more than one disk at a time is not what R1 promises for. The
// emptied node is started when the others are up and agree: an empty node has forgotten what it promised (coresim's TestCareless).
func (l *life) lose(h *host, d time.Duration, done func()) {
	if l.c.K == 0 || l.c.Shrink || l.unhealthy(false) != "" {
		done()
		return
	}
	h.keepDown(true)
	if !h.die(faultfs.Nothing()) {
		h.keepDown(false)
		done()
		return
	}
	h.wipe()
	l.all.Go(func() {
		l.sleep(d)
		for !l.over() && !l.agreed(h) {
			l.sleep(100 * time.Millisecond)
		}
		h.keepDown(false)
		done()
		h.start()
	})
}

// agreed reports whether all nodes but h run and obey one epoch.
func (l *life) agreed(h *host) bool {
	var first admin.NodeStatus
	for i, o := range l.others(h) {
		p := o.running()
		if p == nil {
			return false
		}
		s := p.status()
		if i == 0 {
			first = s
		}
		if s.Epoch != first.Epoch || s.Holder != first.Holder {
			return false
		}
	}
	return true
}

// ask has a person promote a node, in the background.
func (l *life) ask(h *host, req admin.PromoteRequest) {
	p := h.running()
	if p == nil {
		return
	}
	l.all.Go(func() { _ = l.promote(p, req) })
}

func (l *life) promote(p *process, req admin.PromoteRequest) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	_, err := p.node.Promote(ctx, req)
	if ctx.Err() != nil && time.Since(began) >= time.Minute {
		l.facts.fail("R12", "a promotion of %s has lasted a minute: %v", p.h.name, err)
	}
	l.count(func(s *Stats) {
		if err == nil {
			s.Promotions++
		} else {
			s.Refused++
		}
	})
	if err != nil {
		l.log.note("promotion of %s: %v", p.h.name, err)
	}
	return err
}

// post asks the admin API of a node, in the background.
func (l *life) post(h *host, to string, req any) {
	p := h.running()
	if p == nil {
		return
	}
	l.all.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := p.post(ctx, to, req)
		switch {
		case err != nil:
			l.log.note("%s at %s: %v", to, h.name, err)
		case to == admin.PathSwitchover:
			l.count(func(s *Stats) { s.Switchovers++ })
		}
	})
}
