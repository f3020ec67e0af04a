package sim

import (
	"fmt"
	"slices"
	"time"

	"repld/internal/admin"
)

// person looks after the cluster: when nobody has been active for a while, the most advanced node is promoted, then the others.
type person struct {
	l        *life
	patience time.Duration
	attempts int
	since    time.Time // nobody is active, or the cluster has an active and is not healthy
}

func (w *person) run() {
	w.since = time.Now()
	for !w.l.over() {
		w.l.sleep(time.Second)
		w.l.look()
		if w.l.active() != nil {
			w.since = time.Now()
			continue
		}
		if time.Since(w.since) < w.patience {
			continue
		}
		w.act()
		w.since = time.Now()
	}
}

// act promotes one node. With consent only when all were tried several times and a node's log does not count.
func (w *person) act() {
	up := w.l.up()
	if len(up) == 0 {
		return
	}
	slices.SortStableFunc(up, func(a, b *process) int {
		if a.status().Durable.Ahead(b.status().Durable) {
			return -1
		}
		return 1
	})
	p := up[w.attempts%len(up)]
	w.attempts++
	req := admin.PromoteRequest{Reason: "nobody is active"}
	if w.attempts >= 4*len(up) && w.l.quiet() && w.l.unvoted() {
		req.AllowDataLoss, req.Bootstrap, req.Reason = true, true, consentReason+"no other way"
		w.l.count(func(s *Stats) { s.Stuck++ })
	}
	_ = w.l.promote(p, req)
}

// found makes the first node active.
func (l *life) found() {
	for n := 0; !l.quiet(); n++ {
		if p := l.hosts[0].running(); p != nil && l.promote(p, admin.PromoteRequest{Reason: "first", Bootstrap: n > 3}) == nil {
			return
		}
		l.sleep(200 * time.Millisecond)
	}
}

// resume ends all maintenance.
func (l *life) resume() {
	if !l.c.Auto {
		return
	}
	l.all.Go(func() {
		for !l.over() {
			for _, p := range l.up() {
				if f := p.status().Failover; f != nil && f.Paused != nil {
					l.post(p.h, admin.PathPause, admin.PauseRequest{Resume: true})
				}
			}
			l.sleep(2 * time.Second)
		}
	})
}

// look notes what each node promised (R3).
func (l *life) look() {
	if l.witness != nil {
		l.witness.look()
	}
	for _, p := range l.up() {
		s := p.status()
		p.h.mu.Lock()
		inc := p.h.incarnation
		same := p.h.proc == p
		p.h.mu.Unlock()
		if same {
			p.probe.promised(inc, s.Epoch, s.Holder)
		}
	}
}

// up returns the running processes.
func (l *life) up() []*process {
	var all []*process
	for _, h := range l.hosts {
		if p := h.running(); p != nil {
			all = append(all, p)
		}
	}
	return all
}

// active is the host of the active in the highest epoch, nil if there is none.
func (l *life) active() *host {
	var best *host
	var epoch uint64
	for _, p := range l.up() {
		if s := p.status(); s.Role == admin.RoleActive && uint64(s.Epoch) >= epoch {
			best, epoch = p.h, uint64(s.Epoch)
		}
	}
	return best
}

// unvoted reports whether some node's log does not count: then the rule may refuse every promotion though nothing was lost, and consent is the only way out.
func (l *life) unvoted() bool {
	for _, p := range l.up() {
		if s := p.status(); !s.Voter || s.Blank {
			return true
		}
	}
	return false
}

// unhealthy says what is missing to health: one active, the configured sync set, all nodes up and following, and, if they are to be level, at one end.
func (l *life) unhealthy(level bool) string {
	a := l.active()
	if a == nil {
		return "nobody is active"
	}
	p := a.running()
	if p == nil {
		return "the active is down"
	}
	s := p.status()
	if s.Sync.K != l.c.K || len(s.Sync.Members) != l.c.Nodes-1 || s.Degraded != "" {
		return fmt.Sprintf("the sync set of %s is %v, %s", a.name, s.Sync, s.Degraded)
	}
	if level && (s.Durable != s.End || s.Committed != s.End.LSN || s.Applied != s.End) {
		return fmt.Sprintf("%s ends at %v, is durable to %v, committed to %d, applied to %v", a.name, s.End, s.Durable, s.Committed, s.Applied)
	}
	for _, h := range l.others(a) {
		q := h.running()
		if q == nil {
			return h.name + " is down"
		}
		o := q.status()
		switch {
		case o.Epoch != s.Epoch || o.Source != a.name || !o.Voter || o.Role != admin.RoleStandby:
			return fmt.Sprintf("%s is %s, voter %v, obeys epoch %d of %s and follows %q (%s); %s is active in %d; alarms %v", h.name, o.Role, o.Voter, o.Epoch, o.Holder, o.Source, o.Link,
				a.name, s.Epoch, o.Alarms)
		case o.Link != "stream":
			return fmt.Sprintf("%s is linked to %s by %q", h.name, a.name, o.Link)
		case level && (o.Durable != s.Durable || o.Applied != s.Applied):
			return fmt.Sprintf("%s is durable to %v and applied to %v, %s to %v", h.name, o.Durable, o.Applied, a.name, s.Durable)
		}
	}
	return ""
}
