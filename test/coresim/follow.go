package coresim

import (
	"errors"
	"fmt"

	"repld/failover"
	"repld/replicate"
	"repld/wal"
)

var (
	errReplaced = errors.New("another target")
	errProtocol = errors.New("protocol")
)

// follower is node.follower: it keeps the log following a target, one stream at a time.
type follower struct {
	target    string
	current   *follow // the stream of the loop, until it has ended
	receiving *follow // the newest stream, a fast-forward among them
	old       *follow // was told to end last
	waking    bool
	wait      Time
}

// to makes node the target; "" or this node itself mean nobody.
func (f *follower) to(p *proc, node string) {
	if node == p.n.name {
		node = ""
	}
	if f.target != node {
		f.target = node
		if f.current != nil {
			f.old = f.current
			f.current.cancel()
		}
	}
	f.wait = 20 * ms
	f.wake(p, p.s.between(0, 2*ms))
}

func (f *follower) settled() bool { return f.old == nil || f.old.over }

func (f *follower) wake(p *proc, d Time) {
	if f.waking {
		return
	}
	f.waking = true
	p.s.after(d, p, func() {
		f.waking = false
		f.once(p)
	})
}

// once follows the target, unless a stream is still there.
func (f *follower) once(p *proc) {
	if f.target == "" || f.current != nil {
		return
	}
	again := func() {
		f.wake(p, f.wait)
		f.wait = min(2*f.wait, sc)
	}
	if p.receiving() { // a fast-forward has not ended yet
		again()
		return
	}
	x, err := p.openStream(f.target, replicate.Follow, wal.Position{})
	if err != nil {
		again()
		return
	}
	f.current = x
	x.ended = func(err error) {
		f.current = nil
		if !x.canceled {
			p.streamEnded(err)
		}
		again()
	}
}

// receiving reports whether the receiver is taken.
func (p *proc) receiving() bool { return p.follower.receiving != nil && !p.follower.receiving.over }

// streamEnded is group.streamEnded.
func (p *proc) streamEnded(err error) {
	var stale *failover.StaleEpochError
	if errors.As(err, &stale) {
		p.observe(epochState{epoch: stale.Epoch, holder: stale.Holder})
	}
	if errors.Is(err, errFailed) {
		p.fatal()
	}
}

// follow is the receiving end of a stream: replicate's follow in steps. While it is busy, with a sync or an install, messages wait.
type follow struct {
	p       *proc
	t       *stream
	source  string
	purpose replicate.Purpose
	until   wal.Position

	epoch     wal.Epoch
	holder    string
	syncSeen  uint64
	target    wal.LSN
	revoked   bool
	known     wal.LSN
	state     replicate.ProgressState
	welcomed  bool
	committed wal.LSN
	reported  wal.LSN

	inbox    []any
	busy     bool
	canceled bool
	over     bool

	ended      func(error)
	progressed func()
}

func (f *follow) send(msg any) { f.t.send(standbyEnd, msg) }

func (f *follow) hello() {
	p := f.p
	f.epoch = p.fence.Epoch()
	p.answered()
	f.t.send(standbyEnd, hello{epoch: f.epoch, start: p.log().Start(), end: p.log().End(), applied: p.applied.LSN, voter: p.fence.Voter(),
		incarnation: p.n.disk.incarnation, purpose: f.purpose})
	p.s.after(sc, p, func() {
		if !f.welcomed {
			f.end(errNoAnswer)
		}
	})
}

// cancel ends the stream: at once, or when what is going on has ended.
func (f *follow) cancel() {
	f.canceled = true
	if !f.busy {
		f.end(errReplaced)
	}
}

func (f *follow) end(err error) {
	if f.over || f.p.dead {
		return
	}
	if f.busy { // the one goroutine finishes its sync or install first
		f.canceled = true
		return
	}
	f.over = true
	f.t.close(standbyEnd)
	f.p.s.say(f.p.n, "%s of %s ended: %v", f.purpose, f.source, err)
	f.p.changed()
	if f.ended != nil {
		f.ended(err)
	}
}

func (f *follow) take(msg any) {
	f.inbox = append(f.inbox, msg)
	f.pump()
}

func (f *follow) pump() {
	for !f.busy && !f.over && !f.p.dead && len(f.inbox) > 0 {
		msg := f.inbox[0]
		f.inbox = f.inbox[1:]
		if err := f.handle(msg); err != nil {
			f.end(err)
		}
	}
}

// fenced is an error when this node has seen a newer epoch (R3, R4).
func (f *follow) fenced() error {
	if f.p.s.mutant(IgnoreEpoch) {
		return nil
	}
	if e := f.p.fence.Epoch(); e != f.epoch {
		f.send(reject{why: "stale", epoch: e, holder: f.p.fence.Holder()})
		return &failover.StaleEpochError{Seen: f.epoch, Epoch: e, Holder: f.p.fence.Holder()}
	}
	return nil
}

func (f *follow) handle(msg any) error {
	switch m := msg.(type) {
	case welcome:
		return f.welcome(m)
	case reject:
		if m.epoch > f.p.fence.Epoch() {
			return &failover.StaleEpochError{Epoch: m.epoch, Holder: m.holder}
		}
		return fmt.Errorf("%w: %s", errRefused, m.why)
	}
	if !f.welcomed {
		return errProtocol
	}
	if err := f.fenced(); err != nil {
		return err
	}
	if v := f.p.voter; v != nil && f.purpose == replicate.Follow {
		v.heardLog = &traffic{f.source, f.epoch}
	}
	switch m := msg.(type) {
	case heartbeat:
		if m.epoch != f.epoch || m.committed > m.end {
			return errProtocol
		}
		if f.state == replicate.StateStream {
			return f.progress(m.committed)
		}
		return nil
	case notice:
		return f.notice(m)
	case probe:
		at, err := f.p.log().PositionAt(m.lsn)
		f.send(probed{at, err == nil})
		return nil
	case begin:
		return f.begin(m)
	case *frame:
		if f.state != replicate.StateStream {
			return errProtocol
		}
		return f.frames(m)
	case seed:
		return f.seed(m)
	}
	return errProtocol
}

func (f *follow) welcome(w welcome) error {
	p := f.p
	f.epoch, f.holder, f.welcomed = w.epoch, w.holder, true
	if e := p.fence.Epoch(); w.epoch < e {
		return f.fenced()
	}
	switch f.purpose {
	case replicate.Follow:
		if w.holder != f.source {
			return fmt.Errorf("%w: %s serves epoch %d of %s", errRefused, f.source, w.epoch, w.holder)
		}
		if err := p.fence.Accept(w.epoch, w.holder, p.n.name, w.sync); err != nil {
			return err
		}
		f.syncSeen, f.target = w.sync.Version, w.end
		if p.s.mutant(EarlyVoter) {
			f.target = 0
		}
	case replicate.FastForward:
		if w.epoch != p.fence.Epoch() {
			return errRefused
		}
		f.target = f.until.LSN
	}
	return f.fenced()
}

func (f *follow) notice(m notice) error {
	p := f.p
	if m.epoch != f.epoch || f.purpose != replicate.Follow {
		return errProtocol
	}
	if err := p.fence.Accept(m.epoch, f.holder, p.n.name, m.sync); err != nil {
		return err
	}
	f.syncSeen = m.sync.Version
	if f.state == replicate.StateStream {
		f.ack(p.log().Durable().LSN)
	}
	return nil
}

// frames appends m and what else has arrived with one sync.
func (f *follow) frames(m *frame) error {
	p := f.p
	batch := []*frame{m}
	for len(f.inbox) > 0 && len(batch) < 8 {
		next, ok := f.inbox[0].(*frame)
		if !ok {
			break
		}
		batch, f.inbox = append(batch, next), f.inbox[1:]
	}
	for _, x := range batch {
		if x.epoch > f.epoch {
			return errProtocol
		}
		if err := p.log().append(x); err != nil {
			return fmt.Errorf("append LSN %d: %w", x.first, err)
		}
	}
	last := batch[len(batch)-1]
	p.s.note(p.n, "append", uint64(f.epoch), uint64(last.end.LSN))
	f.busy = true
	if p.s.mutant(AckBeforeSync) {
		f.ack(last.end.LSN)
	}
	p.s.after(p.s.syncTime(), p, func() {
		ok := p.log().sync(p, last.end.LSN)
		f.busy = false
		f.appended(ok, last)
		f.pump()
	})
	return nil
}

// appended follows the sync: the epoch is checked again before the ack (R3).
func (f *follow) appended(ok bool, last *frame) {
	if !ok {
		f.end(errFailed)
		return
	}
	f.known = last.end.LSN
	if f.progressed != nil {
		f.progressed()
	}
	err := f.fenced()
	if err == nil {
		err = f.progress(last.committed)
	}
	if err == nil && f.canceled {
		err = errReplaced
	}
	if err != nil {
		f.end(err)
	}
	f.p.changed()
}

// progress becomes a voter when due, acks, and takes the committed LSN.
func (f *follow) progress(committed wal.LSN) error {
	p := f.p
	durable := p.log().Durable()
	if f.purpose == replicate.Follow && durable.LSN >= f.target && !p.fence.Voter() && !p.setVoter(true) {
		return errFailed
	}
	f.ack(durable.LSN)
	f.committed = max(f.committed, committed)
	if c := min(f.committed, durable.LSN); c > f.reported {
		f.reported = c
		p.learned(c)
	}
	return f.arrived(durable)
}

func (f *follow) ack(durable wal.LSN) {
	p := f.p
	p.answered()
	log := p.log()
	p.s.check.Vouched(p.n.name, f.epoch, durable, log.endOf(log.durable).LSN)
	f.send(ack{epoch: f.epoch, durable: durable, sync: f.syncSeen, voter: p.fence.Voter()})
}

// arrived ends a fast-forward.
func (f *follow) arrived(durable wal.Position) error {
	if f.purpose != replicate.FastForward || durable.LSN < f.until.LSN {
		return nil
	}
	if !f.p.log().has(f.until) {
		return fmt.Errorf("wanted %v, have %v", f.until, durable)
	}
	if f.revoked && !f.p.setVoter(true) {
		return errFailed
	}
	f.over = true
	f.t.close(standbyEnd)
	f.p.changed()
	f.ended(nil)
	return nil
}
