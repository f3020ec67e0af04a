package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"repld/internal/admin"
	"repld/replicate"
	"repld/wal"
)

// switchover hands the group over to another node with this node's help: the target prepares, then new writes wait, what is in flight is committed and reaches the target, the target
// promotes itself, and the waiting writes are told where the active is now. If the target fails in between, this node goes on as the active.
func (g *group) switchover(ctx context.Context, to, reason string, emit func(admin.Event)) (admin.PromoteResult, error) {
	say := func(format string, args ...any) {
		g.logger.Info("switchover", "progress", fmt.Sprintf(format, args...))
		if emit != nil {
			emit(admin.Event{Message: fmt.Sprintf(format, args...)})
		}
	}
	began := time.Now()
	r, err := g.switchoverPlan(to)
	if err != nil {
		return r, err
	}
	r.Plan = false
	if r.Already {
		return r, nil
	}
	if err := g.prepareOther(ctx, r.Node); err != nil {
		return r, err
	}
	say("writes pause; %s catches up and takes over", r.Node)
	epoch, err := g.runner.Switchover(ctx, r.Node, func(line string) { say("%s", line) })
	if err != nil {
		return r, fmt.Errorf("switchover to %s: %w (node %s is %s)", r.Node, err, g.o.Name, g.runner.Role())
	}
	r.Sync = g.fence.State().Sync()
	r.Epoch, r.Millis = epoch, float64(time.Since(began).Microseconds())/1000
	say("%s is active in epoch %d", r.Node, epoch)
	return r, nil
}

// switchoverPlan chooses the target and checks that it can take over now.
func (g *group) switchoverPlan(to string) (admin.PromoteResult, error) {
	refuse := func(format string, args ...any) (admin.PromoteResult, error) {
		e := &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf(format, args...)}
		return admin.PromoteResult{Node: to, Plan: true, Reasons: []string{e.Message}}, e
	}
	if !g.active() {
		return refuse("node %s is not active", g.o.Name)
	}
	if to == g.o.Name { // asked twice
		e := g.fence.Epoch()
		return admin.PromoteResult{Node: to, Allowed: true, Plan: true, Already: true, Epoch: e, Previous: e, From: g.log.End(), Source: to, Sync: g.fence.State().Sync()}, nil
	}
	streams := map[string]replicate.StandbyStatus{}
	for _, s := range g.sender.Standbys() {
		if s.Purpose != replicate.Follow {
			continue
		}
		streams[s.Name] = s
	}
	if to == "" {
		to = bestStandby(streams)
		if to == "" {
			return refuse("no standby follows the log and counts: see replctl status")
		}
	}
	s, ok := streams[to]
	switch {
	case !ok:
		return refuse("node %s does not follow this node: see replctl status", to)
	case s.State != replicate.StateStream || !s.Counts:
		return refuse("node %s is not ready: %s, counts=%t: wait until it has caught up", to, s.State, s.Counts)
	}
	end := g.log.End()
	r := admin.PromoteResult{
		Node: to, Allowed: true, Plan: true, Epoch: g.fence.Epoch() + 1, Previous: g.fence.Epoch(), From: end, Source: g.o.Name, Sync: g.syncWithout(to),
	}
	for name, s := range streams {
		if s.Counts {
			r.Have = append(r.Have, name)
		}
	}
	slices.Sort(r.Have)
	if s.Applied < end.LSN {
		r.Replay = uint64(end.LSN - s.Applied)
		r.ReplaySec = float64(r.Replay) / g.applier.rate()
	}
	return r, nil
}

// syncWithout is the sync set that an epoch of node will start with, as far as it is configured like this one.
func (g *group) syncWithout(node string) wal.SyncSet {
	members := slices.DeleteFunc(g.nodes(), func(n string) bool { return n == node })
	slices.Sort(members)
	return wal.SyncSet{Members: members, K: g.o.Sync.K}
}

// bestStandby is the one that counts and has applied most, so that a hot standby goes before a lagged one.
func bestStandby(streams map[string]replicate.StandbyStatus) (best string) {
	for name, s := range streams {
		if s.State != replicate.StateStream || !s.Counts {
			continue
		}
		b, ok := streams[best]
		if !ok || s.Applied > b.Applied || s.Applied == b.Applied && name < best {
			best = name
		}
	}
	return best
}
