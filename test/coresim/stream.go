package coresim

import (
	"repld/replicate"
	"repld/wal"
)

// stream is one log stream: two ordered directions that lose nothing until they break. When a message is lost, its direction is broken for good, and each end finds
// out by itself, later; the other direction may go on for a while.
type stream struct {
	s       *Sim
	ends    [2]*proc // 0 the standby, 1 the sender
	last    [2]Time  // arrival of the last message, by the end that sends
	broken  [2]bool
	closed  [2]bool
	purpose replicate.Purpose
	follow  *follow
	served  *served
}

// The ends of a stream.
const (
	standbyEnd = 0
	senderEnd  = 1
)

// send puts a message under way from an end.
func (t *stream) send(from int, msg any) {
	s, to := t.s, 1-from
	if t.closed[from] || t.broken[from] || t.ends[from].dead {
		return
	}
	if s.lost(t.ends[from].n.id, t.ends[to].n.id) {
		t.broken[from] = true
		for end := range t.ends {
			s.after(s.between(200*ms, sc), t.ends[end], func() { t.brokenAt(end) })
		}
		return
	}
	t.last[from] = max(t.last[from], s.now+s.delay())
	s.at(t.last[from], t.ends[to], func() {
		if !t.closed[to] {
			t.deliver(to, msg)
		}
	})
}

func (t *stream) deliver(end int, msg any) {
	h, joins := msg.(hello)
	switch {
	case end == standbyEnd:
		t.follow.take(msg)
	case joins:
		t.ends[senderEnd].acceptStream(t, h)
	case t.served != nil:
		t.served.take(msg)
	}
}

// brokenAt is an end that finds its stream dead.
func (t *stream) brokenAt(end int) {
	if t.closed[end] {
		return
	}
	if end == standbyEnd {
		t.follow.end(errStreamDown)
	} else if t.served != nil {
		t.served.end()
	}
}

// close closes one end; the other one hears of it, or finds out.
func (t *stream) close(end int) {
	if t.closed[end] {
		return
	}
	t.closed[end] = true
	other := 1 - end
	d := t.s.delay()
	if t.s.lost(t.ends[end].n.id, t.ends[other].n.id) {
		d = t.s.between(200*ms, sc)
	}
	t.s.at(max(t.last[end], t.s.now+d), t.ends[other], func() { t.brokenAt(other) })
}

// openStream opens a log stream to node `to` and says hello.
func (p *proc) openStream(to string, purpose replicate.Purpose, until wal.Position) (*follow, error) {
	s, n := p.s, p.s.byName(to)
	if n.proc == nil || !s.reach(p.n.id, n.id) || !s.reach(n.id, p.n.id) || s.lost(p.n.id, n.id) {
		return nil, errNoSession
	}
	t := &stream{s: s, ends: [2]*proc{p, n.proc}, purpose: purpose}
	t.follow = &follow{p: p, t: t, source: to, purpose: purpose, until: until, state: replicate.StateProbe}
	p.follower.receiving = t.follow
	t.follow.hello()
	return t.follow, nil
}

// peerDied makes the streams of a process that crashed end at their other ends.
func (s *Sim) peerDied(dead *proc) {
	for _, n := range s.nodes {
		p := n.proc
		if p == nil || p == dead {
			continue
		}
		d := s.delay()
		if s.lost(dead.n.id, n.id) {
			d = s.between(200*ms, sc)
		}
		if f := p.follower.receiving; f != nil && f.t.ends[senderEnd] == dead {
			s.after(d, p, func() { f.t.brokenAt(standbyEnd) })
		}
		for _, sv := range p.served {
			if sv.t.ends[standbyEnd] == dead {
				s.after(d, p, func() { sv.t.brokenAt(senderEnd) })
			}
		}
	}
}

// Messages of a stream, as in package replicate.
type (
	hello struct {
		epoch       wal.Epoch
		start, end  wal.Position
		applied     wal.LSN
		voter       bool
		incarnation uint64
		purpose     replicate.Purpose
	}
	welcome struct {
		epoch     wal.Epoch
		holder    string
		sync      wal.SyncSet
		committed wal.LSN
		end       wal.LSN
	}
	reject struct {
		why    string
		epoch  wal.Epoch
		holder string
	}
	probe  struct{ lsn wal.LSN }
	probed struct {
		at wal.Position
		ok bool
	}
	begin struct {
		from   wal.Position
		revoke bool
		target wal.LSN
	}
	ready     struct{ at wal.Position }
	rebuild   struct{ reason string }
	heartbeat struct {
		epoch          wal.Epoch
		committed, end wal.LSN
	}
	notice struct {
		epoch wal.Epoch
		sync  wal.SyncSet
	}
	seed    struct{ at wal.Position }
	resumed struct {
		start, end wal.Position
	}
	ack struct {
		epoch   wal.Epoch
		durable wal.LSN
		sync    uint64
		voter   bool
	}
)
