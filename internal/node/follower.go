package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"repld/replicate"
	"repld/wal"
)

// follower keeps this node's log following the holder of the epoch. One goroutine runs the receiver; the target changes from outside. It is
// also what a fencing answer waits for: once stop has returned, no frame of an older epoch is appended or acked any more (R3).
type follower struct {
	self     string
	group    string
	mesh     *replicate.Mesh
	receiver *replicate.Receiver
	heard    func(error)                                    // each end of a stream
	before   func(ctx context.Context, target string) error // what goes before a stream, in its place (see seeder); nil: nothing
	logger   *slog.Logger

	wake chan struct{} // capacity 1: the target changed, or its session came up

	mu struct {
		sync.Mutex
		target string             // whom to follow, "" nobody
		held   bool               // nothing is taken for now
		cancel context.CancelFunc // of the stream that runs
		idle   chan struct{}      // closed while no stream runs
		old    chan struct{}      // idle of the stream that was told to end last
	}
}

// Waits between attempts to follow.
const (
	minFollowWait = 20 * time.Millisecond
	maxFollowWait = time.Second
)

func newFollower(self, group string, mesh *replicate.Mesh, r *replicate.Receiver, heard func(error), logger *slog.Logger) *follower {
	f := &follower{self: self, group: group, mesh: mesh, receiver: r, heard: heard, logger: logger, wake: make(chan struct{}, 1)}
	f.mu.idle = make(chan struct{})
	close(f.mu.idle)
	return f
}

// follow makes node the target; "" or this node itself mean nobody. A stream from another target is ended.
func (f *follower) follow(node string) {
	if node == f.self {
		node = ""
	}
	f.mu.Lock()
	if f.mu.target != node {
		f.mu.target = node
		if f.mu.cancel != nil {
			f.mu.cancel()
			f.mu.old = f.mu.idle
		}
	}
	f.mu.Unlock()
	f.kick()
}

// restart ends the stream that runs; another one begins at once.
func (f *follower) restart() {
	f.mu.Lock()
	if f.mu.cancel != nil {
		f.mu.cancel()
		f.mu.old = f.mu.idle
	}
	f.mu.Unlock()
	f.kick()
}

// hold ends the stream that runs and lets none begin, until it is lifted.
func (f *follower) hold(on bool) {
	f.mu.Lock()
	changed := f.mu.held != on
	f.mu.held = on
	if changed && on && f.mu.cancel != nil {
		f.mu.cancel()
		f.mu.old = f.mu.idle
	}
	f.mu.Unlock()
	if changed {
		f.kick()
	}
}

func (f *follower) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// stop ends following and waits until nothing of it touches the log any more.
func (f *follower) stop(ctx context.Context) error {
	f.follow("")
	return f.settled(ctx)
}

// settled waits until the stream that was told to end last has ended.
func (f *follower) settled(ctx context.Context) error {
	f.mu.Lock()
	old := f.mu.old
	f.mu.Unlock()
	if old == nil {
		return nil
	}
	select {
	case <-old:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *follower) target() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.target
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) error {
	wait := minFollowWait
	var last string
	for ctx.Err() == nil {
		target, err := f.once(ctx)
		switch {
		case target == "" || target != last:
			wait = minFollowWait
		case err != nil && !errors.Is(err, replicate.ErrNotConnected):
			f.logger.Info("log stream ended", "source", target, "error", err)
		}
		last = target
		if target != "" && err == nil {
			wait = minFollowWait
		}
		retry := time.NewTimer(wait)
		if target == "" {
			retry.Stop() // nothing to do until woken
		}
		select {
		case <-f.wake:
			wait = minFollowWait
		case <-retry.C:
			wait = min(2*wait, maxFollowWait)
		case <-ctx.Done():
		}
		retry.Stop()
	}
	return nil
}

// once follows the target until its stream ends.
func (f *follower) once(ctx context.Context) (target string, err error) {
	f.mu.Lock()
	target = f.mu.target
	if target == "" || f.mu.held {
		f.mu.Unlock()
		return "", nil
	}
	ctx, cancel := context.WithCancel(ctx)
	idle := make(chan struct{})
	f.mu.cancel, f.mu.idle = cancel, idle
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.mu.cancel = nil
		f.mu.Unlock()
		cancel()
		close(idle)
	}()
	if f.before != nil {
		if err := f.before(ctx, target); err != nil {
			return target, err
		}
	}
	stream, err := f.mesh.Open(ctx, target, streamLog, f.group)
	if err != nil {
		return target, err
	}
	defer stream.Close()
	started := time.Now()
	err = f.receiver.Run(ctx, stream, target, replicate.Follow, wal.Position{})
	if ctx.Err() == nil {
		f.heard(err)
	}
	if time.Since(started) > maxFollowWait {
		err = nil // it worked for a while: try again at once
	}
	return target, err
}
