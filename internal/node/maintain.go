package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/events"
)

// pauseTold is how long Pause waits for the other nodes to have it on disk.
const pauseTold = 2 * time.Second

// Pause implements admin.Maintenance: when it returns, this node has it on disk, and so have the others that are named.
func (a adminAPI) Pause(ctx context.Context, req admin.PauseRequest, _ func(admin.Event)) (admin.PauseResult, error) {
	if err := a.pauseFailover(!req.Resume, req.Reason); err != nil {
		return admin.PauseResult{}, err
	}
	r := admin.PauseResult{Mode: string(a.o.Failover.Mode), Paused: a.paused(), Knows: []string{a.o.Name}}
	ctx, cancel := context.WithTimeout(ctx, pauseTold)
	defer cancel()
	said := a.maintenance.get()
	for _, p := range a.o.Peers {
		if a.voter.knows(ctx, p.Name, said) {
			r.Knows = append(r.Knows, p.Name)
		} else {
			r.Silent = append(r.Silent, p.Name)
		}
	}
	return r, nil
}

// paused is the maintenance in force, nil for none.
func (g *group) paused() *admin.Pause {
	m := g.maintenance.get()
	if !m.On {
		return nil
	}
	return &admin.Pause{Since: time.Unix(m.At, 0).UTC(), Reason: m.Reason, Node: m.Node}
}

// failoverStatus is what this node knows about failure.
func (g *group) failoverStatus() *admin.FailoverStatus {
	f := &admin.FailoverStatus{Mode: string(g.o.Failover.Mode), Paused: g.paused(), Suspects: *g.voter.suspects.Load(), Sick: g.probe.sick(), Scheduled: g.schedule.get()}
	if len(g.o.Peers) == 0 {
		return nil
	}
	switch {
	case !g.active():
		f.Waiting = *g.voter.waits.Load()
	case g.lease.local:
		f.Lease = "not asked for"
	case g.lease.live():
		f.Lease = "live"
	default:
		f.Lease = "lost"
	}
	return f
}

// record notes in the journal what the voter found out and decided.
func (g *group) record(m failover.Measure) {
	switch m := m.(type) {
	case failover.Suspected:
		g.events.Record(events.Suspicion, "node suspected", slog.String("peer", m.Node), slog.String("evidence", m.Evidence), slog.Bool("proof", m.Proof))
	case failover.Recovered:
		g.events.Record(events.Suspicion, "node heard again", slog.String("peer", m.Node))
	case failover.AskVotes:
		g.events.Record(events.Vote, "asking for support", slog.Uint64("round", m.Round), slog.Uint64("epoch", uint64(m.Poll.Epoch)))
	case failover.Promote:
		g.events.Record(events.Promotion, "taking over", slog.String("reason", m.Reason))
	case failover.GiveUp:
		g.events.Record(events.Promotion, "stepping down", slog.String("reason", m.Reason))
	case failover.HandOverTo:
		g.events.Record(events.Promotion, "handing over", slog.String("to", m.Node), slog.String("reason", m.Reason))
	case failover.Waits:
		g.events.Record(events.Vote, "no failover yet", slog.String("reason", m.Reason))
	}
}

// recordVote notes how this node answered a candidate.
func (g *group) recordVote(p failover.Poll, v failover.Vote) {
	g.events.Record(events.Vote, "candidate answered", slog.String("candidate", p.Candidate), slog.Uint64("epoch", uint64(p.Epoch)), slog.Bool("support", v.Support), slog.String("reason", v.Reason))
}

// whileWell returns a context that ends when a node is suspected to be gone: a switchover to it must not hold writes any longer.
func (g *group) whileWell(ctx context.Context, node string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		t := time.NewTicker(tickEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if g.voter.suspected(node) {
					cancel(fmt.Errorf("node %s does not answer any more", node))
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}
