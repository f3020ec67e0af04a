package coresim

import (
	"repld/failover"
	"repld/wal"
)

type lsn = wal.LSN

// inject carries out one event. What has no sense at the moment is left out.
func (s *Sim) inject(e Event) {
	if s.calm {
		return
	}
	n, peer := s.nodes[e.Node], s.nodes[e.Peer]
	s.note(n, "event "+string(e.Kind), uint64(e.Peer), uint64(e.For), uint64(e.Arg))
	s.stats.Faults++
	switch e.Kind {
	case Crash, CrashWrite, FailSync, Pause, Rot, Wipe, OldCopy:
		s.hit(n, e)
	case Cut:
		s.cut(n.id, peer.id, e.For)
		if e.Arg == 1 {
			s.cut(peer.id, n.id, e.For)
		}
	case Isolate:
		for _, o := range s.nodes {
			if o != n {
				s.cut(n.id, o.id, e.For)
				s.cut(o.id, n.id, e.For)
			}
		}
		if e.Arg == 1 {
			s.cutStore(n.id, e.For)
		}
	case CutStore:
		s.cutStore(n.id, e.For)
	case StoreDown:
		for _, o := range s.nodes {
			s.cutStore(o.id, e.For)
		}
	case Resets:
		for _, o := range s.nodes {
			if o != n && o.proc != nil && n.proc != nil && n.proc.voter != nil {
				s.linkBroke(n.proc, o)
				s.linkBroke(o.proc, n)
			}
		}
	case Noise:
		s.net.noise = s.now + e.For
	case Copy:
		if n.proc == nil {
			n.backup = n.disk.clone()
		} else if d := n.disk.clone(); d.epoch.named {
			d.epoch.written = d.epoch.synced
			d.log.cut(d.log.Durable().LSN)
			n.backup = d
		}
	case Trim:
		n.disk.log.trim(n.disk.state.LSN)
	default:
		s.command(n, peer, e)
	}
}

// hit is a fault of one node.
func (s *Sim) hit(n *node, e Event) {
	restart := true
	switch e.Kind {
	case Crash:
		n.crash(e.Arg)
	case CrashWrite:
		f := n.disk.epoch
		if restart = false; n.proc == nil {
			return
		}
		f.fuse, f.blow = e.Arg, func() {
			n.crash(0)
			s.after(e.For, nil, n.start)
		}
	case FailSync:
		n.failSync, restart = n.proc != nil, false
	case Pause:
		n.paused, restart = s.now+e.For, false
	case Rot, Wipe, OldCopy:
		if s.sick(n) {
			return // one disk at a time, as R1 covers
		}
		s.hurt = true
		switch e.Kind {
		case Rot:
			n.rot()
		case Wipe:
			n.wipe()
			if !s.c.Careless {
				s.startEmpty(n, e.For)
				return
			}
		default:
			s.copies = s.copies || n.backup != nil
			n.setBackTo()
		}
	}
	if restart {
		s.after(e.For, nil, n.start)
	}
}

// startEmpty starts a node whose disk was replaced once a person has seen that the others are up and obey one epoch. An empty node has forgotten what it promised; seeded by an
// active that has lost its epoch without knowing, it would help that one to commit (see TestCareless).
func (s *Sim) startEmpty(n *node, d Time) {
	s.after(d, nil, func() {
		if s.calm || s.agree(n) {
			n.start()
			return
		}
		s.startEmpty(n, 100*ms)
	})
}

// agree reports whether all nodes but one are up and obey one epoch.
func (s *Sim) agree(but *node) bool {
	var first *proc
	for _, o := range s.nodes {
		switch {
		case o == but:
		case o.proc == nil:
			return false
		case first == nil:
			first = o.proc
		case o.proc.fence.Epoch() != first.fence.Epoch() || o.proc.fence.Holder() != first.fence.Holder():
			return false
		}
	}
	return true
}

// sick reports whether a node other than n has lost something and not got it back.
func (s *Sim) sick(n *node) bool {
	for _, o := range s.nodes {
		if o != n && (o.setBack || s.check.Owes(o.name)) {
			return true
		}
	}
	return false
}

func (s *Sim) cut(from, to int, d Time) { s.net.cut[from][to] = max(s.net.cut[from][to], s.now+d) }

func (s *Sim) cutStore(n int, d Time) {
	s.cut(n, storeAt, d)
	s.cut(storeAt, n, d)
}

// command is a person's word.
func (s *Sim) command(n, peer *node, e Event) {
	ignore := func(failover.Report) {}
	o := failover.PromoteOptions{AllowDataLoss: e.Kind == Force}
	if e.Arg > 0 {
		k := e.Arg - 1
		o.K = &k
	}
	switch e.Kind {
	case Promote, Force:
		s.hurt = s.hurt || e.Kind == Force
		s.promote(n, o, ignore)
	case Twice:
		s.promote(n, failover.PromoteOptions{}, ignore)
		s.promote(peer, failover.PromoteOptions{}, ignore)
	case Coup:
		for _, a := range s.open() {
			s.cut(n.id, a.id, e.For)
			s.cut(a.id, n.id, e.For)
		}
		s.promote(n, failover.PromoteOptions{}, ignore)
	case Switchover:
		s.switchover(n)
	case Maintain:
		if p := n.proc; p != nil && p.voter != nil && n.paused <= s.now {
			p.voter.maintain(e.Arg == 0)
		}
	case Demote:
		for _, a := range s.open() {
			a.proc.request(func(id uint64) failover.Event { return failover.DemoteRequested{ID: id, Reason: "asked for"} }, ignore)
		}
	}
}

// switchover is group.switchover: from an active to a standby that is ready.
func (s *Sim) switchover(to *node) {
	for _, a := range s.open() {
		p := a.proc
		if a == to || a.paused > s.now || !p.streams(to.name) {
			continue
		}
		p.request(func(id uint64) failover.Event { return failover.SwitchoverRequested{ID: id, To: to.name} }, func(r failover.Report) {
			if r.Err == nil {
				s.stats.Switchover++
			}
		})
	}
}
