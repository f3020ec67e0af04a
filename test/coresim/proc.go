package coresim

import (
	"errors"
	"slices"

	"repld/failover"
	"repld/replicate"
	"repld/wal"
)

// proc is one life of a node's process: the production machines, and around them the parts of internal/node in plain steps.
type proc struct {
	s    *Sim
	n    *node
	dead bool

	fence   *failover.Fence
	machine *failover.Machine
	runner  runner

	commit  commit
	conds   []*cond
	serving wal.Epoch // in which followers are served
	writer  *writer
	seq     sequencer
	applied wal.Position
	applier bool // a step of it is due
	rush    bool // ignore the delay of a lagged standby

	follower follower
	sync     wal.SyncSet // what followers are told
	standbys map[string]*standby
	served   []*served

	voter *voter // nil without leases

	doubt bool // of recovery
	look  syncLook
}

// commit knows how far the log is committed; rule is nil unless this node decides.
type commit struct {
	lsn  wal.LSN
	rule *replicate.CommitRule
}

func newProc(n *node, f *failover.Fence) *proc {
	p := &proc{s: n.s, n: n, fence: f, standbys: map[string]*standby{}}
	p.machine = failover.NewMachine(failover.MachineOptions{Node: n.name, Nodes: p.names(), Shared: n.s.store != nil, Bound: p.bound})
	p.runner.waiting = map[uint64]func(failover.Report){}
	return p
}

// names lists all data nodes, this one first.
func (p *proc) names() []string {
	all := []string{p.n.name}
	for _, o := range p.s.nodes {
		if o != p.n {
			all = append(all, o.name)
		}
	}
	return all
}

func (p *proc) log() *simLog { return p.n.disk.log }

// boot is what follows recovery.
func (p *proc) boot() {
	d := p.n.disk
	p.applied = d.state
	p.doubt = d.doubt
	if p.doubt && len(p.s.nodes) > 1 && p.fence.Voter() {
		p.s.note(p.n, "in doubt")
		p.must(p.fence.SetVoter(false))
	}
	p.commit.lsn = p.applied.LSN
	if k := len(d.log.frames); k > 0 {
		p.commit.lsn = max(p.commit.lsn, d.log.frames[k-1].committed)
	}
	p.fence.OnRise(p.epochRose)
	p.fence.OnRise(p.higherEpoch)
	p.step(failover.Started{Epoch: p.fence.Epoch(), Holder: p.fence.Holder()})
	p.every(100*ms, func() { p.stepAfterUrgent(failover.Tick{}) })
	p.follower.to(p, p.fence.Holder())
	if len(p.s.nodes) == 1 {
		p.s.after(ms, p, func() {
			p.promote(failover.PromoteOptions{Reason: "single node", Bootstrap: true}, func(failover.Report) {})
		})
		return
	}
	if p.s.c.Leases {
		p.startVoter()
	}
	p.every(200*ms, p.gossip)
	p.every(100*ms, p.lookAtSync)
}

// every repeats fn. A process that stood still finds one tick waiting.
func (p *proc) every(d Time, fn func()) {
	p.s.after(d, p, func() {
		fn()
		p.every(d, fn)
	})
}

// must ends the process when its epoch file failed (R10).
func (p *proc) must(err error) bool {
	if err == nil {
		return true
	}
	if errors.Is(err, failover.ErrFailed) {
		p.fatal()
	}
	return false
}

// fatal ends the process; it is started again a little later.
func (p *proc) fatal() {
	if p.dead {
		return
	}
	n := p.n
	p.s.note(n, "exit")
	n.crash(0)
	p.s.after(p.s.between(20*ms, 300*ms), nil, n.start)
}

// cond is somebody who waits for something that a change may bring about.
type cond struct {
	ok   func() bool
	done func(bool)
	over bool
}

// await calls done(true) once ok holds, done(false) when job is cancelled or the time is over.
func (p *proc) await(j *job, limit Time, ok func() bool, done func(bool)) {
	c := &cond{ok: ok, done: done}
	if ok() {
		done(true)
		return
	}
	p.conds = append(p.conds, c)
	stop := func() {
		if !c.over {
			c.over = true
			c.done(false)
		}
	}
	if j != nil {
		j.onCancel = stop
	}
	if limit > 0 {
		p.s.after(limit, p, stop)
	}
}

// changed lets those who wait look again, as a step of its own.
func (p *proc) changed() {
	if len(p.conds) == 0 {
		return
	}
	p.s.after(p.s.between(0, 200*us), p, func() {
		var due []*cond
		p.conds = slices.DeleteFunc(p.conds, func(c *cond) bool {
			if !c.over && c.ok() {
				c.over = true
				due = append(due, c)
			}
			return c.over
		})
		for _, c := range due {
			c.done(true)
		}
	})
}

// epochRose is group.epochRose: called while the fence persists a higher epoch, before anybody is told of it (R3).
func (p *proc) epochRose(e wal.Epoch, holder string) {
	p.s.note(p.n, "epoch "+holder, uint64(e))
	p.s.stats.Epoch = max(p.s.stats.Epoch, e)
	if !p.s.mutant(IgnoreEpoch) {
		p.follower.to(p, "")
	}
	if holder == p.n.name {
		return
	}
	if p.s.mutant(CommitOn) {
		p.higherEpoch(e, holder)
		return
	}
	p.serving = 0
	p.commit.rule = nil
	p.shut()
	p.dropAll()
	p.higherEpoch(e, holder)
	p.changed()
}

// observe is group.observe: somebody named an epoch.
func (p *proc) observe(o epochState) {
	if o.epoch == 0 || o.holder == "" {
		return
	}
	err := p.fence.Observe(o.epoch, o.holder, o.sync)
	switch {
	case errors.Is(err, failover.ErrConflict):
		if p.fence.Holder() == p.n.name && p.machine.Role() == failover.RoleStandby {
			p.follower.to(p, o.holder)
		}
	case errors.Is(err, failover.ErrFailed):
		p.fatal()
	}
}

func (p *proc) epochState() epochState {
	st := p.fence.State()
	return epochState{st.Epoch(), st.Holder(), st.Sync()}
}

// gossip exchanges epochs with all peers (R15).
func (p *proc) gossip() {
	for _, o := range p.s.nodes {
		if o == p.n {
			continue
		}
		mine := p.epochState()
		p.call(o.id, "gossip", 500*ms, func(q *proc, r reply) {
			q.observe(mine)
			if !q.dead {
				r(q.epochState(), nil)
			}
		}, func(a any, err error) {
			if err == nil {
				p.observe(a.(epochState))
			}
		})
	}
}

// otherHolder is the holder of the epoch, unless that is this node.
func (p *proc) otherHolder() string {
	if h := p.fence.Holder(); h != p.n.name {
		return h
	}
	return ""
}

// setVoter is group.setVoter.
func (p *proc) setVoter(v bool) bool {
	if v {
		p.n.disk.doubt = false
	}
	if !p.must(p.fence.SetVoter(v)) {
		return false
	}
	p.s.note(p.n, "voter", b2u(v))
	if v && p.n.setBack && p.log().Durable().LSN >= p.n.owes {
		p.n.setBack, p.n.owes = false, 0
	}
	return true
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
