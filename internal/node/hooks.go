package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/events"
	"repld/internal/hooks"
	"repld/wal"
)

// HookOptions are programs to run, each with its arguments.
type HookOptions struct {
	OnRoleChange []string      // after each change of this node's role
	OnAlarm      []string      // after each alarm that begins or ends here
	PrePromote   []string      // before this node is promoted; a failure aborts the promotion
	Timeout      time.Duration // of each; then it is killed and has failed. Default 10 s
}

func (o *Options) hook(name string, command []string) hooks.Hook {
	timeout := o.Hooks.Timeout
	def(&timeout, 10*time.Second)
	return hooks.Hook{Name: name, Command: command, Timeout: timeout, Cluster: o.Cluster, Node: o.Name}
}

// hookInput is what hooks read.
type hookInput struct {
	Hook    string        `json:"hook"`
	Cluster string        `json:"cluster"`
	Group   string        `json:"group"`
	Node    string        `json:"node"`
	Event   *events.Event `json:"event,omitempty"` // for on_…

	// For pre_promote.
	Epoch    wal.Epoch `json:"epoch,omitempty"`  // that is obeyed now
	Holder   string    `json:"holder,omitempty"` // of that
	Reason   string    `json:"reason,omitempty"`
	MayLose  bool      `json:"allow_data_loss,omitempty"`
	Position string    `json:"position,omitempty"` // of this node's log
}

// runHook runs a hook and notes how it went.
func (g *group) runHook(ctx context.Context, h hooks.Hook, in hookInput) error {
	in.Hook, in.Cluster, in.Group, in.Node = h.Name, g.o.Cluster, g.o.Group, g.o.Name
	r, err := h.Run(ctx, in)
	attrs := []slog.Attr{slog.String("hook", h.Name), slog.Bool("ok", err == nil), slog.Float64("took_ms", float64(r.Took.Microseconds())/1000), slog.String("output", r.Output)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
		g.logger.Warn("hook failed", "hook", h.Name, "error", err, "output", r.Output)
	}
	g.events.Record(events.Hook, "hook ended", attrs...)
	return err
}

// hooks runs hooks for what the journal tells, one after the other in its order. They are behind when they are slow; nothing else is.
func (g *group) hooks(ctx context.Context) error {
	role, alarm := g.o.hook("on_role_change", g.o.Hooks.OnRoleChange), g.o.hook("on_alarm", g.o.Hooks.OnAlarm)
	at := g.hooksFrom
	for {
		all, more := g.events.Since(at, 0)
		for _, e := range all {
			at = e.Seq
			h := role
			switch e.Kind {
			case events.Role:
			case events.Alarm, events.Cleared:
				h = alarm
			default:
				continue
			}
			if h.Set() && ctx.Err() == nil {
				_ = g.runHook(ctx, h, hookInput{Event: &e}) // noted; there is nobody to ask
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// promoteNow promotes this node unless the operator's pre_promote says no. Nothing was changed by then.
func (g *group) promoteNow(ctx context.Context, opts failover.PromoteOptions, progress func(string)) (failover.Result, error) {
	if err := g.askPrePromote(ctx, opts, progress); err != nil {
		return failover.Result{}, err
	}
	return g.runner.Promote(ctx, opts, progress)
}

// askPrePromote returns why the operator's pre_promote does not allow a promotion, nil if it does or there is none.
func (g *group) askPrePromote(ctx context.Context, opts failover.PromoteOptions, progress func(string)) error {
	h := g.o.hook("pre_promote", g.o.Hooks.PrePromote)
	if !h.Set() || g.active() {
		return nil
	}
	progress("hook pre_promote is asked")
	in := hookInput{Epoch: g.fence.Epoch(), Holder: g.holder(), Reason: opts.Reason, MayLose: opts.AllowDataLoss, Position: fmt.Sprint(g.log.Durable())}
	err := g.runHook(ctx, h, in)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err != nil {
		err = &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("the operator's hook does not allow this promotion: %v", err)}
	}
	return err
}
