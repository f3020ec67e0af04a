package coresim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"repld/failover"
	"repld/replicate"
	"repld/wal"
)

var errCanceled = errors.New("cancelled")

// answer is group.answer.
func (p *proc) answer() failover.Answer {
	st := p.fence.State()
	a := st.Answer(p.n.name)
	a.Incarnation = strconv.FormatUint(p.n.disk.incarnation, 10)
	a.Doubt = p.doubt && !a.Voter
	a.Role = p.machine.Role()
	a.Position = p.log().Durable()
	a.Committed = p.commit.lsn
	a.Applied = p.applied.LSN
	if p.voter != nil {
		a.LeaseOf, a.LeaseLeft = p.voter.promise.Left(a.Epoch, p.n.clock())
	}
	a.Blank = p.log().End() == wal.Position{} && p.log().Start() == wal.Position{}
	if p.s.mutant(CountNonVoter) {
		a.Voter = true
	}
	if p.s.mutant(ForgetTenures) && len(a.Tenures) > 1 {
		a.Tenures, a.Forgotten = a.Tenures[len(a.Tenures)-1:], 0
	}
	p.answered()
	return a
}

// answered tells the checker that this node speaks under its epoch (R3).
func (p *proc) answered() {
	if e := p.fence.Epoch(); e > 0 {
		p.s.check.Answered(p.n.name, p.n.disk.incarnation, e, p.fence.Holder())
	}
}

// askAll asks every peer and goes on with all answers, its own among them, when each has answered or been given up.
func (p *proc) askAll(what string, ask func(q *proc, r reply), done func([]failover.Answer)) {
	var peers []*node
	for _, o := range p.s.nodes {
		if o != p.n {
			peers = append(peers, o)
		}
	}
	answers, left := make([]failover.Answer, len(peers)), len(peers)
	if left == 0 {
		done([]failover.Answer{p.answer()})
		return
	}
	for i, o := range peers {
		p.call(o.id, what, 500*ms, ask, func(a any, err error) {
			answers[i] = failover.Answer{Node: o.name}
			if err == nil {
				answers[i] = a.(failover.Answer)
				answers[i].Node, answers[i].Reachable = o.name, true
			} else {
				answers[i].Err = err.Error()
			}
			if left--; left == 0 {
				done(append(answers, p.answer()))
			}
		})
	}
}

func (p *proc) survey(a failover.Survey, done func(failover.Event)) {
	p.withToken("load token", 0, nil, func(rec failover.Record, err error) {
		if err != nil {
			done(failover.SurveyDone{Attempt: a.Attempt, Err: err})
			return
		}
		p.askAll("survey", func(q *proc, r reply) { r(q.answer(), nil) }, func(all []failover.Answer) {
			done(failover.SurveyDone{Attempt: a.Attempt, Answers: all, Token: rec})
		})
	})
}

// acquire is jobs.acquire: the token, then this node's own promise.
func (p *proc) acquire(a failover.AcquireToken, done func(failover.Event)) {
	p.withToken("take token", a.Rev, &a.Record, func(_ failover.Record, err error) {
		if err == nil {
			err = p.fence.Grant(a.Record.Epoch, p.n.name, a.Record.Sync)
		}
		switch {
		case p.dead:
		case err != nil:
			if errors.Is(err, failover.ErrFailed) {
				p.storeFailed(err)
			}
			done(failover.TokenLost{Attempt: a.Attempt, Err: err})
		default:
			done(failover.TokenWon{Attempt: a.Attempt})
		}
	})
}

// fencePeers is jobs.fence.
func (p *proc) fencePeers(j *job, a failover.FencePeers, done func(failover.Event)) {
	p.follower.to(p, "")
	p.await(j, 0, p.follower.settled, func(ok bool) {
		if !ok || j.canceled {
			done(failover.FenceDone{Attempt: a.Attempt, Err: errCanceled})
			return
		}
		p.askAll("fence", func(q *proc, r reply) { q.grant(a.Epoch, p.n.name, a.Next, r) }, func(all []failover.Answer) {
			p.runner.counted = nil
			for _, x := range all {
				if x.Reachable && x.Epoch == a.Epoch && x.Holder == p.n.name && (x.Voter || x.Doubt) && !x.Blank {
					p.runner.counted = append(p.runner.counted, x)
				}
				p.s.say(p.n, "answer of %s: reachable %v, epoch %d of %s, at %v, committed %d, voter %v, doubt %v", x.Node, x.Reachable, x.Epoch, x.Holder,
					x.Position, x.Committed, x.Voter, x.Doubt)
			}
			if p.voter != nil {
				p.voter.lease.fenced(p, a.Epoch, all)
			}
			done(failover.FenceDone{Attempt: a.Attempt, Answers: all})
		})
	})
}

// grant is group.grant: when it answers, the promise is durable and nothing of an older epoch moves the log any more.
func (p *proc) grant(e wal.Epoch, candidate string, next wal.SyncSet, r reply) {
	if p.s.mutant(UnsavedGrant) && e > p.fence.Epoch() {
		a := p.answer()
		t := failover.Tenure{Epoch: e, Holder: candidate, Sync: next}
		a.Epoch, a.Holder, a.Sync, a.Tenures = e, candidate, next, append(slices.Clone(a.Tenures), t)
		p.s.check.Answered(p.n.name, p.n.disk.incarnation, e, candidate)
		r(a, nil)
		return
	}
	err := p.fence.Grant(e, candidate, next)
	switch {
	case p.dead:
		return
	case errors.Is(err, failover.ErrFailed):
		p.fatal()
		return
	case errors.Is(err, failover.ErrStaleEpoch), errors.Is(err, failover.ErrConflict):
		r(p.answer(), nil)
		return
	case err != nil:
		r(nil, err)
		return
	}
	settled := p.follower.settled
	if p.s.mutant(IgnoreEpoch) {
		settled = func() bool { return true }
	}
	p.await(nil, 500*ms, settled, func(ok bool) {
		if ok {
			r(p.answer(), nil)
		}
	})
}

func (p *proc) fastForward(j *job, a failover.FastForward, done func(failover.Event)) {
	if j.canceled || p.s.mutant(NoFastForward) {
		done(failover.FastForwardDone{Attempt: a.Attempt})
		return
	}
	f, err := p.openStream(a.From, replicate.FastForward, a.To)
	if err != nil {
		done(failover.FastForwardDone{Attempt: a.Attempt, Err: err})
		return
	}
	f.progressed = func() { p.stepAfterUrgent(failover.Progressed{Attempt: a.Attempt}) }
	f.ended = func(err error) {
		p.streamEnded(err)
		done(failover.FastForwardDone{Attempt: a.Attempt, Err: err})
	}
	j.onCancel = f.cancel
}

// startEpoch is group.startEpoch: the writer, the commit rule, the epoch-start record.
func (p *proc) startEpoch(j *job, a failover.StartEpoch, done func(failover.Event)) {
	fail := func(err error) { done(failover.EpochStarted{Attempt: a.Attempt, Err: err}) }
	start := a.Start
	end := p.log().End()
	ours := func() bool { return p.fence.Epoch() == start.Epoch && p.fence.Holder() == p.n.name }
	if j.canceled || p.writer != nil || p.log().failed {
		fail(errCanceled)
		return
	}
	p.judge(start)
	p.writer = &writer{p: p, epoch: start.Epoch, last: end.LSN}
	rule := replicate.NewCommitRule(p.n.name, start.Sync, p.commit.lsn, end.LSN+1)
	rule.Durable(p.log().Durable().LSN)
	if !ours() {
		fail(failover.ErrFenced)
		return
	}
	p.commit.rule = rule
	if end == (wal.Position{}) && !p.setVoter(true) {
		return
	}
	if p.voter != nil {
		p.voter.lease.begin(p, start.Epoch, start.Sync)
	}
	p.serving, p.sync = start.Epoch, start.Sync
	p.s.records++
	lsn, err := p.writer.append(p.s.records)
	if err != nil {
		fail(err)
		return
	}
	p.await(j, 0, func() bool { return p.commit.lsn >= lsn && ours() }, func(ok bool) {
		if !ok {
			fail(fmt.Errorf("epoch-start record %d is not committed: %w", lsn, errCanceled))
			return
		}
		if p.setVoter(true) {
			done(failover.EpochStarted{Attempt: a.Attempt, LSN: lsn})
		}
	})
}

// judge tells the checker what the promotion rests on: consent, and nodes that count. A disk that was set back to an older copy cannot be known as such; a promotion that
// counts one is excused, as is one that counts a rotten log when nothing but that log was promised.
func (p *proc) judge(start wal.EpochStart) {
	s := p.s
	if start.LostFrom > 0 {
		s.stats.Consented++
		s.check.Consented(start.Epoch)
		return
	}
	back, hurt := false, 0
	for _, n := range s.nodes {
		if n.setBack || s.check.Owes(n.name) {
			hurt++
		}
		back = back || n.setBack && slices.ContainsFunc(p.runner.counted, func(a failover.Answer) bool { return a.Node == n.name })
	}
	if back && (hurt > 1 || s.c.K == 0 || s.weak || s.copies) {
		s.stats.Excused++
		s.check.Consented(start.Epoch)
		return
	}
	for _, a := range p.runner.counted {
		if !a.Voter {
			continue // in doubt: counted only when all answered, and nobody is left who could know more (R8)
		}
		if d := s.byName(a.Node).disk; strconv.FormatUint(d.incarnation, 10) == a.Incarnation {
			s.check.Counted(a.Node, fmt.Sprintf("epoch %d", start.Epoch), d.log)
		}
	}
}

func (p *proc) replay(j *job, a failover.Replay, done func(failover.Event)) {
	p.rush = true
	p.kickApplier()
	target := p.commit.lsn
	p.await(j, 0, func() bool { return p.applied.LSN >= target }, func(ok bool) {
		if !ok {
			done(failover.ReplayDone{Attempt: a.Attempt, Err: errCanceled})
			return
		}
		p.outlastOlder(j, func(ok bool) {
			if !ok {
				done(failover.ReplayDone{Attempt: a.Attempt, Err: errCanceled})
				return
			}
			done(failover.ReplayDone{Attempt: a.Attempt})
		})
	})
}

func (p *proc) drain(j *job, a failover.Drain, done func(failover.Event)) {
	ready := func() bool {
		end := p.log().Durable()
		return p.seq.idle(p) && p.log().End() == end && p.commit.lsn >= end.LSN && p.durableAt(a.To) >= end.LSN
	}
	p.await(j, 0, ready, func(ok bool) {
		if !ok {
			done(failover.Drained{Attempt: a.Attempt, Err: errCanceled})
			return
		}
		done(failover.Drained{Attempt: a.Attempt, Position: p.log().Durable()})
	})
}

func (p *proc) handOver(j *job, a failover.HandOver, done func(failover.Event)) {
	answered, epoch, failed := false, wal.Epoch(0), error(nil)
	p.call(p.s.byName(a.To).id, "take over", 30*sc, func(q *proc, r reply) {
		if q.log().Durable() != a.At {
			r(nil, errGap)
			return
		}
		q.promote(failover.PromoteOptions{Reason: "switchover"}, func(rep failover.Report) { r(rep.Result.Epoch, rep.Err) })
	}, func(answer any, err error) {
		answered, failed = true, err
		if err == nil {
			epoch = answer.(wal.Epoch)
		}
		p.changed()
	})
	p.await(j, 0, func() bool { return answered }, func(ok bool) {
		if !ok {
			failed = errCanceled
		}
		done(failover.HandedOver{Attempt: a.Attempt, Epoch: epoch, Err: failed})
	})
}

// stopWriter is group.stopWriter: what is queued is still written.
func (p *proc) stopWriter(a failover.StopWriter, done func(failover.Event)) {
	p.serving, p.commit.rule = 0, nil
	w := p.writer
	p.writer = nil
	end := func() {
		var err error
		if w != nil && w.failed {
			err = errFailed
		}
		done(failover.WriterStopped{Attempt: a.Attempt, Err: err})
	}
	if w == nil || w.failed {
		end()
		return
	}
	w.close(end)
}
