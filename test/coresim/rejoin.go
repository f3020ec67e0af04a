package coresim

import (
	"fmt"

	"repld/replicate"
	"repld/wal"
)

// begin makes our log end at the common position: nothing to do, or cut (R9), or ask for a snapshot (R15).
func (f *follow) begin(m begin) error {
	p := f.p
	if m.revoke {
		if err := f.revoke(max(f.target, m.target)); err != nil {
			return err
		}
	}
	if !p.log().has(m.from) {
		return fmt.Errorf("%w: told to begin after %v", errProtocol, m.from)
	}
	f.known = m.from.LSN
	if p.log().End() != m.from && f.cut(m.from) {
		return nil
	}
	f.send(ready{m.from})
	f.state = replicate.StateStream
	return f.progress(0)
}

// cut saves and removes the suffix that the sender's history does not contain; true when the state holds some of it.
func (f *follow) cut(to wal.Position) (rebuilding bool) {
	p := f.p
	p.commit.lsn = min(p.commit.lsn, to.LSN)
	if p.applied.LSN > to.LSN {
		f.send(rebuild{"the state has applied more"})
		return true
	}
	gone := p.log().cut(to.LSN)
	p.s.note(p.n, "cut", uint64(to.LSN), uint64(len(gone)))
	p.removed(gone, len(gone), false)
	return false
}

// removed reports what left the log, and how many of the frames, the last ones, were saved aside.
func (p *proc) removed(gone []*frame, saved int, replaced bool) {
	if p.s.mutant(CutUnsaved) {
		saved = 0
	}
	p.n.disk.saved += saved
	p.s.stats.Cut += saved
	p.s.check.Removed(p.n.name, facts(gone), saved, replaced)
}

func (f *follow) revoke(target wal.LSN) error {
	f.target = target
	if !f.p.fence.Voter() {
		return nil
	}
	f.revoked = true
	if !f.p.setVoter(false) {
		return errFailed
	}
	return nil
}

// seed receives a snapshot and installs it: in two steps, between which a crash may fall.
func (f *follow) seed(m seed) error {
	p := f.p
	if m.at.Epoch > f.epoch {
		return errProtocol
	}
	f.state, f.busy = replicate.StateSnapshot, true
	p.s.after(p.s.between(5*ms, 80*ms), p, func() {
		if err := f.fenced(); err != nil || f.canceled {
			if f.busy = false; err == nil {
				err = errReplaced
			}
			f.end(err)
			return
		}
		at := m.at
		if err := f.revoke(max(f.target, at.LSN)); err != nil {
			f.busy = false
			f.end(err)
			return
		}
		p.n.disk.staged = &at
		p.s.after(p.s.between(ms, 10*ms), p, func() { f.install(at) })
	})
	return nil
}

func (f *follow) install(at wal.Position) {
	known := f.p.applied.LSN
	if f.known > 0 {
		known = f.known
	}
	f.p.replaceBy(at, known)
	f.p.commit.lsn = at.LSN
	f.known = at.LSN
	f.busy, f.state = false, replicate.StateProbe
	if f.canceled {
		f.end(errReplaced)
		return
	}
	f.send(resumed{f.p.log().Start(), f.p.log().End()})
	f.pump()
}

// replaceBy makes log and state begin at a snapshot; records behind known that the new history may not contain are saved (R9).
func (p *proc) replaceBy(at wal.Position, known wal.LSN) {
	l, d := p.log(), p.n.disk
	from := max(known, l.start.LSN)
	if l.has(at) {
		from = at.LSN
	}
	if l.Start() != at || l.End() != at {
		saved := len(l.frames) - l.upTo(from)
		p.removed(l.reset(at), saved, true)
	}
	p.s.note(p.n, "seeded", uint64(at.LSN))
	p.s.stats.Seeded++
	d.state, d.staged = at, nil
	p.applied = at
}
