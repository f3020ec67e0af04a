package coresim

import (
	"errors"
	"slices"

	"repld/failover"
	"repld/wal"
)

// voter is internal/node's voter and auto.go in steps, around the production failover.Detector and failover.Promise: heartbeats, polls, and what they lead to. The
// lease is in lease.go.
type voter struct {
	p        *proc
	detector *failover.Detector
	promise  failover.Promise
	lease    readLease
	heardLog *traffic // newest sign of the active on the log stream, nil when it was told

	// What the model needs to judge this voter's votes (R14): whom it acked last, when, and what that node said of itself since.
	acked struct {
		node  string
		epoch wal.Epoch
		at    failover.Mono
		over  bool // it is dead for sure, or says that it serves no more
	}
}

type traffic struct {
	node  string
	epoch wal.Epoch
}

// Lengths of time of the voters, as in production.
const (
	beatEvery    = 100 * ms
	detectEvery  = 40 * ms
	suspectAfter = 500 * ms
	leaseLength  = 500 * ms
)

// mono is a length of time for the pure machines.
func mono(d Time) failover.Mono { return failover.Mono(d) * 1000 }

// clock is the node's clock for leases. It drifts by no more than a lease gives away for (4 % each, two of them are less than a tenth apart).
func (n *node) clock() failover.Mono {
	return mono(n.s.now) / 1000 * failover.Mono(1000+n.leaseDrift)
}

func (p *proc) startVoter() {
	s := p.s
	auto := s.c.Elections
	margin := mono(leaseLength / 10)
	v := &voter{p: p}
	v.promise.Length = mono(leaseLength)
	if e, h := p.fence.Epoch(), p.fence.Holder(); e > 0 && !s.mutant(ForgetPromise) {
		v.promise.Start(h, e, p.n.clock())
	}
	v.lease.init(failover.LeaseOptions{Voters: p.names()[1:], Majority: p.majority(), Length: mono(leaseLength), Margin: margin})
	v.detector = failover.NewDetector(failover.DetectorOptions{
		Node: p.n.name, Nodes: p.names(), Automatic: auto, Interval: mono(beatEvery), Suspect: mono(suspectAfter), Lease: mono(leaseLength), StepDown: mono(2 * sc),
		Startup: mono(sc), Stagger: mono(beatEvery), Backoff: mono(3 * sc), Preferred: s.c.Preferred, TakeBack: mono(2 * sc),
	})
	p.voter = v
	p.every(detectEvery, v.tick)
	p.every(beatEvery, v.beat)
}

// majority is group.majorityLease.
func (p *proc) majority() bool { return p.s.c.Elections && !p.n.disk.paused.On }

// self is group.self.
func (v *voter) self() failover.Self {
	p := v.p
	st, durable := p.fence.State(), p.log().Durable()
	return failover.Self{Beat: failover.Beat{
		Node: p.n.name, Role: p.machine.Role(), Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync(), Position: durable, End: max(durable.LSN, p.commit.lsn), Voter: st.Voter,
		Blank: durable == (wal.Position{}) && p.log().Start() == (wal.Position{}), Lagged: p.s.c.Lagged == p.n.id, Paused: p.n.disk.paused,
	}}
}

// tick is what voter.run does when its ticker fires.
func (v *voter) tick() {
	if t := v.heardLog; t != nil {
		v.heardLog = nil
		v.step(failover.TrafficHeard{Node: t.node, Epoch: t.epoch})
	}
	v.step(failover.SelfChanged{Self: v.self()})
	v.step(failover.LeaseChanged{Held: v.lease.live(v.p.n.clock())})
	v.step(failover.Clock{Now: v.p.n.clock()})
}

func (v *voter) step(ob failover.Observation) {
	if v.p.dead {
		return
	}
	for _, m := range v.detector.Step(ob) {
		v.do(m)
	}
}

// do is voter.note and group.carryOut.
func (v *voter) do(m failover.Measure) {
	p, s := v.p, v.p.s
	switch m := m.(type) {
	case failover.Suspected:
		s.note(p.n, "suspects "+m.Node, b2u(m.Proof))
		if m.Proof {
			v.promise.Dead(m.Node)
			v.acked.over = v.acked.over || v.acked.node == m.Node
		}
	case failover.Recovered:
		v.promise.Alive(m.Node)
	case failover.AskVotes:
		for _, o := range s.nodes {
			if o != p.n {
				v.poll(o, m)
			}
		}
	case failover.Promote:
		s.note(p.n, "elected")
		s.stats.Elections++
		v.promote(m.Reason, nil)
	case failover.GiveUp:
		s.note(p.n, "gives up")
		s.stats.GivenUp++
		p.s.after(0, p, func() {
			p.request(func(id uint64) failover.Event { return failover.DemoteRequested{ID: id, Reason: m.Reason} }, func(failover.Report) {})
		})
	case failover.HandOverTo:
		s.note(p.n, "hands over to "+m.Node)
		p.s.after(0, p, func() {
			p.request(func(id uint64) failover.Event { return failover.SwitchoverRequested{ID: id, To: m.Node} }, func(r failover.Report) {
				if r.Err == nil {
					s.stats.Switchover++
				}
				v.step(failover.SelfChanged{Self: v.self()})
				v.step(failover.TriedHandOver{Err: r.Err})
			})
		})
	}
}

// promote is group.promoteBySelf, without the consent of max_loss.
func (v *voter) promote(reason string, k *int) {
	p := v.p
	p.s.after(0, p, func() {
		if k != nil {
			p.s.weak = p.s.weak || *k < p.s.c.K
		}
		p.promote(failover.PromoteOptions{Reason: reason, K: k}, func(r failover.Report) {
			var refused *failover.RefusedError
			if k == nil && errors.As(r.Err, &refused) {
				if n := v.shrunk(refused.Plan); n != nil {
					v.promote(reason, n)
					return
				}
			}
			v.step(failover.SelfChanged{Self: v.self()})
			v.step(failover.TriedPromotion{Err: r.Err})
		})
	})
}

// shrunk is group.shrunk.
func (v *voter) shrunk(plan failover.Plan) *int {
	if !v.p.s.c.Shrink {
		return nil
	}
	k := 0
	for _, m := range plan.Next.Members {
		if slices.Contains(plan.Have, m) {
			k++
		}
	}
	if k >= plan.Next.K {
		return nil
	}
	return &k
}

// poll asks one voter. What is asked comes with a heartbeat.
func (v *voter) poll(to *node, m failover.AskVotes) {
	p, poll := v.p, m.Poll
	beat := v.self().Beat
	p.call(to.id, "poll", 300*ms, func(q *proc, r reply) {
		if q.voter == nil {
			return
		}
		q.voter.heard(beat)
		if !q.dead {
			r(q.voter.judge(poll), nil)
		}
	}, func(a any, err error) {
		vote := failover.Vote{Reason: "it does not answer"}
		if err == nil {
			vote = a.(failover.Vote)
		}
		v.step(failover.Voted{Round: m.Round, Node: to.name, Vote: vote})
	})
}

// judge is a vote. Who has heard the active within the lease, and has no proof that it is dead and no word of itself that it serves no more, supports nobody else (R14).
func (v *voter) judge(poll failover.Poll) failover.Vote {
	vote := v.detector.Judge(poll)
	if v.p.s.mutant(VoteForAll) {
		vote = failover.Vote{Support: true}
	}
	a, now := v.acked, v.p.n.clock()
	if vote.Support && a.node != "" && a.node != poll.Candidate && !a.over && a.epoch == v.p.fence.Epoch() && now-a.at < mono(leaseLength)-mono(detectEvery)*2 {
		v.p.s.check.Fail("R14", "%s supports %s %d ms after it heard the active %s of epoch %d", v.p.n.name, poll.Candidate, (now-a.at)/1e6, a.node, a.epoch)
	}
	return vote
}

// beat sends heartbeats to all.
func (v *voter) beat() {
	p, s := v.p, v.p.s
	for _, o := range s.nodes {
		if o == p.n || s.lost(p.n.id, o.id) {
			continue
		}
		b, sent := v.self().Beat, p.n.clock()
		s.after(s.delay(), nil, func() {
			q := o.proc
			if q == nil || q.voter == nil {
				return
			}
			s.after(0, q, func() { q.voter.answer(v, b, sent) })
		})
	}
}

// answer is voter.answer, and the way back.
func (v *voter) answer(from *voter, b failover.Beat, sent failover.Mono) {
	p, s := v.p, v.p.s
	v.heard(b)
	if p.dead {
		return
	}
	a := v.ack(b)
	mine := v.self().Beat
	if s.lost(p.n.id, from.p.n.id) {
		return
	}
	s.after(s.delay(), from.p, func() {
		from.heard(mine)
		if !from.p.dead {
			from.answered(p.n.name, a, sent)
		}
	})
}

// heard is group.heardBeat.
func (v *voter) heard(b failover.Beat) {
	p := v.p
	if b.Epoch > p.fence.Epoch() {
		p.observe(epochState{b.Epoch, b.Holder, b.Sync})
	}
	if p.dead {
		return
	}
	v.adopt(b.Paused)
	if v.acked.node == b.Node && b.Role != failover.RoleActive && b.Role != failover.RoleCandidate {
		v.acked.over = true
	}
	v.step(failover.BeatHeard{Beat: b})
}

// adopt is group.adoptMaintenance.
func (v *voter) adopt(m failover.Maintenance) {
	if m.Version > 0 && m.Newer(v.p.n.disk.paused) {
		v.p.n.disk.paused = m
		v.p.leaseTerms()
	}
}

// maintain is group.pauseFailover.
func (v *voter) maintain(on bool) {
	v.adopt(failover.Maintenance{Version: v.p.n.disk.paused.Version + 1, On: on, Reason: "asked for", Node: v.p.n.name})
}

// ack is a voter's answer to a heartbeat.
type beatAck struct {
	supports bool
	epoch    wal.Epoch
	holder   string
	of       string
	left     failover.Mono
}

// ack is voter.ack.
func (v *voter) ack(b failover.Beat) beatAck {
	p := v.p
	a := beatAck{epoch: p.fence.Epoch(), holder: p.fence.Holder()}
	serves := (b.Role == failover.RoleActive || b.Role == failover.RoleCandidate) && b.Holder == b.Node
	if !serves || a.epoch != b.Epoch || a.holder != b.Node {
		return a
	}
	now := p.n.clock()
	if !v.promise.Heard(b.Node, b.Epoch, now) {
		return a
	}
	a.of, a.left = v.promise.Left(b.Epoch, now)
	a.supports = true
	v.acked.node, v.acked.epoch, v.acked.at, v.acked.over = b.Node, b.Epoch, now, false
	return a
}

// answered is group.ackedBeat.
func (v *voter) answered(peer string, a beatAck, sent failover.Mono) {
	p := v.p
	if a.epoch > p.fence.Epoch() {
		p.observe(epochState{epoch: a.epoch, holder: a.holder})
	}
	if a.supports && !p.dead {
		v.lease.acked(p, peer, a, sent)
	}
}

// gone has the peers of a process that died find its connections reset and, if no other process listens there by then, a new one refused: the proof of a death. A
// host that lost its power says neither.
func (s *Sim) gone(dead *node) {
	if s.rng.IntN(2) == 0 {
		return
	}
	for _, n := range s.nodes {
		if n.proc != nil && n != dead && n.proc.voter != nil {
			s.linkBroke(n.proc, dead)
		}
	}
}

// linkBroke: a connection of p with peer was reset, and p tries again.
func (s *Sim) linkBroke(p *proc, peer *node) {
	if s.lost(peer.id, p.n.id) {
		return
	}
	s.after(s.delay(), p, func() {
		p.voter.step(failover.LinkLost{Node: peer.name})
		if p.dead || s.lost(p.n.id, peer.id) || s.lost(peer.id, p.n.id) {
			return
		}
		if peer.proc == nil || s.mutant(ResetIsProof) {
			p.voter.step(failover.LinkRefused{Node: peer.name})
		}
	})
}
