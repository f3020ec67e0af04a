package coresim

import (
	"fmt"

	"repld/failover"
	"repld/wal"
)

// runner is failover.Runner in steps: the loop that owns the machine, its inbox, and the jobs it starts.
type runner struct {
	lastID  uint64
	waiting map[uint64]func(failover.Report)
	higher  *failover.HigherEpochSeen
	failed  *failover.StoreFailed
	jobs    []*job
	log     *job // holds the log
	queue   []func()
	exiting bool
	counted []failover.Answer // whose logs counted in the last fence
}

// job is an action under way.
type job struct {
	attempt  uint64
	canceled bool
	onCancel func()
}

// bound is Runner.bound with the default bounds, divided by the configuration's patience.
func (p *proc) bound(stage string) int {
	seconds := map[string]int{"survey": 5, "token": 10, "fence": 10, "fast-forward": 15, "epoch start": 15, "replay": 30, "drain": 10, "hand-over": 30,
		"stop of the writer": 15}[stage]
	return max(2, seconds*10/p.s.c.Patience)
}

func (p *proc) higherEpoch(e wal.Epoch, holder string) {
	if h := p.runner.higher; h == nil || e > h.Epoch {
		p.runner.higher = &failover.HigherEpochSeen{Epoch: e, Holder: holder}
	}
	p.s.after(p.s.between(0, 300*us), p, p.stepUrgent)
}

// storeFailed is Runner.Failed.
func (p *proc) storeFailed(err error) {
	if p.runner.failed == nil {
		p.runner.failed = &failover.StoreFailed{Err: err}
	}
	p.s.after(p.s.between(0, 300*us), p, p.stepUrgent)
}

func (p *proc) stepUrgent() {
	r := &p.runner
	failed, higher := r.failed, r.higher
	r.failed, r.higher = nil, nil
	if failed != nil {
		p.step(*failed)
	}
	if higher != nil && !p.dead {
		p.step(*higher)
	}
}

func (p *proc) stepAfterUrgent(ev failover.Event) {
	p.stepUrgent()
	if !p.dead {
		p.step(ev)
	}
}

// request hands a request to the machine; done gets the report.
func (p *proc) request(ev func(id uint64) failover.Event, done func(failover.Report)) {
	p.runner.lastID++
	id := p.runner.lastID
	p.runner.waiting[id] = done
	p.stepAfterUrgent(ev(id))
}

func (p *proc) promote(o failover.PromoteOptions, done func(failover.Report)) {
	next := p.nextSync()
	if o.K != nil {
		next.K = *o.K
	}
	p.request(func(id uint64) failover.Event {
		return failover.PromoteRequested{ID: id, Options: o, Next: next}
	}, func(r failover.Report) {
		p.promoted(r)
		done(r)
	})
}

// promoted looks at the plan that was carried out: what only consent, or a disk set back, could have hidden is no violation.
func (p *proc) promoted(r failover.Report) {
	switch {
	case r.Err != nil:
		p.s.stats.Refused++
		p.s.say(p.n, "promotion: %v", r.Err)
	case !r.Result.Already:
		p.s.stats.Promotions++
	}
}

// step is Runner.step.
func (p *proc) step(ev failover.Event) {
	for _, a := range p.machine.Step(ev) {
		if p.dead {
			return
		}
		p.do(a)
	}
}

// do carries out one action: at once, or as a job that answers with an event.
func (p *proc) do(a failover.Action) {
	if p.s.trace.on {
		switch a.(type) {
		case failover.Tell, failover.Ignored:
		default:
			p.s.say(p.n, "%T %+v", a, a)
		}
	}
	switch a := a.(type) {
	case failover.OpenClients:
		p.openClients(a.Epoch)
	case failover.CloseClients:
		p.shut()
	case failover.PauseWrites:
		p.seq.pause()
	case failover.ResumeWrites:
		p.seq.resume(p)
	case failover.FollowActive:
		holder := a.Node
		if holder == "" {
			holder = p.otherHolder()
		}
		p.rush = false
		p.follower.to(p, holder)
	case failover.Exit:
		p.runner.exiting = true
		p.s.after(p.s.between(0, 2*ms), p, p.fatal)
	case failover.Report:
		if done := p.runner.waiting[a.ID]; done != nil {
			delete(p.runner.waiting, a.ID)
			p.s.after(0, p, func() { done(a) })
		}
	case failover.RoleChanged:
		p.s.note(p.n, "role "+string(a.New), uint64(a.Epoch))
	case failover.Tell, failover.Ignored:
	case failover.Cancel:
		p.cancel(a.Attempt)
	default:
		p.start(a)
	}
}

func (p *proc) cancel(attempt uint64) {
	for _, j := range append([]*job(nil), p.runner.jobs...) {
		if j.attempt == attempt && !j.canceled {
			j.canceled = true
			if stop := j.onCancel; stop != nil {
				j.onCancel = nil
				p.s.after(p.s.between(0, 300*us), p, stop)
			}
		}
	}
}

// free runs fn as a job; it ends with its event.
func (p *proc) free(attempt uint64, fn func(j *job, done func(failover.Event))) {
	j := &job{attempt: attempt}
	p.runner.jobs = append(p.runner.jobs, j)
	p.s.after(p.s.between(0, 200*us), p, func() {
		ended := false
		fn(j, func(ev failover.Event) {
			if ended {
				return
			}
			ended = true
			p.forget(j)
			p.s.after(p.s.between(0, 200*us), p, func() { p.stepAfterUrgent(ev) })
		})
	})
}

func (p *proc) forget(j *job) {
	for i, o := range p.runner.jobs {
		if o == j {
			p.runner.jobs = append(p.runner.jobs[:i:i], p.runner.jobs[i+1:]...)
			return
		}
	}
}

// onLog is free for jobs that touch the log: one at a time.
func (p *proc) onLog(attempt uint64, fn func(j *job, done func(failover.Event))) {
	p.free(attempt, func(j *job, done func(failover.Event)) {
		run := func() {
			p.runner.log = j
			fn(j, func(ev failover.Event) {
				if p.runner.log == j {
					p.runner.log = nil
				}
				done(ev)
				if q := p.runner.queue; len(q) > 0 && p.runner.log == nil {
					p.runner.queue, p.runner.log = q[1:], &job{} // its turn comes in a step of its own
					p.s.after(0, p, q[0])
				}
			})
		}
		if p.runner.log != nil || len(p.runner.queue) > 0 {
			p.runner.queue = append(p.runner.queue, run)
			return
		}
		run()
	})
}

// start is jobs.start.
func (p *proc) start(a failover.Action) {
	switch a := a.(type) {
	case failover.Survey:
		p.free(a.Attempt, func(j *job, done func(failover.Event)) { p.survey(a, done) })
	case failover.AcquireToken:
		p.free(a.Attempt, func(j *job, done func(failover.Event)) { p.acquire(a, done) })
	case failover.HandOver:
		p.free(a.Attempt, func(j *job, done func(failover.Event)) { p.handOver(j, a, done) })
	case failover.Drain:
		p.free(a.Attempt, func(j *job, done func(failover.Event)) { p.drain(j, a, done) })
	case failover.FencePeers:
		p.onLog(a.Attempt, func(j *job, done func(failover.Event)) { p.fencePeers(j, a, done) })
	case failover.FastForward:
		p.onLog(a.Attempt, func(j *job, done func(failover.Event)) { p.fastForward(j, a, done) })
	case failover.StartEpoch:
		p.onLog(a.Attempt, func(j *job, done func(failover.Event)) { p.startEpoch(j, a, done) })
	case failover.Replay:
		p.onLog(a.Attempt, func(j *job, done func(failover.Event)) { p.replay(j, a, done) })
	case failover.StopWriter:
		p.onLog(a.Attempt, func(j *job, done func(failover.Event)) { p.stopWriter(a, done) })
	default:
		panic(fmt.Sprintf("coresim: action %T", a))
	}
}
