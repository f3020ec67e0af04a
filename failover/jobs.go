package failover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"repld/internal/failpoint"
)

// jobs are the actions that take time. Those that touch the log run one at a time: a writer is stopped only after the step
// that started it has returned.
type jobs struct {
	r   *Runner
	wg  sync.WaitGroup
	log chan struct{} // capacity 1: held by the job that touches the log

	mu struct {
		sync.Mutex
		running map[*job]struct{}
	}
}

// job is one action under way.
type job struct {
	attempt uint64
	cancel  context.CancelFunc
}

func (j *jobs) init(r *Runner) {
	j.r, j.log = r, make(chan struct{}, 1)
	j.mu.running = make(map[*job]struct{})
}

// wait reports whether all jobs ended within d.
func (j *jobs) wait(d time.Duration) bool {
	done := make(chan struct{})
	go func() {
		j.wg.Wait()
		close(done)
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

func (j *jobs) cancelAll() { j.cancelIf(func(*job) bool { return true }) }

func (j *jobs) cancel(attempt uint64) {
	j.cancelIf(func(b *job) bool { return b.attempt == attempt })
}

func (j *jobs) cancelIf(match func(*job) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for b := range j.mu.running {
		if match(b) {
			b.cancel()
		}
	}
}

// start runs a as a job of its attempt.
func (j *jobs) start(a Action) {
	h := j.r.o.Host
	switch a := a.(type) {
	case Cancel:
		j.cancel(a.Attempt)
	case Survey:
		j.free(a.Attempt, func(ctx context.Context) Event { return j.survey(ctx, a) })
	case AcquireToken:
		j.free(a.Attempt, func(ctx context.Context) Event { return j.acquire(ctx, a) })
	case HandOver:
		j.free(a.Attempt, func(ctx context.Context) Event {
			e, err := h.HandOver(ctx, a.To, a.At)
			return HandedOver{Attempt: a.Attempt, Epoch: e, Err: err}
		})
	case Drain:
		j.free(a.Attempt, func(ctx context.Context) Event {
			p, err := h.Drain(ctx, a.To)
			return Drained{Attempt: a.Attempt, Position: p, Err: err}
		})
	default:
		j.startOnLog(a)
	}
}

func (j *jobs) startOnLog(a Action) {
	h := j.r.o.Host
	switch a := a.(type) {
	case FencePeers:
		j.onLog(a.Attempt, func(ctx context.Context) Event { return j.fence(ctx, a) })
	case FastForward:
		j.onLog(a.Attempt, func(ctx context.Context) Event {
			return FastForwardDone{Attempt: a.Attempt, Err: h.FastForward(ctx, a.From, a.To, j.progress(a.Attempt))}
		})
	case StartEpoch:
		j.onLog(a.Attempt, func(ctx context.Context) Event { return j.startEpoch(ctx, a) })
	case Replay:
		j.onLog(a.Attempt, func(ctx context.Context) Event {
			return ReplayDone{Attempt: a.Attempt, Err: h.Replay(ctx, j.progress(a.Attempt))}
		})
	case StopWriter:
		j.onLog(a.Attempt, func(ctx context.Context) Event {
			return WriterStopped{Attempt: a.Attempt, Err: h.StopWriter(ctx)}
		})
	default:
		panic(fmt.Sprintf("failover: action %T has no executor", a))
	}
}

// free runs fn on its own goroutine and delivers its event.
func (j *jobs) free(attempt uint64, fn func(ctx context.Context) Event) {
	ctx, cancel := context.WithCancel(context.Background())
	b := &job{attempt: attempt, cancel: cancel}
	j.mu.Lock()
	j.mu.running[b] = struct{}{}
	j.mu.Unlock()
	j.wg.Go(func() {
		ev := fn(ctx)
		j.mu.Lock()
		delete(j.mu.running, b)
		j.mu.Unlock()
		cancel()
		j.post(ev)
	})
}

// onLog is free for jobs that touch the log. A job whose turn comes after it was cancelled still runs, with an ended context,
// so that each action has its completion.
func (j *jobs) onLog(attempt uint64, fn func(ctx context.Context) Event) {
	j.free(attempt, func(ctx context.Context) Event {
		j.log <- struct{}{}
		defer func() { <-j.log }()
		return fn(ctx)
	})
}

func (j *jobs) post(ev Event) {
	select {
	case j.r.completions <- ev:
	case <-j.r.ended:
	}
}

func (j *jobs) progress(attempt uint64) func(string) {
	return func(text string) { j.post(Progressed{Attempt: attempt, Text: text}) }
}

// survey loads the token and asks the nodes, at once: what it sees is only a reason to try. The token is taken against the revision that was loaded, and what binds
// are the answers to the fence.
func (j *jobs) survey(ctx context.Context, a Survey) SurveyDone {
	type loaded struct {
		token Record
		err   error
	}
	load := make(chan loaded, 1)
	go func() {
		token, err := j.r.o.Store.Load(ctx)
		load <- loaded{token, err}
	}()
	answers := j.r.o.Host.Survey(ctx)
	l := <-load
	if l.err != nil {
		return SurveyDone{Attempt: a.Attempt, Err: fmt.Errorf("load token: %w", l.err)}
	}
	return SurveyDone{Attempt: a.Attempt, Answers: answers, Token: l.token}
}

// acquire takes the token and then has this node obey it: from here on it accepts nothing of a lower epoch (R3).
func (j *jobs) acquire(ctx context.Context, a AcquireToken) Event {
	o := j.r.o
	a.Record.Time = o.Now()
	if _, err := o.Store.CompareAndSet(ctx, a.Rev, a.Record); err != nil {
		return TokenLost{Attempt: a.Attempt, Err: err}
	}
	failpoint.Hit(failpoint.TokenTaken)
	if err := o.Fence.Grant(a.Record.Epoch, o.Node, a.Record.Sync); err != nil {
		if errors.Is(err, ErrFailed) {
			j.r.Failed(err)
		}
		return TokenLost{Attempt: a.Attempt, Err: err}
	}
	return TokenWon{Attempt: a.Attempt}
}

// startEpoch makes this node a voter once its first record is committed: what its log holds is by definition what the
// epoch continues, even on a node that was blank, or not known to be complete, before (R11).
func (j *jobs) startEpoch(ctx context.Context, a StartEpoch) Event {
	lsn, err := j.r.o.Host.StartEpoch(ctx, a.Start)
	if err == nil {
		err = j.r.o.Fence.SetVoter(true)
	}
	if errors.Is(err, ErrFailed) {
		j.r.Failed(err)
	}
	return EpochStarted{Attempt: a.Attempt, LSN: lsn, Err: err}
}

func (j *jobs) fence(ctx context.Context, a FencePeers) Event {
	h := j.r.o.Host
	if err := h.StopFollowing(ctx); err != nil {
		return FenceDone{Attempt: a.Attempt, Err: fmt.Errorf("stop following: %w", err)}
	}
	return FenceDone{Attempt: a.Attempt, Answers: h.FencePeers(ctx, a.Epoch, j.r.o.Node, a.Next)}
}
