package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is one child. Its output is appended to a file.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// launch starts a program. It dies with this process (Pdeathsig), so that a killed run leaves nothing running.
func launch(logPath string, env []string, args ...string) (*process, error) {
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) error {
	err := p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %d has ended by itself: %v", p.pid(), p.cmd.ProcessState)
	}
	return err
}

// kill ends the process with SIGKILL. It reports whether it still ran.
func (p *process) kill() bool {
	if !p.alive() {
		return false
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return err == nil && p.killed()
}

// killed reports whether the process was ended by SIGKILL, from whomever.
func (p *process) killed() bool {
	if p.alive() || p.cmd.ProcessState == nil {
		return false
	}
	st, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGKILL
}

// ended waits for the end.
func (p *process) ended(limit time.Duration) error {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		return fmt.Errorf("process %d has not ended within %v", p.pid(), limit)
	}
}

// freeze stops the process and returns when each of its threads stands still.
func (p *process) freeze() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return p.frozen(20 * time.Second)
}

// frozen waits until each thread of the process stands still.
func (p *process) frozen(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		ok, err := stopped(p.pid())
		if ok || err != nil {
			return err
		}
		if !p.alive() {
			return fmt.Errorf("process %d has ended: %v", p.pid(), p.cmd.ProcessState)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stand still within %v", p.pid(), limit)
		}
	}
}

// stopped reports whether all threads of a process are in state T (stopped) or t (tracing stop).
func stopped(pid int) (bool, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return false, err
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t + "/stat")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return false, err
		}
		// The name in parentheses may contain anything; the state follows the last one.
		if _, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " "); !ok || rest[0] != 'T' && rest[0] != 't' {
			return false, nil
		}
	}
	return len(tasks) > 0, nil
}
