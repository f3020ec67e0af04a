package coresim

import (
	"repld/failover"
	"repld/wal"
)

// readLease is internal/node's readLease in steps, around the production failover.Lease (R14).
type readLease struct {
	lease    *failover.Lease
	epoch    wal.Epoch
	began    failover.Mono
	granted  map[string]bool
	oldUntil failover.Mono
}

func (l *readLease) init(o failover.LeaseOptions) { l.lease = failover.NewLease(o) }

func (l *readLease) live(now failover.Mono) bool {
	until := l.lease.Until()
	return until == failover.Forever || until > 0 && now < until
}

// fenced begins the epoch that answers granted to p.
func (l *readLease) fenced(p *proc, epoch wal.Epoch, answers []failover.Answer) {
	now := p.n.clock()
	l.epoch, l.began, l.granted, l.oldUntil = epoch, now, map[string]bool{}, 0
	for _, a := range answers {
		l.granted[a.Node] = a.Reachable && a.Epoch == epoch && a.Holder == p.n.name
	}
	for _, a := range answers {
		if l.granted[a.Node] {
			l.owed(a.LeaseOf, a.LeaseLeft, now)
		}
	}
	l.lease.Reset(wal.SyncSet{K: 1})
}

func (l *readLease) owed(of string, left, now failover.Mono) {
	if left > 0 && !l.granted[of] {
		l.oldUntil = max(l.oldUntil, now+left)
	}
}

// begin names the sync set of the epoch, before its first record.
func (l *readLease) begin(p *proc, epoch wal.Epoch, sync wal.SyncSet) {
	if l.epoch != epoch {
		l.epoch, l.granted, l.oldUntil = epoch, nil, 0
	}
	l.began = p.n.clock()
	l.lease.Reset(sync)
}

func (l *readLease) acked(p *proc, voter string, a beatAck, sent failover.Mono) {
	if a.epoch != l.epoch || sent < l.began {
		return
	}
	l.owed(a.of, a.left, p.n.clock())
	if sets := p.syncSets(); sets != nil {
		l.lease.SetSync(sets...)
	}
	l.lease.Acked(voter, sent)
}

// syncSets is group.syncSets.
func (p *proc) syncSets() (sets []wal.SyncSet) {
	if p.commit.rule == nil {
		return nil
	}
	current, pending := p.commit.rule.Rule()
	sets = append(sets, current)
	if pending != nil {
		sets = append(sets, *pending)
	}
	return sets
}

// leaseTerms is group.leaseTerms.
func (p *proc) leaseTerms() {
	if p.voter == nil {
		return
	}
	l := p.voter.lease.lease
	l.SetMajority(p.majority())
	if sets := p.syncSets(); sets != nil {
		l.SetSync(sets...)
	}
}

// outlastOlder is group.outlastOlder: done is called when no older active can answer reads any more.
func (p *proc) outlastOlder(j *job, done func(bool)) {
	v := p.voter
	if v == nil || p.s.mutant(NoOutlast) {
		done(true)
		return
	}
	older := func() { p.older(j, done) }
	if !p.majority() {
		older()
		return
	}
	p.poll(j, 3*leaseLength, func() bool { return v.lease.live(p.n.clock()) }, func(ok bool) {
		if j.canceled {
			done(false)
			return
		}
		older()
	})
}

func (p *proc) older(j *job, done func(bool)) {
	l := &p.voter.lease
	p.poll(j, 0, func() bool { return l.oldUntil <= p.n.clock() }, done)
}

// poll waits for what time brings about.
func (p *proc) poll(j *job, limit Time, ok func() bool, done func(bool)) {
	began := p.s.now
	var look func()
	look = func() {
		switch {
		case j.canceled:
			done(false)
		case ok():
			done(true)
		case limit > 0 && p.s.now-began > limit:
			done(false)
		default:
			p.s.after(10*ms, p, look)
		}
	}
	look()
}

// read is a client's linearizable read, wherever the client believes the active to be.
func (s *Sim) read(n *node) {
	p := n.proc
	if p == nil || p.voter == nil || !p.seq.open {
		return
	}
	s.after(0, p, func() { // a process that stands still answers when it goes on
		if !p.seq.open || !p.voter.lease.live(n.clock()) && !s.mutant(NoLease) {
			return
		}
		s.stats.Read++
		if !s.copies { // a disk that was set back has forgotten what it promised
			s.check.Read(n.name, p.fence.Epoch(), p.applied.LSN)
		}
	})
}
