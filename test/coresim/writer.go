package coresim

import (
	"errors"
	"slices"

	"repld/failover"
	"repld/wal"
)

// writer is wal.Writer: what waits becomes one frame, which is published, synced and reported.
type writer struct {
	p       *proc
	epoch   wal.Epoch
	last    wal.LSN // given out
	pending []uint64
	kicked  bool
	syncing bool
	failed  bool
	closing func()
}

func (w *writer) append(record uint64) (wal.LSN, error) {
	if w.failed || w.closing != nil {
		return 0, errFailed
	}
	w.last++
	w.pending = append(w.pending, record)
	w.kick()
	return w.last, nil
}

func (w *writer) kick() {
	if w.kicked || w.syncing {
		return
	}
	w.kicked = true
	w.p.s.after(w.p.s.between(0, 500*us), w.p, w.write)
}

func (w *writer) write() {
	p := w.p
	w.kicked = false
	if w.failed {
		return
	}
	if len(w.pending) == 0 {
		if w.closing != nil {
			w.closing()
		}
		return
	}
	f := newFrame(w.epoch, p.log().End(), p.commit.lsn, w.pending)
	w.pending = nil
	if err := p.log().append(f); err != nil {
		w.fail(err)
		return
	}
	p.s.note(p.n, "write", uint64(f.epoch), uint64(f.end.LSN))
	p.pumpAll()
	if p.s.mutant(DurableBeforeSync) {
		p.updateRule(func() { p.commit.rule.Durable(f.end.LSN) })
	}
	if p.s.mutant(AnswerOnLocalSync) {
		defer p.s.after(ms, p, func() { p.seq.finish(p, p.log().Durable().LSN) })
	}
	w.syncing = true
	p.s.after(p.s.syncTime(), p, func() {
		w.syncing = false
		if !p.log().sync(p, f.end.LSN) {
			w.fail(errFailed)
			return
		}
		p.updateRule(func() { p.commit.rule.Durable(p.log().Durable().LSN) })
		p.changed()
		w.kick()
	})
}

// fail is OnError: the node steps down and leaves (R10).
func (w *writer) fail(err error) {
	w.failed = true
	w.p.storeFailed(errors.Join(failover.ErrFailed, err))
	if w.closing != nil {
		w.closing()
	}
}

func (w *writer) close(done func()) {
	w.closing = done
	w.kick()
}

// updateRule is commit.update.
func (p *proc) updateRule(feed func()) {
	if p.commit.rule == nil {
		return
	}
	feed()
	p.advance()
	p.changed()
}

func (p *proc) advance() {
	old, now := p.commit.lsn, p.commit.rule.Committed()
	if now <= old {
		return
	}
	p.s.note(p.n, "commit", uint64(p.serving), uint64(now))
	p.s.check.Committed(p.n.name, p.epochOfRule(), p.log(), old, now)
	asked, found := p.copies(now)
	p.s.check.Copies(p.n.name, p.epochOfRule(), now, asked, found)
	p.commit.lsn = now
	p.kickApplier()
	p.pumpAll()
}

// copies returns how many acks the rule in force asks for, and on how many other disks the log up to lsn really is. A disk that was lost or set back without this node having met
// it since may have held it.
func (p *proc) copies(lsn wal.LSN) (asked, found int) {
	set, _ := p.commit.rule.Rule()
	at, err := p.log().PositionAt(lsn)
	for _, n := range p.s.nodes {
		if n == p.n || err != nil {
			continue
		}
		b, l := p.standbys[n.name], n.disk.log
		unmet := b == nil || b.incarnation != n.disk.incarnation || n.setBack
		held, err := l.PositionAt(lsn)
		if unmet || err != nil || held == at && l.endOf(l.durable).LSN >= lsn {
			found++
		}
	}
	return set.K, found
}

func (p *proc) epochOfRule() wal.Epoch {
	if p.writer != nil {
		return p.writer.epoch
	}
	return p.serving
}

// learned is a standby hearing what is committed.
func (p *proc) learned(lsn wal.LSN) {
	if p.commit.rule == nil && lsn > p.commit.lsn {
		p.commit.lsn = lsn
		p.kickApplier()
		p.changed()
	}
}

func (p *proc) kickApplier() {
	if p.applier {
		return
	}
	p.applier = true
	d := p.s.between(0, 2*ms)
	if p.s.c.Lagged == p.n.id && !p.rush && p.commit.rule == nil {
		d = p.s.between(100*ms, 600*ms)
	}
	p.s.after(d, p, p.apply)
}

// apply is one step of the applier (R7).
func (p *proc) apply() {
	p.applier = false
	limit := p.commit.lsn
	if p.s.mutant(ApplyUncommitted) {
		limit = max(limit, p.log().Durable().LSN)
	}
	from, l := p.applied, p.log()
	if !l.has(from) {
		p.s.check.Fail("R7", "state of %s is at %v, its log has another history", p.n.name, from)
		return
	}
	i, to := l.upTo(from.LSN), l.upTo(limit)
	if i >= to {
		return
	}
	to = min(to, i+32)
	step := l.frames[i:to]
	p.s.check.Applied(p.n.name, from, facts(step))
	p.applied = step[len(step)-1].end
	if p.s.rng.IntN(8) == 0 {
		p.n.disk.state = p.applied
	}
	p.seq.finish(p, p.applied.LSN)
	p.changed()
	p.kickApplier()
}

// sequencer is what clients meet.
type sequencer struct {
	open    bool
	paused  bool
	waiting []waiter
	held    []waiter // while paused
}

// waiter is a write; done is told its LSN, or that its outcome is not known, or that it was refused.
type waiter struct {
	record uint64
	lsn    wal.LSN
	done   func(lsn wal.LSN, err error)
}

var (
	errUnknown = errors.New("outcome unknown")
	errRefused = errors.New("refused")
)

func (q *sequencer) submit(p *proc, w waiter) {
	switch {
	case !q.open || p.writer == nil:
		w.done(0, errRefused)
	case q.paused:
		q.held = append(q.held, w)
	default:
		lsn, err := p.writer.append(w.record)
		if err != nil {
			w.done(0, errRefused)
			return
		}
		w.lsn = lsn
		q.waiting = append(q.waiting, w)
	}
}

func (q *sequencer) pause() { q.paused = q.open }

func (q *sequencer) resume(p *proc) {
	held := q.held
	q.paused, q.held = false, nil
	for _, w := range held {
		q.submit(p, w)
	}
}

func (q *sequencer) idle(p *proc) bool {
	return len(q.waiting) == 0 && (p.writer == nil || p.writer.last <= p.applied.LSN)
}

// finish answers what is applied.
func (q *sequencer) finish(p *proc, lsn wal.LSN) {
	n := 0
	for n < len(q.waiting) && q.waiting[n].lsn <= lsn {
		n++
	}
	done := slices.Clone(q.waiting[:n])
	q.waiting = q.waiting[n:]
	for _, w := range done {
		w.done(w.lsn, nil)
	}
}

// openClients is host.OpenClients.
func (p *proc) openClients(e wal.Epoch) {
	if p.writer == nil || p.fence.Epoch() != e || p.fence.Holder() != p.n.name {
		return
	}
	p.seq.open, p.seq.paused = true, false
	p.s.note(p.n, "open", uint64(e), uint64(p.log().End().LSN))
	p.s.check.Active(p.n.name, e, p.log())
}

// shut refuses writes and answers those in flight as unknown (R13).
func (p *proc) shut() {
	q := &p.seq
	waiting, held := q.waiting, q.held
	*q = sequencer{}
	for _, w := range waiting {
		w.done(w.lsn, errUnknown)
	}
	for _, w := range held {
		w.done(0, errRefused)
	}
}
