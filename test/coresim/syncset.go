package coresim

import (
	"slices"

	"repld/replicate"
	"repld/wal"
)

// syncLook is node.syncSet: it looks after the sync set of the epoch that this node holds.
type syncLook struct {
	busy    bool
	stuckAt wal.LSN
	since   Time // 0: not stuck
}

// shrinkAfter is how long a commit waits before the set is made smaller.
const shrinkAfter = 700 * ms

// nextSync is the configured set.
func (p *proc) nextSync() wal.SyncSet {
	return wal.SyncSet{Members: p.names()[1:], K: p.s.c.K}
}

func (p *proc) lookAtSync() {
	l := &p.look
	if !p.seq.open || p.commit.rule == nil {
		l.since = 0
		return
	}
	if l.busy {
		return
	}
	current, pending := p.commit.rule.Rule()
	if pending != nil {
		p.settle(*pending)
		return
	}
	full := p.nextSync()
	if current.K < full.K || len(current.Members) < len(full.Members) {
		if len(p.present(full.Members, p.commit.lsn)) >= full.K {
			full.Version = current.Version + 1
			p.change(full)
			return
		}
	}
	if !p.s.c.Shrink || !p.stuck() {
		return
	}
	here := p.present(current.Members, 0)
	next := wal.SyncSet{Version: current.Version + 1, Members: here, K: min(current.K, len(here))}
	members := slices.Sorted(slices.Values(current.Members))
	if next.K != current.K || !slices.Equal(members, here) {
		p.change(next)
	}
}

func (p *proc) stuck() bool {
	l := &p.look
	at := p.commit.lsn
	if at >= p.log().Durable().LSN {
		l.since = 0
		return false
	}
	if l.since == 0 || l.stuckAt != at {
		l.stuckAt, l.since = at, p.s.now
		return false
	}
	return p.s.now-l.since >= shrinkAfter
}

// change goes through the steps of R6 in their order.
func (p *proc) change(to wal.SyncSet) {
	rule := p.commit.rule
	var err error
	p.updateRule(func() { err = rule.SetRule(to) })
	if err != nil {
		return
	}
	p.leaseTerms()
	p.s.say(p.n, "sync set: pending %v", to)
	p.look.busy = true
	mine := func() bool { return p.commit.rule == rule }
	p.await(nil, 2*sc, func() bool { return !mine() || rule.Covered() }, func(ok bool) {
		p.look.busy = false
		switch {
		case !mine():
		case !ok:
			p.updateRule(rule.Abandon)
		default:
			p.settle(to)
		}
	})
}

// settle records the pending set and puts it in force alone.
func (p *proc) settle(to wal.SyncSet) {
	rule := p.commit.rule
	mine := func() bool { return p.commit.rule == rule }
	p.look.busy = true
	p.record(to, func(ok bool) {
		p.look.busy = false
		if !ok || !mine() {
			return
		}
		p.sync = to
		p.pumpAll()
		if p.s.store != nil {
			p.inForce(rule, to)
			return
		}
		p.look.busy = true
		p.await(nil, 2*sc, func() bool { return !mine() || rule.Recorded() }, func(ok bool) {
			p.look.busy = false
			if ok && mine() {
				p.inForce(rule, to)
			}
		})
	})
}

func (p *proc) inForce(rule *replicate.CommitRule, to wal.SyncSet) {
	var err error
	p.updateRule(func() { err = rule.Settle() })
	if err == nil {
		p.s.stats.SetChanges++
		p.s.weak = p.s.weak || to.K < p.s.c.K
		p.s.note(p.n, "sync set", to.Version, uint64(to.K), uint64(len(to.Members)))
	}
}

// record writes the set into the token and into this node's own epoch file.
func (p *proc) record(to wal.SyncSet, done func(bool)) {
	observe := func(e wal.Epoch) { done(p.must(p.fence.Observe(e, p.n.name, to))) }
	if p.s.mutant(SettleUnrecorded) {
		done(true)
		return
	}
	p.withToken("load token", 0, nil, func(rec tokenRecord, err error) {
		if err != nil || rec.Epoch != p.fence.Epoch() || rec.Holder != p.n.name {
			done(false)
			return
		}
		if rec.Sync.Version >= to.Version {
			observe(rec.Epoch)
			return
		}
		next := rec
		next.Sync, next.Reason = to, "sync set changed"
		p.withToken("record sync set", rec.Rev, &next, func(_ tokenRecord, err error) {
			if err != nil {
				done(false)
				return
			}
			observe(rec.Epoch)
		})
	})
}

// present lists the members whose acks count now and reach lsn, sorted.
func (p *proc) present(members []string, lsn wal.LSN) []string {
	here := []string{}
	for _, sv := range p.served {
		if sv.hello.purpose == replicate.Follow && sv.counts && sv.durable >= lsn && slices.Contains(members, sv.peer.name) {
			here = append(here, sv.peer.name)
		}
	}
	slices.Sort(here)
	return here
}
