package coresim

import "errors"

var (
	errNoAnswer   = errors.New("no answer")
	errNoSession  = errors.New("no session")
	errStreamDown = errors.New("stream broke")
)

// storeAt is the token store's place in the network, behind the nodes.
const storeAt = 4

// network says who hears whom.
type network struct {
	cut   [storeAt + 1][storeAt + 1]Time // messages from i to j are lost until then
	noise Time                           // 1 of 8 is lost until then
}

func (s *Sim) reach(from, to int) bool { return s.net.cut[from][to] <= s.now }

// lost decides about one message.
func (s *Sim) lost(from, to int) bool {
	if !s.reach(from, to) {
		return true
	}
	if s.net.noise > s.now && s.rng.IntN(8) == 0 {
		return true
	}
	return !s.calm && s.chance(s.c.Loss, 1000)
}

// delay is how long a message takes; now and then long enough to be overtaken.
func (s *Sim) delay() Time {
	switch r := s.rng.IntN(100); {
	case r < 2 && !s.calm:
		return s.between(10*ms, 200*ms)
	case r < 10:
		return s.between(2*ms, 15*ms)
	}
	return s.between(100*us, 2*ms)
}

// reply answers a call. It may be called later, once or not at all.
type reply func(answer any, err error)

// call asks node `to` something, as a call over HTTP does: one request, one answer or an error, never both. The request may arrive twice, or late.
func (p *proc) call(to int, what string, limit Time, ask func(q *proc, r reply), done func(answer any, err error)) {
	s, over := p.s, false
	end := func(answer any, err error) {
		if !over {
			over = true
			done(answer, err)
		}
	}
	if s.c.Leases && !(s.reach(p.n.id, to) && s.reach(to, p.n.id)) && s.rng.IntN(2) == 0 { // the sessions were reset when the link was cut
		s.after(s.between(0, 2*ms), p, func() { end(nil, errNoSession) })
		return
	}
	s.after(limit, p, func() { end(nil, errNoAnswer) })
	times := 1
	if !s.calm && s.rng.IntN(50) == 0 {
		times = 2
	}
	for range times {
		if s.lost(p.n.id, to) {
			continue
		}
		s.after(s.delay(), nil, func() {
			q := s.nodes[to].proc
			if q == nil {
				return
			}
			s.after(0, q, func() {
				s.note(q.n, what, uint64(p.n.id))
				ask(q, func(answer any, err error) {
					if q.dead || s.lost(to, p.n.id) {
						return
					}
					s.after(s.delay(), p, func() { end(answer, err) })
				})
			})
		})
	}
}
