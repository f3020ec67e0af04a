package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"repld/failover"
	"repld/internal/failpoint"
	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// stale is a peer's word that it knows a newer epoch (R15).
func (g *group) stale(e wal.Epoch, holder string) { go g.observe(nodeState{Epoch: e, Holder: holder}) }

// streamEnded looks at why following ended: it may carry a newer epoch.
func (g *group) streamEnded(err error) {
	var stale *replicate.StaleEpochError
	if errors.As(err, &stale) && stale.Ours {
		g.observe(nodeState{Epoch: stale.Epoch, Holder: stale.Holder})
	}
	switch {
	case errors.Is(err, wal.ErrFailed):
		g.fatal(fmt.Errorf("log: %w", err))
	case errors.Is(err, failover.ErrFailed):
		g.fatal(fmt.Errorf("epoch file: %w", err))
	}
}

// observe takes note of an epoch that somebody named.
func (g *group) observe(s nodeState) {
	if s.Epoch == 0 || s.Holder == "" {
		return
	}
	err := g.fence.Observe(s.Epoch, s.Holder, s.Sync)
	switch {
	case errors.Is(err, failover.ErrConflict):
		// Two nodes were promoted at the same time. If this one lost and the other one really serves the epoch, it accepts a follower.
		if g.holder() == g.o.Name && g.runner.Role() == failover.RoleStandby {
			g.follower.follow(s.Holder)
		} else if g.active() {
			g.alarms.raise("epoch-conflict", fmt.Sprintf("epoch %d is held by %s as well as by this node: demote one of them", s.Epoch, s.Holder))
		}
	case errors.Is(err, failover.ErrFailed):
		g.fatal(fmt.Errorf("epoch file: %w", err))
	case err != nil && !errors.Is(err, failover.ErrStaleEpoch):
		g.logger.Warn("epoch not noted", "epoch", s.Epoch, "holder", s.Holder, "error", err)
	}
}

// epochRose is called while the fence persists a higher epoch, before anybody is told of it (R3): from its return on nothing of an older epoch
// is committed or acked by this node.
func (g *group) epochRose(e wal.Epoch, holder string) {
	g.follower.follow("") // a stream of the older epoch ends; the runner says whom to follow now
	if holder == g.o.Name {
		return
	}
	g.serving.set(0)
	g.closeGate() // before the broadcast of stop, for those who wait for acks
	g.commit.stop()
	g.shut(server.ReadOnly(e, holder))
	g.sender.DropAll(fmt.Sprintf("epoch %d is held by %s", e, holder))
	g.runner.HigherEpoch(e, holder)
}

// shut refuses writes from now on and answers those in flight as unknown (R13).
func (g *group) shut(refusal error) {
	g.closeGate()
	g.seq.stop(refusal)
}

// mayServe says whether this node may serve a log stream now. A standby that granted this node its epoch is here at once, before the other answers to the fence: it is
// kept waiting for a moment, because its ack is what the epoch begins with, and a refusal costs another round.
func (g *group) mayServe(p replicate.Purpose) error {
	if p == replicate.Follow && g.runner.Role() == failover.RoleCandidate && g.holder() == g.o.Name {
		g.serving.await(g.fence.Epoch(), servingWait)
	}
	if p == replicate.Follow && g.serving.epoch() != g.fence.Epoch() || g.fence.Epoch() == 0 {
		return fmt.Errorf("node %s is not active: epoch %d is held by %q", g.o.Name, g.fence.Epoch(), g.holder())
	}
	return nil
}

// servingWait is how long a standby waits for a candidate to begin its epoch. Its own patience is longer.
const servingWait = 250 * time.Millisecond

// serving is the epoch in which this node serves followers, 0 for none.
type serving struct {
	now atomic.Uint64
	mu  struct {
		sync.Mutex
		changed chan struct{} // closed and forgotten when now changes; made by await
	}
}

func (s *serving) epoch() wal.Epoch { return wal.Epoch(s.now.Load()) }

func (s *serving) set(e wal.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Store(uint64(e))
	if s.mu.changed != nil {
		close(s.mu.changed)
		s.mu.changed = nil
	}
}

// await waits until the epoch is e or changes otherwise, for at most limit.
func (s *serving) await(e wal.Epoch, limit time.Duration) {
	s.mu.Lock()
	if s.epoch() == e {
		s.mu.Unlock()
		return
	}
	if s.mu.changed == nil {
		s.mu.changed = make(chan struct{})
	}
	changed := s.mu.changed
	s.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-changed:
	case <-late.C:
	}
}

// setVoter persists whether this node's log counts (R11). Becoming a voter settles a doubt about a damaged tail.
func (g *group) setVoter(v bool) error {
	if v {
		if err := g.log.SettleDoubt(); err != nil {
			return err
		}
	}
	return g.fence.SetVoter(v)
}

// framePace is how long a frame may wait for the one before it to be committed. Beyond that, standbys are far away and frames overlap.
const framePace = time.Millisecond

// frameGather is how long a frame may wait for clients that were answered with the one before it.
const frameGather = 200 * time.Microsecond

// startEpoch starts the log writer and waits until the epoch-start record is committed (R5).
func (g *group) startEpoch(ctx context.Context, start wal.EpochStart) (wal.LSN, error) {
	var carried []wal.Record
	if start.CutAt != 0 {
		var err error
		if carried, err = g.cutLog(start); err != nil {
			return 0, err
		}
		start.Carried = uint64(len(carried))
	}
	payload, err := json.Marshal(start)
	if err != nil {
		return 0, err
	}
	end := g.log.End()
	w, err := g.log.NewWriter(wal.WriterOptions{
		Epoch: start.Epoch, Codec: g.o.Codec, Committed: g.commit.lsn, OnDurable: g.durable, OnFrame: g.phases.frame, QueueBytes: g.o.QueueBytes, Pace: framePace, Gather: frameGather,
		OnError: func(err error) { g.runner.Failed(fmt.Errorf("log: %w", err)) },
	})
	if err != nil {
		return 0, err
	}
	g.writer.Lock()
	g.writer.w = w
	g.writer.Unlock()
	rule := replicate.NewCommitRule(g.o.Name, start.Sync, g.commit.lsn(), end.LSN+1)
	rule.Durable(g.log.Durable().LSN)
	ours := func() bool { return g.fence.Epoch() == start.Epoch && g.holder() == g.o.Name }
	if !g.commit.start(rule, start.Epoch, ours) {
		return 0, fmt.Errorf("epoch %d: %w: epoch %d is held by %s", start.Epoch, failover.ErrFenced, g.fence.Epoch(), g.holder())
	}
	if end == (wal.Position{}) {
		// The first epoch of a blank log: a crash between the record and this would leave a log that nobody counts. A blank one never counts (R11).
		if err := g.setVoter(true); err != nil {
			return 0, err
		}
	}
	g.lease.begin(start.Epoch, start.Sync)
	g.serving.set(start.Epoch)
	g.voter.agent.Kick()
	g.sender.SetSync(start.Sync)
	go g.askEpochs(ctx, askTimeout, nil) // those who granted the epoch may follow now
	failpoint.Hit(failpoint.EpochStart)
	lsn, err := w.AppendAll(append([]wal.Record{{Kind: wal.KindEpochStart, Payload: payload}}, carried...))
	if err != nil {
		return 0, err
	}
	last := lsn + wal.LSN(len(carried))
	for {
		changed := g.commit.wait()
		if g.commit.lsn() >= last && ours() {
			return lsn, g.setVoter(true) // this log is the history now, whatever was in doubt
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("epoch-start record %d is not committed: sync %s: %w", lsn, start.Sync, context.Cause(ctx))
		}
	}
}

// stopWriter ends the log writer, if there is one.
func (g *group) stopWriter() error {
	g.serving.set(0)
	g.commit.stop()
	g.phases.forget()
	g.writer.Lock()
	w := g.writer.w
	g.writer.w = nil
	g.writer.Unlock()
	if w == nil {
		return nil
	}
	return w.Close()
}

// replicateFence is failover's fence in the words of replicate.
type replicateFence struct {
	f    *failover.Fence
	self string
}

func (r replicateFence) Epoch() wal.Epoch { return r.f.Epoch() }

func (r replicateFence) Holder() string { return r.f.Holder() }

// Observe implements replicate.Fence. It is called for the word of whoever serves its log in epoch e, while this node follows or, as the candidate of its
// own epoch, fast-forwards.
func (r replicateFence) Observe(e wal.Epoch, holder string, sync wal.SyncSet) error {
	err := r.f.Accept(e, holder, r.self, sync)
	var stale *failover.StaleEpochError
	if errors.As(err, &stale) {
		return &replicate.StaleEpochError{Epoch: stale.Epoch, Holder: stale.Holder}
	}
	return err
}
