package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// machines are the hosts of a system: network namespaces on one bridge, or this host when there is no right to make them.
type machines struct {
	dir    string
	prefix string // of the names of namespaces and links; "" without namespaces
	procs  map[string]*proc
}

// proc is a process on one of the machines.
type proc struct {
	machine int
	args    []string
	log     string
	cmd     *exec.Cmd
	done    chan struct{}
}

const machineCount = 3

func newMachines(dir string) (*machines, error) {
	m := &machines{dir: dir, procs: map[string]*proc{}}
	if os.Geteuid() != 0 {
		return m, nil
	}
	m.prefix = fmt.Sprintf("rb%d", os.Getpid()%100000)
	if err := m.ip("link", "add", m.bridge(), "type", "bridge"); err != nil {
		m.prefix = ""
		return m, nil // no namespaces here
	}
	steps := [][]string{{"addr", "add", m.subnet() + ".254/24", "dev", m.bridge()}, {"link", "set", m.bridge(), "up"}}
	for i := range machineCount {
		ns, out, in := m.ns(i), m.link(i), "eth0"
		steps = append(steps,
			[]string{"netns", "add", ns},
			[]string{"link", "add", out, "type", "veth", "peer", "name", in, "netns", ns},
			[]string{"-n", ns, "addr", "add", m.addr(i) + "/24", "dev", in},
			[]string{"-n", ns, "link", "set", in, "up"},
			[]string{"-n", ns, "link", "set", "lo", "up"},
			[]string{"link", "set", out, "master", m.bridge()},
			[]string{"link", "set", out, "up"})
	}
	for _, s := range steps {
		if err := m.ip(s...); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

func (m *machines) ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

func (m *machines) bridge() string    { return m.prefix + "br" }
func (m *machines) ns(i int) string   { return fmt.Sprintf("%sn%d", m.prefix, i) }
func (m *machines) link(i int) string { return fmt.Sprintf("%sv%d", m.prefix, i) }
func (m *machines) subnet() string {
	return fmt.Sprintf("10.%d.%d", 64+os.Getpid()/256%64, os.Getpid()%256)
}
func (m *machines) namespaces() bool     { return m.prefix != "" }
func (m *machines) path(n string) string { return filepath.Join(m.dir, n) }

// addr is a machine's address; without namespaces all have the same.
func (m *machines) addr(i int) string {
	if !m.namespaces() {
		return "127.0.0.1"
	}
	return fmt.Sprintf("%s.%d", m.subnet(), i+1)
}

// port is base, or without namespaces one that differs by machine.
func (m *machines) port(i, base int) int {
	if m.namespaces() {
		return base
	}
	return base + 10*i
}

func (m *machines) hostport(i, base int) string {
	return fmt.Sprintf("%s:%d", m.addr(i), m.port(i, base))
}

// cut drops every packet from and to a machine; heal ends that. The link stays up: nobody is told.
func (m *machines) cut(i int) error  { return m.ip("link", "set", m.link(i), "nomaster") }
func (m *machines) heal(i int) error { return m.ip("link", "set", m.link(i), "master", m.bridge()) }

// start starts a process under a name, or starts it again.
func (m *machines) start(name string, machine int, args ...string) error {
	p := m.procs[name]
	if p == nil {
		p = &proc{machine: machine, args: args, log: m.path(name + ".log")}
		m.procs[name] = p
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	full := p.args
	if m.namespaces() {
		full = append([]string{"ip", "netns", "exec", m.ns(p.machine)}, full...) // ip replaces itself by the program
	}
	p.cmd = exec.Command(full[0], full[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(done)
	}()
	return nil
}

func (m *machines) signal(name string, s syscall.Signal) error {
	p := m.procs[name]
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if s == syscall.SIGKILL {
		<-p.done
	}
	return nil
}

// logged is what the processes logged since a moment, in the order of the lines' times, each after the process' name. Only lines in slog's form are taken.
func (m *machines) logged(since time.Time) string {
	const layout = "2006-01-02T15:04:05.000Z"
	from := "time=" + since.UTC().Format(layout)
	var lines []string
	for name, p := range m.procs {
		text, err := os.ReadFile(p.log)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "time=") && len(line) > len(from) && line >= from {
				lines = append(lines, line[:len(from)]+" "+name+line[len(from):])
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func (m *machines) close() {
	for _, p := range m.procs {
		if p.cmd != nil && p.cmd.Process != nil {
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	if !m.namespaces() {
		return
	}
	for i := range machineCount {
		_ = m.ip("link", "del", m.link(i))
		_ = m.ip("netns", "del", m.ns(i))
	}
	_ = m.ip("link", "del", m.bridge())
}

var errLate = errors.New("not in time")

// until calls ok until it returns nil.
func until(limit time.Duration, ok func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w (%s): %w", errLate, limit, err)
		}
	}
}
