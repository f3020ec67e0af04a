package node

import (
	"context"
	"fmt"
	"time"

	"repld/failover"
	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// host is the group as the role machine's runner drives it.
type host struct{ *group }

var _ failover.Host = host{}

// answer is what this node says of itself in a survey. Read after a grant, it is also the answer to a fence: nothing of an older epoch moves
// the log any more.
func (g *group) answer() failover.Answer {
	a := g.fence.State().Answer(g.o.Name)
	a.Incarnation = g.incarnation
	a.Doubt = g.recovery.Doubt && !a.Voter
	a.Role = g.runner.Role()
	a.Position = g.log.Durable()
	a.Committed = g.commit.lsn()
	a.Applied = g.state.applied().LSN
	a.Held = g.held() != nil
	a.LeaseOf, a.LeaseLeft = g.voter.left(a.Epoch)
	a.Stateless = g.state.lacking()
	a.Seen = g.sightings.all()
	a.Blank = g.log.End() == (wal.Position{}) && g.log.Start() == (wal.Position{})
	return a
}

// Survey implements failover.Host. From here on this node looks at its own tail: what is wrong with it is said when it stops following.
func (h host) Survey(ctx context.Context) []failover.Answer {
	go func() { _ = h.checkTail(context.WithoutCancel(ctx)) }()
	next := h.nextSync()
	if h.mayShrink() {
		next.K = 0 // an epoch may begin with fewer copies: then the one that is gone is no reason to wait either
	}
	all := h.peers.survey(ctx, false, h.terms(0, next), func(ctx context.Context, peer string) (a failover.Answer, err error) {
		err = h.peers.call(ctx, peer, peerSurvey, nil, &a)
		return a, err
	})
	return append(all, h.answer())
}

// terms let a survey end without the nodes that are suspected when the rule R5 is met without them.
func (h host) terms(fenced wal.Epoch, next wal.SyncSet) surveyTerms {
	return surveyTerms{suspected: h.voter.suspected, enough: func(answers []failover.Answer) bool {
		return failover.Decide(failover.Situation{
			Candidate: h.o.Name, Nodes: h.nodes(), Answers: append(answers, h.answer()), Shared: h.token.Shared(), Next: next, Fenced: fenced,
		}).Allowed
	}}
}

// StopFollowing implements failover.Host.
func (h host) StopFollowing(ctx context.Context) error {
	if err := h.follower.stop(ctx); err != nil {
		return err
	}
	return h.checkTail(ctx)
}

// FencePeers implements failover.Host.
func (h host) FencePeers(ctx context.Context, epoch wal.Epoch, candidate string, next wal.SyncSet) []failover.Answer {
	h.guard.cleared() // whoever was promoted while this process stood still in the past does not grant this epoch
	all := h.peers.survey(ctx, true, h.terms(epoch, next), func(ctx context.Context, peer string) (a failover.Answer, err error) {
		err = h.peers.call(ctx, peer, peerFence, fenceRequest{Epoch: epoch, Candidate: candidate, Sync: next}, &a)
		return a, err
	})
	all = append(all, h.answer())
	h.lease.fenced(epoch, candidate, all)
	return all
}

// FastForward implements failover.Host.
func (h host) FastForward(ctx context.Context, from string, to wal.Position, progress func(string)) error {
	stream, err := h.peers.mesh.Open(ctx, from, streamLog, h.o.Group)
	if err != nil {
		return err
	}
	defer stream.Close()
	start := h.log.Durable().LSN
	done := make(chan error, 1)
	go func() { done <- h.receiver.Run(ctx, stream, from, replicate.FastForward, to) }()
	last := start
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			h.streamEnded(err)
			return err
		case <-tick.C:
			if at := h.log.Durable().LSN; at != last {
				last = at
				progress(fmt.Sprintf("fast-forward from %s: lsn %d of %d", from, at, to.LSN))
			}
		}
	}
}

// StartEpoch implements failover.Host.
func (h host) StartEpoch(ctx context.Context, start wal.EpochStart) (wal.LSN, error) {
	return h.startEpoch(ctx, start)
}

// Replay implements failover.Host: it applies all that the log holds, ignoring the delay of a lagged standby.
func (h host) Replay(ctx context.Context, progress func(string)) error {
	h.applier.hurry(true)
	target := h.commit.lsn()
	from, began := h.state.applied().LSN, time.Now()
	last := from
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	done := make(chan struct{})
	h.applier.notify(target, done)
	for {
		select {
		case <-done:
			h.replayTook.Store(int64(time.Since(began)))
			return h.outlastOlder(ctx)
		case <-ctx.Done():
			return fmt.Errorf("replayed to lsn %d of %d: %w", h.state.applied().LSN, target, context.Cause(ctx))
		case <-tick.C:
			at := h.state.applied().LSN
			if at == last {
				continue // progress extends the bound
			}
			last = at
			rate := float64(at-from) / time.Since(began).Seconds()
			progress(fmt.Sprintf("replay: lsn %d of %d, %.0f records/s", at, target, rate))
		}
	}
}

// OpenClients implements failover.Host.
func (h host) OpenClients(epoch wal.Epoch) {
	st, err := h.state.acquire()
	if err != nil {
		h.fatal(err)
		return
	}
	overlay := st.NewSequencer()
	h.state.release()
	h.writer.Lock()
	w := h.writer.w
	h.writer.Unlock()
	if w == nil || h.fence.Epoch() != epoch || h.holder() != h.o.Name {
		return // a higher epoch came in between; the runner learns of it next
	}
	h.seq.start(w, overlay, h.log.End().LSN)
	h.opened.Store(uint64(epoch))
	h.o.Observer.Opened(epoch, h.log)
	h.open.Store(true)
	h.seq.open()
	h.roster.bump()
	if h.fence.Epoch() != epoch { // it rose since the check above, and epochRose may have found the gate still closed
		h.shut(server.ReadOnly(h.fence.Epoch(), h.holder()))
	}
}

// CloseClients implements failover.Host.
func (h host) CloseClients(reason string) {
	h.shut(server.ReadOnly(h.fence.Epoch(), h.otherHolder()))
}

// PauseWrites implements failover.Host.
func (h host) PauseWrites() { h.seq.pause() }

// ResumeWrites implements failover.Host.
func (h host) ResumeWrites() { h.seq.open() }

// Drain implements failover.Host.
func (h host) Drain(ctx context.Context, to string) (wal.Position, error) {
	ctx, cancel := h.whileWell(ctx, to)
	defer cancel()
	for {
		changed := h.commit.wait()
		end := h.log.Durable()
		if h.seq.idle() && h.log.End() == end && h.commit.lsn() >= end.LSN && h.durableAt(to) >= end.LSN {
			return end, nil
		}
		// The last of these conditions may come true without a commit: look again soon.
		again := time.NewTimer(500 * time.Microsecond)
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return end, fmt.Errorf("drain: end %s, committed %d, %s has %d: %w", end, h.commit.lsn(), to, h.durableAt(to), context.Cause(ctx))
		}
		again.Stop()
	}
}

// durableAt is how far a standby's log is durable, as far as known here.
func (g *group) durableAt(standby string) wal.LSN {
	for _, s := range g.sender.Standbys() {
		if s.Name == standby && s.Purpose == replicate.Follow {
			return s.Durable
		}
	}
	return 0
}

// HandOver implements failover.Host.
func (h host) HandOver(ctx context.Context, to string, at wal.Position) (wal.Epoch, error) {
	ctx, cancel := h.whileWell(ctx, to)
	defer cancel()
	var r takeOverAnswer
	err := h.peers.call(ctx, to, peerTakeOver, takeOverRequest{Position: at, Reason: "switchover from " + h.o.Name}, &r)
	return r.Epoch, err
}

// StopWriter implements failover.Host.
func (h host) StopWriter(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- h.stopWriter() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("log writer does not end: %w", context.Cause(ctx))
	}
}

// Follow implements failover.Host.
func (h host) Follow(holder string, epoch wal.Epoch) {
	if holder == "" {
		holder = h.otherHolder() // an attempt that changed nothing: go on as before
	}
	h.applier.hurry(false)
	go h.prepareState()
	h.seq.refuse(server.ReadOnly(epoch, holder))
	h.follower.follow(holder)
}

// Exit implements failover.Host.
func (h host) Exit(err error) { h.fatal(err) }

// otherHolder is the holder of the epoch, unless that is this node.
func (g *group) otherHolder() string {
	if h := g.holder(); h != g.o.Name {
		return h
	}
	return ""
}
