package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is one child.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	end  os.Signal // what asks it to stop
}

func start(name, log, program string, args ...string) (*process, error) {
	return startAs(nil, name, log, program, args...)
}

// startAs starts a child as another user, or as this one.
func startAs(user *syscall.Credential, name, log, program string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: name, cmd: exec.Command(program, args...), log: log, done: make(chan struct{}), end: syscall.SIGTERM}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: user}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// stop asks, then kills.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(p.end) // an error means that it ended already
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// alive returns an error with the last of its log when the process has ended.
func (p *process) alive() error {
	select {
	case <-p.done:
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, text[max(0, len(text)-2000):])
	default:
		return nil
	}
}
