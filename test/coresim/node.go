package coresim

import (
	"repld/failover"
	"repld/wal"
)

// disk is what survives a process.
type disk struct {
	incarnation uint64 // 0: new
	epoch       *epochFile
	token       tokenStore // unless one is shared
	log         *simLog
	state       wal.Position  // what the state has flushed
	staged      *wal.Position // a received snapshot that is complete and not installed
	paused      failover.Maintenance
	doubt       bool // a tail was cut that may have been durable (R8)
	saved       int  // frames saved aside (R9)
}

func newDisk() *disk { return &disk{epoch: &epochFile{}, log: &simLog{}} }

func (d *disk) clone() *disk {
	c := *d
	c.epoch, c.log = d.epoch.clone(), d.log.clone()
	return &c
}

// node is one data node: a disk, and a process while there is one.
type node struct {
	s    *Sim
	id   int
	name string

	drift      Time // what its clock gains, in 1000
	leaseDrift Time // of the clock of its leases
	disk       *disk
	proc       *proc
	paused     Time
	failSync   bool  // the next sync of the log fails
	backup     *disk // a copy made earlier

	// What a god knows: the disk was set back, and lacks what it had up to owes.
	setBack bool
	owes    wal.LSN
}

func (s *Sim) addNode(id int) {
	n := &node{s: s, id: id, name: name(id), disk: newDisk()}
	if d := s.c.Drift; d > 0 {
		n.drift = Time(s.rng.IntN(2*d+1) - d)
	}
	if s.c.Leases && s.c.Drift > 0 {
		n.leaseDrift = Time(s.rng.IntN(81) - 40)
	}
	s.nodes = append(s.nodes, n)
}

// crash ends the process. loss: 0 any part of what is not synced survives, 1 nothing of it, 2 all.
func (n *node) crash(loss int) {
	p, d := n.proc, n.disk
	if p == nil {
		return
	}
	n.s.note(n, "crash", uint64(loss), uint64(d.log.End().LSN), uint64(d.log.Durable().LSN))
	p.dead, n.proc, n.paused, n.failSync = true, nil, 0, false
	n.s.peerDied(p)
	if n.s.c.Leases {
		n.s.gone(n)
	}
	d.epoch.crash(n.s.rng)
	keep := len(d.log.frames)
	if unsynced := keep - d.log.durable; unsynced > 0 {
		switch loss {
		case 0:
			keep = d.log.durable + n.s.rng.IntN(unsynced+1)
		case 1:
			keep = d.log.durable
		}
	}
	if keep < len(d.log.frames) {
		d.log.cut(d.log.endOf(keep).LSN)
		// A write that was cut off in the middle cannot always be told from a damaged one.
		d.doubt = d.doubt || n.s.rng.IntN(3) == 0
	}
	d.flush(n.s, p.applied)
}

// flush leaves of the state some prefix between what was flushed and what was applied.
func (d *disk) flush(s *Sim, applied wal.Position) {
	from, to := d.log.upTo(d.state.LSN), d.log.upTo(applied.LSN)
	if d.log.start.LSN > d.state.LSN || to <= from || s.rng.IntN(2) == 0 {
		return
	}
	d.state = d.log.endOf(from + s.rng.IntN(to-from+1))
}

// start recovers the disk and begins as a standby (node.Open, node.Run).
func (n *node) start() {
	s, d := n.s, n.disk
	if n.proc != nil || s.check.Err() != nil {
		return
	}
	s.stats.Restarts++
	fresh := d.incarnation == 0
	if fresh {
		s.records++
		d.incarnation = s.records
	}
	slots, _, err := failover.OpenSlots(failover.SlotsOptions{FS: epochFS{f: d.epoch}, Dir: "d", Create: fresh || !d.epoch.named})
	if err != nil {
		s.check.Fail("R12", "%s does not start: %v", n.name, err)
		return
	}
	p := newProc(n, failover.NewFence(slots))
	n.proc = p
	s.note(n, "start", d.incarnation, uint64(p.fence.Epoch()), uint64(d.log.End().LSN))
	s.check.Restarted(n.name, d.incarnation, p.fence.Epoch(), p.fence.Holder())
	d.log.durable, d.log.claimed, d.log.failed = len(d.log.frames), 0, false
	if d.staged != nil {
		p.replaceBy(*d.staged, 0)
	}
	if !d.log.has(d.state) {
		s.check.Fail("R12", "%s does not start: its state is at %v, its log ends at %v", n.name, d.state, d.log.End())
		return
	}
	p.boot()
}

// wipe loses the disk.
func (n *node) wipe() {
	n.crash(1)
	n.s.note(n, "wipe")
	n.s.check.Wiped(n.name)
	n.disk, n.setBack = newDisk(), false
}

// rot damages the last frame of a log; recovery cuts it, in doubt, unless the state proves that it was durable: then the node would not start.
func (n *node) rot() {
	n.crash(2)
	d := n.disk
	end := d.log.End()
	if k := len(d.log.frames); k > 1 && d.state.LSN <= d.log.frames[k-2].end.LSN {
		d.log.cut(d.log.frames[k-2].end.LSN)
		d.doubt = true
		n.s.note(n, "rot", uint64(end.LSN))
		n.lacks(end.LSN)
	}
}

// setBackTo restores the copy, if there is one.
func (n *node) setBackTo() {
	if n.backup == nil || n.backup.incarnation != n.disk.incarnation {
		return
	}
	had := n.disk.log.Durable()
	n.crash(1)
	n.disk = n.backup.clone()
	n.s.note(n, "set back", uint64(had.LSN), uint64(n.disk.log.End().LSN))
	n.s.check.Replaced(n.name)
	n.lacks(had.LSN)
}

func (n *node) lacks(lsn wal.LSN) {
	n.setBack, n.owes = true, max(n.owes, lsn)
}
