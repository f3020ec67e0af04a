package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// adminAPI is the admin.Handler of a node.
type adminAPI struct{ *group }

var (
	_ admin.Handler = adminAPI{}
	_ admin.Copies  = adminAPI{}
	_ admin.Proof   = adminAPI{}
)

// Status implements admin.Handler.
func (a adminAPI) Status(ctx context.Context, local bool) (admin.ClusterStatus, error) {
	return a.clusterStatus(ctx, local), nil
}

// Promote implements admin.Handler.
func (a adminAPI) Promote(ctx context.Context, req admin.PromoteRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
	if other := req.Node; other != "" && other != a.o.Name {
		req.Node = ""
		end, err := a.forward(ctx, other, admin.PathPromote, req, emit)
		return value(end.Promote), err
	}
	if k := req.Sync; k != nil && (*k < 0 || *k > len(a.o.syncMembers())) {
		return admin.PromoteResult{}, &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("sync %d: the sync set has %d members", *k, len(a.o.syncMembers()))}
	}
	if req.Reason == "" {
		req.Reason = "by hand"
	}
	opts := failover.PromoteOptions{Reason: req.Reason, AllowDataLoss: req.AllowDataLoss, Bootstrap: req.Bootstrap, K: req.Sync}
	if a.shipping() {
		return a.promoteShipped(ctx, req, opts, emit)
	}
	if req.ToMoment() {
		return a.promoteToMoment(ctx, req, opts, emit)
	}
	if req.Plan {
		p, err := a.runner.Plan(ctx, opts)
		r := a.promoteResult(p)
		r.Plan, r.Already = true, a.active()
		return r, asAdmin(err)
	}
	return a.promote(ctx, opts, emit)
}

func (a adminAPI) promote(ctx context.Context, opts failover.PromoteOptions, emit func(admin.Event)) (admin.PromoteResult, error) {
	began := time.Now()
	lines := make(chan string, 16)
	said := make(chan struct{})
	go func() { // emit may be called from one goroutine only
		defer close(said)
		for line := range lines {
			emit(admin.Event{Message: line})
		}
	}()
	previous, applied := a.fence.Epoch(), a.state.applied().LSN
	if behind := a.log.Durable().LSN - min(applied, a.log.Durable().LSN); behind > 0 {
		lines <- fmt.Sprintf("%d records of this node's log are to be replayed, about %.1f s at %.0f records/s", behind, float64(behind)/a.applier.rate(), a.applier.rate())
	}
	res, err := a.tryPromote(ctx, opts, func(line string) {
		select {
		case lines <- line:
		default: // a slow reader of progress does not hold up a promotion
		}
	})
	close(lines)
	<-said
	var refused *failover.RefusedError
	if errors.As(err, &refused) {
		res.Plan = refused.Plan
	}
	r := a.promoteResult(res.Plan)
	r.Already, r.Previous, r.Millis = res.Already, previous, float64(time.Since(began).Microseconds())/1000
	r.Replay = uint64(max(res.Plan.Target.LSN, applied) - applied)
	if err == nil {
		r.Epoch, r.Allowed = res.Epoch, true
		r.ReplaySec = time.Duration(a.replayTook.Load()).Seconds()
	}
	return r, asAdmin(err)
}

// promoteAttempts bounds tryPromote.
const promoteAttempts = 3

// tryPromote promotes this node, again when it was refused by the answers to its fence: another node was promoted at the same time (FAULTS H7), or one that had answered
// the survey was gone. The next survey sees what is left.
func (a adminAPI) tryPromote(ctx context.Context, opts failover.PromoteOptions, progress func(string)) (failover.Result, error) {
	for attempt := 1; ; attempt++ {
		res, err := a.promoteNow(ctx, opts, progress)
		var refused *failover.RefusedError
		if !errors.As(err, &refused) || refused.Phase != "fence" || attempt == promoteAttempts {
			return res, err
		}
		progress(fmt.Sprintf("attempt %d: %v; trying again", attempt, err))
		select {
		case <-time.After(time.Duration(20+rand.IntN(100)) * time.Millisecond):
		case <-ctx.Done():
			return res, err
		}
	}
}

// Demote implements admin.Handler.
func (a adminAPI) Demote(ctx context.Context, req admin.DemoteRequest, emit func(admin.Event)) error {
	if other := req.Node; other != "" && other != a.o.Name {
		req.Node = ""
		_, err := a.forward(ctx, other, admin.PathDemote, req, emit)
		return err
	}
	if a.runner.Role() == failover.RoleStandby {
		text := fmt.Sprintf("node %s is not active, nothing was changed", a.o.Name)
		if active := a.otherHolder(); active != "" {
			text += fmt.Sprintf("; epoch %d is held by %s", a.fence.Epoch(), active)
		}
		return &admin.Error{Code: admin.CodeNoActive, Message: text}
	}
	return asAdmin(a.runner.Demote(ctx, req.Reason))
}

// Switchover implements admin.Handler. Whoever is asked passes it on to the active.
func (a adminAPI) Switchover(ctx context.Context, req admin.SwitchoverRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
	if req.Cancel && a.otherHolder() == "" {
		return a.unschedule()
	}
	if !a.active() {
		active := a.otherHolder()
		if active == "" {
			return admin.PromoteResult{}, &admin.Error{Code: admin.CodeNoActive, Message: "there is no active to hand over from: use promote"}
		}
		end, err := a.forward(ctx, active, admin.PathSwitchover, req, emit)
		return value(end.Promote), err
	}
	if req.Plan {
		return a.switchoverPlan(req.To)
	}
	if !req.At.IsZero() {
		return a.later(req)
	}
	r, err := a.switchover(ctx, req.To, req.Reason, emit)
	return r, asAdmin(err)
}

// Verify implements admin.Handler.
func (a adminAPI) Verify(ctx context.Context, req admin.VerifyRequest, emit func(admin.Event)) (admin.VerifyResult, error) {
	return a.verify(ctx, req, emit)
}

// Diverged implements admin.Handler.
func (a adminAPI) Diverged(context.Context) ([]admin.Diverged, error) {
	saved, err := wal.ListDiverged(a.o.FS, a.path("diverged"))
	if err != nil {
		return nil, err
	}
	var all []admin.Diverged
	for _, d := range saved {
		all = append(all, admin.Diverged{
			Node: a.o.Name, Name: a.o.FS.PathBase(d.Path), Path: d.Path, From: d.From, To: d.To, Records: d.Records, Bytes: d.Bytes,
			Reason: d.Reason, Time: d.Time,
		})
	}
	return all, nil
}

// Log implements admin.Handler.
func (a adminAPI) Log(_ context.Context, from, to wal.LSN) ([]admin.LogFrame, error) {
	return a.logFrames(from, to)
}

// Ready implements admin.Handler.
func (a adminAPI) Ready(context.Context) error {
	if a.active() || a.receiver.Status().Running {
		return nil
	}
	return fmt.Errorf("node %s is %s and follows nobody", a.o.Name, a.runner.Role())
}

// forward passes a request on to another node's admin API and its events back.
func (a adminAPI) forward(ctx context.Context, peer, path string, req any, emit func(admin.Event)) (admin.Event, error) {
	return forward(ctx, a.peers, peer, path, req, emit)
}

func forward(ctx context.Context, peers *peers, peer, path string, req any, emit func(admin.Event)) (admin.Event, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return admin.Event{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+peer+peerAdmin+path, bytes.NewReader(body))
	if err != nil {
		return admin.Event{}, err
	}
	admin.Forward(ctx, r)
	resp, err := peers.http.Do(r)
	if err != nil {
		return admin.Event{}, fmt.Errorf("node %s cannot be asked: %w", peer, trimURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		e := &admin.Error{Code: admin.CodeFailed, Message: resp.Status}
		_ = json.NewDecoder(resp.Body).Decode(e) // the status says enough
		return admin.Event{}, e
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxPeerBody)
	for lines.Scan() {
		var e admin.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return admin.Event{}, fmt.Errorf("answer of node %s: %w", peer, err)
		}
		if !e.Done {
			emit(e)
			continue
		}
		if e.Error != "" {
			return e, &admin.Error{Code: e.Code, Message: e.Error}
		}
		return e, nil
	}
	return admin.Event{}, fmt.Errorf("answer of node %s ended early: %w", peer, errors.Join(lines.Err(), context.Cause(ctx)))
}

// asAdmin gives an error of the role machine the code that the operator's tool turns into an exit code.
func asAdmin(err error) error {
	var already *admin.Error
	switch {
	case err == nil, errors.As(err, &already):
		return err
	case errors.Is(err, failover.ErrRefused):
		return &admin.Error{Code: admin.CodeRefused, Message: err.Error()}
	case errors.Is(err, failover.ErrNotActive):
		return &admin.Error{Code: admin.CodeNoActive, Message: err.Error()}
	}
	return &admin.Error{Code: admin.CodeFailed, Message: err.Error()}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
