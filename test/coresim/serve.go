package coresim

import (
	"slices"

	"repld/replicate"
	"repld/wal"
)

// standby is what outlives one stream of a standby: what it acked in this epoch (H2).
type standby struct {
	incarnation uint64
	epoch       wal.Epoch
	acked       wal.LSN
	regressed   wal.LSN
	stream      *served
}

// served is the sending end of a stream: replicate's served in steps, around the production replicate.Progress.
type served struct {
	p        *proc
	t        *stream
	peer     *node
	hello    hello
	epoch    wal.Epoch
	standby  *standby // nil for a fast-forward
	progress *replicate.Progress

	told     wal.LSN
	syncTold uint64
	durable  wal.LSN
	counts   bool
	over     bool
	pumping  bool
}

func (p *proc) acceptStream(t *stream, h hello) {
	sv := &served{p: p, t: t, peer: t.ends[standbyEnd].n, hello: h, epoch: p.fence.Epoch(), progress: replicate.NewProgress(p.log())}
	t.served = sv
	if h.epoch > sv.epoch {
		p.observe(epochState{epoch: h.epoch}) // it does not say who: gossip will
		sv.refuse("epoch here is lower")
		return
	}
	if h.purpose == replicate.FastForward && h.epoch != sv.epoch || !p.mayServe(h.purpose) {
		sv.refuse("not serving")
		return
	}
	sv.syncTold = p.sync.Version
	end := p.log().End().LSN
	if h.purpose == replicate.Follow {
		sv.join()
	}
	p.served = append(p.served, sv)
	p.answered()
	sv.send(welcome{epoch: sv.epoch, holder: p.fence.Holder(), sync: p.sync, committed: min(p.commit.lsn, end), end: end})
	sv.act(sv.progress.Join(h.start, h.end))
	sv.beat()
}

// mayServe is group.mayServe.
func (p *proc) mayServe(purpose replicate.Purpose) bool {
	return p.fence.Epoch() != 0 && (purpose != replicate.Follow || p.serving == p.fence.Epoch())
}

// join is Sender.follows: the newest stream of a standby is the one that may ack.
func (sv *served) join() {
	p, name := sv.p, sv.peer.name
	b := p.standbys[name]
	if b == nil {
		b = &standby{}
		p.standbys[name] = b
	}
	if b.stream != nil {
		b.stream.end()
	}
	b.stream, sv.standby = sv, b
	if b.epoch != sv.epoch {
		b.epoch, b.acked, b.regressed = sv.epoch, 0, 0
	}
	if b.incarnation != sv.hello.incarnation {
		if b.acked > 0 && !p.s.mutant(KeepWipedAcks) {
			p.updateRule(func() { p.commit.rule.Forget(name) })
		}
		b.incarnation, b.acked, b.regressed = sv.hello.incarnation, 0, 0
	}
}

func (sv *served) send(msg any) { sv.t.send(senderEnd, msg) }

func (sv *served) refuse(why string) {
	sv.send(reject{why: why, epoch: sv.p.fence.Epoch(), holder: sv.p.fence.Holder()})
	sv.end()
}

func (sv *served) end() {
	if sv.over {
		return
	}
	sv.over = true
	sv.t.close(senderEnd)
	sv.p.served = slices.DeleteFunc(sv.p.served, func(o *served) bool { return o == sv })
	if b := sv.standby; b != nil && b.stream == sv {
		b.stream = nil
	}
}

func (p *proc) dropAll() {
	for _, sv := range slices.Clone(p.served) {
		sv.end()
	}
}

// fenced ends the stream when this node may not serve it any more.
func (sv *served) fenced() bool {
	if sv.p.fence.Epoch() == sv.epoch {
		return false
	}
	sv.refuse("epoch here is higher")
	return true
}

// act carries out what the progress machine wants.
func (sv *served) act(a replicate.Action, err error) {
	if err != nil {
		sv.p.s.say(sv.p.n, "stream to %s: %v", sv.peer.name, err)
		sv.end()
		return
	}
	switch a.Op {
	case replicate.OpProbe:
		sv.send(probe{a.LSN})
	case replicate.OpBegin:
		b := begin{from: a.From}
		if b.revoke = sv.regress(a.From.LSN); b.revoke {
			b.target = sv.p.log().End().LSN
		}
		sv.send(b)
	case replicate.OpStream:
		sv.told = 0
		sv.pump()
	case replicate.OpSnapshot:
		sv.seed(a.Reason)
	}
}

// regress: the standby lacks records that it acked before in this epoch (H2).
func (sv *served) regress(at wal.LSN) bool {
	b := sv.standby
	if b == nil || b.stream != sv || at >= b.acked {
		return false
	}
	sv.regressed()
	return true
}

func (sv *served) regressed() {
	b := sv.standby
	b.regressed = b.acked
	sv.counts = false
	sv.p.updateRule(func() { sv.p.commit.rule.Forget(sv.peer.name) })
}

// seed sends a checkpoint of the state.
func (sv *served) seed(reason string) {
	p := sv.p
	p.s.say(p.n, "seeding %s: %s", sv.peer.name, reason)
	p.s.after(p.s.between(ms, 20*ms), p, func() {
		if !sv.over && !sv.fenced() {
			sv.send(seed{p.applied})
		}
	})
}

// beat sends heartbeats while the stream lasts.
func (sv *served) beat() {
	sv.p.s.after(100*ms, sv.p, func() {
		if sv.over || sv.fenced() {
			return
		}
		if !sv.p.mayServe(sv.hello.purpose) {
			sv.refuse("not serving any more")
			return
		}
		sv.heartbeat()
		sv.beat()
	})
}

func (sv *served) heartbeat() {
	end := sv.p.log().End().LSN
	c := min(sv.p.commit.lsn, end)
	sv.told = max(sv.told, c)
	sv.send(heartbeat{epoch: sv.epoch, committed: c, end: end})
}

// pumpAll wakes all streams: there may be frames, a committed LSN or a sync set to tell.
func (p *proc) pumpAll() {
	for _, sv := range p.served {
		sv.pump()
	}
}

func (sv *served) pump() {
	if sv.pumping || sv.over {
		return
	}
	sv.pumping = true
	sv.p.s.after(sv.p.s.between(0, 300*us), sv.p, func() {
		sv.pumping = false
		if !sv.over && sv.progress.State() == replicate.StateStream {
			sv.stream()
		}
	})
}

// stream sends what waits.
func (sv *served) stream() {
	p := sv.p
	for {
		f, err := p.log().after(sv.progress.Sent())
		if err == errDiverged {
			sv.end()
			return
		}
		if err != nil {
			sv.act(sv.progress.Trimmed(), nil)
			return
		}
		if f == nil {
			break
		}
		if sv.fenced() {
			return
		}
		if err := sv.progress.SentFrame(f.prev, f.end, f.first); err != nil {
			p.s.check.Fail("R4", "sender of %s: %v", p.n.name, err)
			return
		}
		sv.told = max(sv.told, f.committed)
		sv.send(f)
	}
	if p.sync.Version != sv.syncTold && sv.hello.purpose == replicate.Follow {
		if sv.fenced() {
			return
		}
		sv.syncTold = p.sync.Version
		sv.send(notice{sv.epoch, p.sync})
	}
	if min(p.commit.lsn, p.log().End().LSN) > sv.told {
		sv.heartbeat()
	}
}

// take is a message of the standby.
func (sv *served) take(msg any) {
	if sv.over {
		return
	}
	switch m := msg.(type) {
	case ack:
		sv.acked(m)
	case ready:
		sv.act(sv.progress.Ready(m.at))
	case probed:
		sv.act(sv.progress.Probed(m.at, m.ok))
	case rebuild:
		sv.act(sv.progress.Rebuild(m.reason))
	case resumed:
		sv.act(sv.progress.Join(m.start, m.end))
	case reject:
		if m.epoch > sv.epoch {
			sv.p.observe(epochState{epoch: m.epoch, holder: m.holder})
		}
		if !sv.p.dead {
			sv.end()
		}
	}
}

func (sv *served) acked(a ack) {
	if a.epoch != sv.epoch {
		sv.end()
		return
	}
	err := sv.progress.Acked(a.durable)
	b := sv.standby
	if b == nil {
		if err != nil {
			sv.end()
		}
		return
	}
	if b.stream != sv {
		sv.end()
		return
	}
	if err != nil {
		if a.durable < b.acked {
			sv.regressed()
		}
		sv.end()
		return
	}
	if a.durable >= b.regressed {
		b.regressed = 0
	}
	sv.durable, sv.counts = a.durable, a.voter && b.regressed == 0
	if sv.p.s.mutant(CountAllAcks) {
		sv.counts = true
	}
	if sv.counts {
		b.acked = max(b.acked, a.durable)
		if b.incarnation == sv.peer.disk.incarnation {
			sv.p.s.check.Counted(sv.peer.name, "a commit", sv.peer.disk.log)
		}
		sv.p.updateRule(func() { sv.p.commit.rule.Acked(sv.peer.name, a.durable, a.sync) })
	}
	sv.p.changed()
}

// durableAt is group.durableAt.
func (p *proc) durableAt(standby string) wal.LSN {
	for _, sv := range p.served {
		if sv.peer.name == standby && sv.hello.purpose == replicate.Follow {
			return sv.durable
		}
	}
	return 0
}
