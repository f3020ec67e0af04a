package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// MaxOutput is how many bytes of a hook's output are kept, the first ones.
const MaxOutput = 1 << 10

// grace is how long after the end of a hook its output may be held open by processes that it left.
const grace = 500 * time.Millisecond

// path is where a hook finds programs.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Hook is one program to run.
type Hook struct {
	Name    string        // as in the configuration: on_alarm
	Command []string      // program and arguments; empty: there is no such hook
	Timeout time.Duration // until it is killed
	Cluster string
	Node    string
}

// Set reports whether there is anything to run.
func (h Hook) Set() bool { return len(h.Command) > 0 }

// Result is how it went.
type Result struct {
	Output string // of both its streams, cut at MaxOutput
	Took   time.Duration
}

// ErrTimeout is why a hook failed that did not end in time.
var ErrTimeout = errors.New("killed at its time limit")

// Run runs the hook with input as JSON on its standard input and waits for it, at most for its time limit and a moment. An error means that it did not end
// with exit code 0.
func (h Hook) Run(ctx context.Context, input any) (Result, error) {
	text, err := json.Marshal(input)
	if err != nil {
		return Result{}, fmt.Errorf("hook %s: encode input: %w", h.Name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.Timeout, ErrTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.Command[0], h.Command[1:]...)
	var out limited
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(text, '\n')), &out, &out
	cmd.Dir, cmd.Env = "/", []string{path, "REPLD_HOOK=" + h.Name, "REPLD_CLUSTER=" + h.Cluster, "REPLD_NODE=" + h.Node}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = grace
	killGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = killGroup
	began := time.Now()
	err = cmd.Run()
	if cmd.Process != nil {
		_ = killGroup() // what it left behind; usually nothing
	}
	r := Result{Output: strings.TrimSpace(string(out.b)), Took: time.Since(began)}
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("hook %s: %w after %v", h.Name, context.Cause(ctx), r.Took.Round(time.Millisecond))
	case errors.Is(err, exec.ErrWaitDelay):
		return r, nil // it ended well; a process that it left held its output open
	case err != nil:
		return r, fmt.Errorf("hook %s: %w", h.Name, err)
	}
	return r, nil
}

// limited keeps the first bytes and takes all.
type limited struct{ b []byte }

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	l.b = append(l.b, b[:min(len(b), MaxOutput-len(l.b))]...)
	return len(b), nil
}
