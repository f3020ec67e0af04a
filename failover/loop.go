package failover

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Run owns the machine until ctx ends. It begins by following whom the fence remembers. At its end clients are closed
// and the writer is stopped; nothing of it is left running. Call it once.
func (r *Runner) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.o.Tick)
	defer ticker.Stop()
	r.step(Started{Epoch: r.o.Fence.Epoch(), Holder: r.o.Fence.Holder()})
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.urgent:
			r.stepUrgent()
		case q := <-r.requests:
			r.waiting[q.id] = q
			r.stepAfterUrgent(q.event)
		case ev := <-r.completions:
			r.stepAfterUrgent(ev)
		case <-ticker.C:
			r.stepAfterUrgent(Tick{})
		}
	}
	return r.shutdown()
}

// stepAfterUrgent lets a higher epoch or a failed disk go first, so that nothing is opened or answered after it was known.
func (r *Runner) stepAfterUrgent(ev Event) {
	r.stepUrgent()
	r.step(ev)
}

func (r *Runner) stepUrgent() {
	r.inbox.Lock()
	failed, higher := r.inbox.failed, r.inbox.higher
	r.inbox.failed, r.inbox.higher = nil, nil
	r.inbox.Unlock()
	if failed != nil {
		r.step(*failed)
	}
	if higher != nil {
		r.step(*higher)
	}
}

func (r *Runner) step(ev Event) {
	actions := r.machine.Step(ev)
	r.status.Store(&status{role: r.machine.Role(), epoch: r.machine.Epoch()})
	for _, a := range actions {
		r.do(a)
	}
}

// do carries out one action: at once, or as a job that answers with an event.
func (r *Runner) do(a Action) {
	switch a := a.(type) {
	case OpenClients:
		r.o.Host.OpenClients(a.Epoch)
	case CloseClients:
		r.o.Host.CloseClients(a.Reason)
	case PauseWrites:
		r.o.Host.PauseWrites()
	case ResumeWrites:
		r.o.Host.ResumeWrites()
	case FollowActive:
		r.o.Host.Follow(a.Node, a.Epoch)
	case Exit:
		r.o.Logger.Error("leaving because storage failed", "err", a.Err)
		r.o.Host.Exit(a.Err)
	case Report:
		r.report(a)
	case Tell:
		r.tell(a)
	case RoleChanged:
		r.publish(a.RoleChange)
	case Ignored:
		r.o.Logger.Debug("event ignored", "event", fmt.Sprintf("%T", a.Event), "reason", a.Reason)
	default:
		r.jobs.start(a)
	}
}

func (r *Runner) report(a Report) {
	q, ok := r.waiting[a.ID]
	if !ok {
		return
	}
	delete(r.waiting, a.ID)
	q.reply <- a
}

// tell drops what a slow caller does not take: it is only progress.
func (r *Runner) tell(a Tell) {
	q, ok := r.waiting[a.ID]
	if !ok {
		return
	}
	select {
	case q.tell <- a.Text:
	default:
	}
}

func (r *Runner) publish(c RoleChange) {
	r.o.Logger.Info("role changed", "old", c.Old, "new", c.New, "epoch", c.Epoch, "reason", c.Reason)
	r.subs.Lock()
	defer r.subs.Unlock()
	for id := range r.subs.next {
		if fn, ok := r.subs.fns[id]; ok {
			fn(c)
		}
	}
}

// shutdown leaves no writer and no goroutine behind, unless the host does not return in time.
func (r *Runner) shutdown() error {
	close(r.ended)
	r.jobs.cancelAll()
	var err error
	if r.machine.Role() != RoleStandby {
		r.o.Host.CloseClients("shutting down")
		err = r.stopWriterAtLast()
	}
	if !r.jobs.wait(r.o.Bounds.StopWriter) {
		err = errors.Join(err, fmt.Errorf("steps still running: %w", ErrTimeout))
	}
	for id := range r.waiting {
		r.report(Report{ID: id, Err: ErrClosed})
	}
	return err
}

func (r *Runner) stopWriterAtLast() error {
	if !r.jobs.wait(r.o.Bounds.StopWriter) {
		return fmt.Errorf("writer not stopped: %w", ErrTimeout)
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Bounds.StopWriter)
	defer cancel()
	if err := r.o.Host.StopWriter(ctx); err != nil {
		return fmt.Errorf("stop writer: %w", err)
	}
	return nil
}
