package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/events"
)

// A standby whose state differs is given a whole new one, never single rows: what made one row differ may have made more, and a row written beside the log would be one more state that
// no log explains. The standby sets its state aside, and from that moment it serves nothing and is not promotable (failover.Answer.Stateless), until the active's snapshot, with
// the hash of every file, is installed. The log stays, and so does the node's vote.
//
// The new state is the active's, so the node to repair from has to be equal to the active. When it is the active that is wrong, its place is taken first: switch over to
// a node that is right, then repair.

const (
	peerReplace = "/peer/v1/replace-state" // POST: set the state aside and take the active's

	// replaceLimit bounds the wait for one new state; the transfer itself goes on, and is the log stream's to bound.
	replaceLimit = time.Hour
)

type replaceRequest struct {
	Reason string `json:"reason"`
	Asked  string `json:"asked"` // by which node
}

// checkVerify refuses what cannot be done before anything is written.
func (g *group) checkVerify(req admin.VerifyRequest) error {
	if req.RepairFrom != "" && !slices.Contains(g.nodes(), req.RepairFrom) {
		return &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("repair from %q: no such node with data", req.RepairFrom)}
	}
	if req.Keys < 0 || req.Keys > admin.MaxVerifyKeys {
		return &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("keys %d: 0 to %d", req.Keys, admin.MaxVerifyKeys)}
	}
	return nil
}

// repairable returns the standbys whose states differ from node's, which has to be equal to the active.
func repairable(v admin.VerifyResult, node, active string) ([]string, error) {
	var from, act *admin.NodeDigest
	for i := range v.Nodes {
		d := &v.Nodes[i]
		if d.Node == node {
			from = d
		}
		if d.Node == active {
			act = d
		}
	}
	refused := func(format string, args ...any) ([]string, error) {
		return nil, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("nothing was repaired: "+format, args...)}
	}
	switch {
	case from == nil || from.Error != "":
		return refused("%s gave no digest", node)
	case act == nil || act.Error != "":
		return refused("the active gave no digest")
	case from.Position != act.Position:
		return refused("the log of %s is not the active's: see the runbook of rejoining", node)
	case !sameState(*from, *act):
		return refused("%s differs from the active, %s. The active is never repaired: if %s is right, switch over to it, then repair %s from it", node, active, node, active)
	}
	var names []string
	for _, d := range v.Nodes {
		if d.Error == "" && d.Position == from.Position && !sameState(d, *from) {
			names = append(names, d.Node)
		}
	}
	return names, nil
}

// repairStates has each standby that differs replace its state, one after the other: the others keep the copies that a commit needs.
func (g *group) repairStates(ctx context.Context, from string, v admin.VerifyResult, emit func(admin.Event)) ([]string, error) {
	active := g.o.Name
	if !g.active() {
		active = g.otherHolder()
	}
	names, err := repairable(v, from, active)
	if err != nil {
		return nil, err
	}
	for _, node := range names {
		emit(admin.Event{Message: fmt.Sprintf("%s: its state is set aside and taken from %s", node, active)})
		r := replaceRequest{Reason: fmt.Sprintf("it differs from %s at lsn %d", from, v.Mark.LSN), Asked: g.o.Name}
		if node == g.o.Name {
			_, err = g.replaceState(ctx, r)
		} else {
			var none struct{}
			err = g.peers.call(ctx, node, peerReplace, r, &none)
		}
		if err == nil {
			err = g.awaitState(ctx, node)
		}
		if err != nil {
			return nil, fmt.Errorf("repair %s: %w", node, err)
		}
		emit(admin.Event{Message: fmt.Sprintf("%s: has a state again, comparing", node)})
	}
	return names, nil
}

// replaceState sets this standby's state aside and has the log stream bring the active's.
func (g *group) replaceState(_ context.Context, r replaceRequest) (struct{}, error) {
	why := fmt.Errorf("%w: %s", errStateReplaced, r.Reason)
	if g.runner.Role() != failover.RoleStandby || g.active() {
		return struct{}{}, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("node %s is %s: only a standby's state is replaced", g.o.Name, g.runner.Role())}
	}
	g.events.Record(events.Repair, "state set aside to be replaced by the active's", slog.String("reason", r.Reason), slog.String("asked_by", r.Asked))
	g.logger.Warn("state is set aside to be replaced by the active's", "reason", r.Reason, "asked_by", r.Asked)
	g.applier.step.Lock() // the applier rests
	defer g.applier.step.Unlock()
	g.digests.cancel()
	if err := g.state.shut(); err != nil {
		err = fmt.Errorf("close state to replace it: %w", err)
		g.fatal(err) // it serves nobody any more, and was not replaced: the next start opens it as it is
		return struct{}{}, err
	}
	if err := g.dropState(why); err != nil {
		g.fatal(err)
		return struct{}{}, err
	}
	g.alarms.raise(alarmState, fmt.Sprintf("the state is being replaced by the active's (%s)", r.Reason))
	g.newSnapshots() // none of the state that was wrong is handed out any more
	g.follower.restart()
	return struct{}{}, nil
}

// errStateReplaced is why a node has no state for a while.
var errStateReplaced = errors.New("the state was set aside")

// awaitState waits until a node has a state.
func (g *group) awaitState(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, replaceLimit, fmt.Errorf("no state within %s", replaceLimit))
	defer cancel()
	for {
		var s admin.NodeStatus
		if node == g.o.Name {
			s = g.nodeStatus()
		} else {
			s = g.peers.status(ctx, node)
		}
		if s.Error == "" && s.Applied.LSN > 0 {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the new state: %w", context.Cause(ctx))
		}
	}
}
