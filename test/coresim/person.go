package coresim

import (
	"slices"

	"repld/failover"
	"repld/replicate"
)

// clients write on whoever is open, and remember what was acked.
type clients struct {
	last bool // the final write of the liveness phase was acked
}

func (s *Sim) startClients() {
	s.after(s.c.Pace, nil, s.clientWrites)
}

func (s *Sim) clientWrites() {
	if s.calm {
		return
	}
	s.after(s.between(100*us, 2*s.c.Pace), nil, s.clientWrites)
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	for range 1 + s.rng.IntN(3) {
		s.write(n, func(error) {})
	}
	if s.c.Leases {
		s.read(s.nodes[s.rng.IntN(len(s.nodes))])
	}
}

// write has one record written by a client of n, if n is open.
func (s *Sim) write(n *node, done func(error)) {
	p := n.proc
	if p == nil || !p.seq.open || n.paused > s.now {
		return
	}
	s.records++
	record, epoch := s.records, p.fence.Epoch()
	s.stats.Written++
	p.seq.submit(p, waiter{record: record, done: func(lsn lsn, err error) {
		switch err {
		case nil:
			s.stats.Acked++
			s.check.Acked(n.name, epoch, lsn, record)
		case errUnknown:
			s.stats.Unknown++
		}
		done(err)
	}})
}

// person looks after the cluster: once at its beginning, and when the faults have stopped.
type person struct {
	waiting  bool // for the answer to a request
	attempts int
	founding int
	sick     Time // since when the cluster has an active and is not healthy
	since    Time // nobody, or more than one, is active
}

// ask has a person type something at a node.
func (s *Sim) promote(n *node, o failover.PromoteOptions, done func(failover.Report)) bool {
	p := n.proc
	if p == nil || n.paused > s.now {
		return false
	}
	if o.Reason == "" {
		o.Reason = "asked for"
	}
	if o.K != nil && *o.K < s.c.K {
		s.weak = true
	}
	p.promote(o, done)
	return true
}

// found makes the first node active.
func (s *Sim) found() {
	w := &s.person
	w.founding++
	s.promote(s.nodes[0], failover.PromoteOptions{Bootstrap: w.founding > 3}, func(r failover.Report) {
		if r.Err != nil && s.check.End().LSN == 0 {
			s.after(100*ms, nil, s.found)
		}
	})
}

func (s *Sim) open() []*node {
	var out []*node
	for _, n := range s.nodes {
		if n.proc != nil && n.proc.seq.open {
			out = append(out, n)
		}
	}
	return out
}

// attend is what a person does in the end: if there is no active, one node after the other is promoted, the most advanced first; with consent to loss only when there
// was reason for loss.
func (s *Sim) attend() {
	if !s.calm || s.check.Err() != nil {
		return
	}
	s.after(200*ms, nil, s.attend)
	w := &s.person
	open := s.open()
	if len(open) == 1 {
		w.since = s.now
		s.nudge(open[0])
		return
	}
	patience := sc
	if s.c.Elections {
		patience = 20 * sc // they do it themselves
	}
	if w.waiting || s.now-w.since < patience {
		return
	}
	if len(open) > 1 {
		w.since = s.now
		p := open[0].proc
		p.request(func(id uint64) failover.Event { return failover.DemoteRequested{ID: id, Reason: "two are active"} }, func(failover.Report) {})
		return
	}
	order := slices.Clone(s.nodes)
	slices.SortStableFunc(order, func(a, b *node) int {
		if a.disk.log.Durable().Ahead(b.disk.log.Durable()) {
			return -1
		}
		return 1
	})
	o := failover.PromoteOptions{Reason: "nobody is active"}
	if w.attempts >= 3*len(order) && (s.hurt || s.unvoted()) {
		if !s.hurt {
			s.stats.Stuck++
			s.hurt = true
		}
		o.AllowDataLoss, o.Bootstrap = true, true
	}
	if w.attempts >= 3*len(order) && s.check.End().LSN == 0 {
		o.Bootstrap = true // an unfinished beginning: the token knows an epoch, nobody holds anything
	}
	n := order[w.attempts%len(order)]
	w.attempts++
	w.waiting = s.promote(n, o, func(failover.Report) { w.waiting = false })
	if p := n.proc; p != nil && w.waiting {
		s.after(60*sc, nil, func() { w.waiting = false }) // the node may die before it answers
		watch(s, p, w)
	}
}

// unvoted reports whether a node's log does not count: no disk was lost, but its owner was cut off while it began the cluster's first epoch, or in the middle of a
// fast-forward by snapshot. The rule may then refuse every promotion, and consent is the only way out.
func (s *Sim) unvoted() bool {
	for _, n := range s.nodes {
		if p := n.proc; p != nil && (!p.fence.Voter() || p.answer().Blank) {
			return true
		}
	}
	return false
}

// nudge is what a person does about a standby that does not come back although there is an active: a new epoch, by promoting another node.
func (s *Sim) nudge(active *node) {
	w := &s.person
	switch {
	case s.unhealthy() == "":
		w.sick = s.now
	case s.now-w.sick > 30*sc && !w.waiting:
		w.sick = s.now
		s.stats.Nudged++
		for _, n := range s.nodes {
			if n != active && n.disk.log.Durable() == active.disk.log.Durable() && n.proc != nil {
				w.waiting = s.promote(n, failover.PromoteOptions{Reason: "a standby does not come back"}, func(failover.Report) { w.waiting = false })
				watch(s, n.proc, w)
				return
			}
		}
	}
}

// watch stops waiting for a process that died.
func watch(s *Sim, p *proc, w *person) {
	s.after(200*ms, nil, func() {
		switch {
		case !w.waiting:
		case p.dead:
			w.waiting = false
		default:
			watch(s, p, w)
		}
	})
}

// unhealthy says what is missing to health: one active, the configured sync set in force, and all nodes at one end: durable, committed and applied.
func (s *Sim) unhealthy() string {
	open := s.open()
	if len(open) != 1 {
		return "not one node is open"
	}
	p := open[0].proc
	if p.machine.Role() != failover.RoleActive || p.commit.rule == nil {
		return p.n.name + " is not active"
	}
	set, pending := p.commit.rule.Rule()
	if pending != nil || set.K != s.c.K || len(set.Members) != len(s.nodes)-1 {
		return "the sync set is " + set.String()
	}
	end := p.log().End()
	for _, n := range s.nodes {
		switch q := n.proc; {
		case q == nil:
			return n.name + " is down"
		case q.log().Durable() != end || q.log().End() != end || q.commit.lsn != end.LSN || q.applied != end:
			return n.name + " is behind"
		case q == p:
		case q.machine.Role() != failover.RoleStandby || q.fence.Epoch() != p.fence.Epoch() || !q.fence.Voter():
			return n.name + " is not a standby that votes"
		case !p.streams(n.name):
			return n.name + " does not follow"
		}
	}
	return ""
}

// streams reports whether a standby is served and counts.
func (p *proc) streams(name string) bool {
	for _, sv := range p.served {
		if sv.peer.name == name && sv.counts && sv.progress.State() == replicate.StateStream {
			return true
		}
	}
	return false
}
