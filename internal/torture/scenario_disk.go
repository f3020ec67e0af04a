package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func straceScenario() scenario {
	return scenario{
		name: "strace", share: 3, rows: []string{"D4", "D5", "D17"}, needs: func(Options) string { return noStrace() },
		about: "system calls of the active that fail (EIO of a sync, ENOSPC of a write) or do not return, by strace",
		run:   runStrace,
	}
}

// noStrace says why system calls cannot be tampered with here: tried once.
var noStrace = sync.OnceValue(func() string {
	if why := missing("strace", "sleep"); why != "" {
		return why
	}
	child := exec.Command("sleep", "30")
	if err := child.Start(); err != nil {
		return err.Error()
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	s, err := attach(child.Process.Pid, os.DevNull, "fsync", "error=EIO")
	if err != nil {
		return err.Error()
	}
	s.kill()
	return ""
})

// attach has strace tamper with one kind of system calls of a process from now on, until it is killed or the process ends.
func attach(pid int, logPath, call, what string) (*process, error) {
	s, err := launch(logPath, nil, "strace", "-f", "-o", os.DevNull, "-e", "trace="+call, "-e", "inject="+call+":"+what, "-p", strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && !strings.Contains(string(b), "TracerPid:\t0\n") {
			return s, nil
		}
		if !s.alive() || time.Now().After(deadline) {
			s.kill()
			return nil, fmt.Errorf("strace does not attach to process %d: ptrace is not allowed here", pid)
		}
	}
}

// diskStall is the nodes' limits.stall: short, so that a sync that hangs ends soon.
const diskStall = 2500 * time.Millisecond

// runStrace: D4 (fsync EIO: nothing is acked, the node leaves, the sync is not tried again), D5 (ENOSPC of the log), D17 (a sync that does not return).
func runStrace(_ context.Context, p *play) error {
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, stall: diskStall}); err != nil {
		return err
	}
	p.begin(true)
	kinds := []struct{ name, call, what string }{
		{"sync fails (D4)", "fdatasync", "error=EIO:when=3"},
		{"no space for the log (D5)", "pwrite64", "error=ENOSPC:when=5+"},
		{"sync does not return (D17)", "fdatasync", "delay_enter=60000000:when=3+"},
	}
	for i := 0; p.more() || i < len(kinds) && p.ctx.Err() == nil; i++ {
		k := kinds[i%len(kinds)]
		p.log.Info("system call", "fault", k.name)
		if err := p.acks(30); err != nil {
			return err
		}
		p.row.Faults++
		if err := p.tamper(k.call, k.what); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		p.row.Rounds = max(p.row.Rounds, i+1)
	}
	return p.judge()
}

// tamper makes system calls of the active fail, promotes another node once it has stopped to ack, and brings it back.
func (p *play) tamper(call, what string) error {
	old, next := p.active, p.any(p.active)
	s, err := attach(old.proc.pid(), filepath.Join(p.dir, "strace.log"), call, what)
	if err != nil {
		return err
	}
	defer s.kill()
	if err := p.silent(); err != nil {
		return err
	}
	if err := p.promote(next); err != nil {
		return err
	}
	p.load.move(next)
	if err := p.acks(30); err != nil {
		return err
	}
	return p.replaced(old, s)
}

// silent waits until the active has acked no write for a while: the fault has struck. Reads may go on.
func (p *play) silent() error {
	last, since := p.load.highest(p.active.name), time.Now()
	return p.until(60*time.Second, "the active stops to ack", func() error {
		if now := p.load.highest(p.active.name); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 300*time.Millisecond {
			return errors.New("it acks")
		}
		return nil
	})
}

// replaced waits until a node with a bad disk has left, or is a healthy standby again; one that left has to have said why, and is started again once the disk is well.
func (p *play) replaced(old *node, tampering *process) error {
	_ = p.until(30*time.Second, old.name+" leaves", func() error {
		if old.proc.alive() && !strings.HasPrefix(lastLine(old.log), "repld: ") {
			return errors.New("it runs")
		}
		return nil
	})
	if tampering != nil {
		tampering.kill() // a thread that it holds keeps the process from ending
	}
	_ = old.proc.ended(5 * time.Second)
	if old.proc.alive() {
		return p.caughtUp() // it bore it: steps down and follows
	}
	if old.proc.killed() || old.proc.cmd.ProcessState.ExitCode() != 1 {
		return fmt.Errorf("node %s ended with %v, not with exit code 1 and its reason: %s", old.name, old.proc.cmd.ProcessState, lastLine(old.log))
	}
	if err := p.up(old); err != nil {
		return err
	}
	return p.caughtUp()
}

func fullScenario() scenario {
	return scenario{
		name: "full-disk", share: 2, rows: []string{"D3", "D5", "D6", "D18"}, needs: needsDisk,
		about: "a tmpfs that is full, with writes cut short at its end; an ext4 that is aborted to read-only under the node",
		run:   runFull,
	}
}

// tmpfsBytes is the size of the small disk.
const tmpfsBytes = 96 << 20

// runFull: D3 (a write is cut short where the disk ends), D5, D6 (no space for log and state), D18 (file system aborted to read-only).
func runFull(_ context.Context, p *play) error {
	small := filepath.Join(p.dir, "small")
	if err := os.MkdirAll(small, 0o755); err != nil {
		return err
	}
	if err := tool("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", tmpfsBytes), "tmpfs", small); err != nil {
		return err
	}
	p.later(func() error { return (&disk{mount: small}).detach() })
	d, err := newDisk(p.dir, "b", diskBytes)
	if err != nil {
		return err
	}
	p.later(d.remove)
	err = p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, stall: diskStall,
		data: map[string]string{"a": filepath.Join(small, "data"), "b": filepath.Join(d.mount, "data")}})
	if err != nil {
		return err
	}
	p.begin(true)
	for i := 0; p.more() || i < 2 && p.ctx.Err() == nil; i++ {
		p.row.Faults++
		if i%2 == 0 {
			err = p.fill(p.fleet.nodes["a"], small)
		} else {
			err = p.abort(p.fleet.nodes["b"], d)
		}
		if err != nil {
			return err
		}
		p.row.Rounds = max(p.row.Rounds, i+1)
	}
	return p.judge()
}

// lead makes n the active.
func (p *play) lead(n *node) error {
	if p.active == n {
		return p.acks(30)
	}
	if err := p.promote(n); err != nil {
		return err
	}
	p.load.move(n)
	if err := p.caughtUp(); err != nil {
		return err
	}
	return p.acks(30)
}

// fill takes all room that the active's disk has, until it stops to ack; then gives it back.
func (p *play) fill(n *node, dir string) error {
	if err := p.lead(n); err != nil {
		return err
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<16)
	for err == nil {
		_, err = f.Write(block)
	}
	full := errors.Is(err, syscall.ENOSPC)
	if err := f.Close(); err != nil || !full {
		return fmt.Errorf("the disk does not fill: %w", err)
	}
	// Only prepared segments and memory are left to it now. More load, to have it meet the end.
	stop := p.pressure(n)
	err = p.silentFor(n)
	stop()
	if err != nil {
		return err
	}
	next := p.any(n)
	if err := p.promote(next); err != nil {
		return err
	}
	p.load.move(next)
	if err := p.acks(30); err != nil {
		return err
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	if n.proc.alive() {
		if err := p.caughtUp(); err == nil {
			return nil
		}
	}
	return p.replaced(n, nil)
}

// pressure writes large values to n until it is stopped.
func (p *play) pressure(n *node) (stop func()) {
	ctx, cancel := context.WithCancel(p.ctx)
	var wg sync.WaitGroup
	conn := n.redis
	// Bytes that do not compress.
	value := make([]byte, 128<<10)
	for i := range value {
		value[i] = byte(p.rnd.Uint32())
	}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			value[i%len(value)]++
			if conn.Set(ctx, fmt.Sprintf("fill:%d", i%64), value, 0).Err() != nil {
				p.pause(20 * time.Millisecond)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// silentFor waits until n acks nothing more, or has left.
func (p *play) silentFor(n *node) error {
	if err := p.silent(); err != nil {
		s, statusErr := n.status(p.ctx)
		return fmt.Errorf("%s goes on although its disk is full: %w (%v, %v)", n.name, err, s.Alarms, statusErr)
	}
	return nil
}

// abort makes the file system of the active read-only, as the kernel does after an error of the device.
func (p *play) abort(n *node, d *disk) error {
	if err := p.lead(n); err != nil {
		return err
	}
	if err := tool("mount", "-o", "remount,abort", d.mount); err != nil {
		return err
	}
	if err := p.silent(); err != nil {
		return err
	}
	next := p.any(n)
	if err := p.promote(next); err != nil {
		return err
	}
	p.load.move(next)
	if err := p.acks(30); err != nil {
		return err
	}
	if err := n.proc.ended(60 * time.Second); err != nil {
		return fmt.Errorf("the disk of %s is read-only (D18): %w", n.name, err)
	}
	if n.proc.cmd.ProcessState.ExitCode() != 1 {
		return fmt.Errorf("node %s ended with %v on a read-only disk (D18): %s", n.name, n.proc.cmd.ProcessState, lastLine(n.log))
	}
	if err := d.detach(); err != nil {
		return err
	}
	if err := d.attach(); err != nil {
		return err
	}
	if err := p.up(n); err != nil {
		return err
	}
	return p.caughtUp()
}
