package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process runs a node as a process of the repld binary.
type process struct {
	t    testing.TB
	node *Node
	bin  string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
	err  error
}

func (p *process) start() error {
	if p.alive() {
		return errors.New("it runs already")
	}
	config := p.node.Config()
	if err := os.WriteFile(config, []byte(p.node.config()), 0o600); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(p.node.c.Dir, p.node.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	p.cmd = exec.Command(p.bin, "--config", config)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	go func() {
		p.err = p.cmd.Wait()
		close(done)
	}()
	return nil
}

// Upgrade has the node, a process, run another binary of repld from its next start on.
func (n *Node) Upgrade(bin string) { n.runner.(*process).bin = bin }

func (p *process) alive() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("no end 30 s after SIGTERM"), p.kill())
	}
}

func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.done
	return err
}

func (p *process) pause() error  { return p.signal(syscall.SIGSTOP) }
func (p *process) resume() error { return p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) error {
	if !p.alive() {
		return errors.New("it does not run")
	}
	return p.cmd.Process.Signal(s)
}

// config is the node's configuration file.
func (n *Node) config() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	s := n.c.Spec
	line("cluster: test")
	line("node: %s", n.Name)
	line("data: %s", n.Dir)
	if len(s.Nodes) > 1 {
		if f := n.tls(); n.c.secure() {
			line("tls: {ca: %s, cert: %s, key: %s}", f.CA, f.Cert, f.Key)
		} else {
			line("insecure: true")
		}
		line("peers:")
		for _, o := range n.c.Nodes() {
			role := "data"
			if o.spec.Witness {
				role = "witness"
			}
			line("  - {name: %s, addr: %q, role: %s}", o.Name, o.Addr, role)
		}
		if s.Shrink > 0 {
			line("sync: {k: %d, policy: shrink, shrink_after: %s}", s.K, s.Shrink)
		} else {
			line("sync: {k: %d}", s.K)
		}
	}
	switch {
	case s.Token != "":
		line("token: %s", s.Token)
	case s.Automatic:
		line("token: {path: %s, shared: true}", n.c.tokenDir())
	}
	if s.Automatic {
		line("failover:\n  mode: automatic\n%s", s.Failover)
	}
	if n.spec.Delay > 0 {
		line("mode: lagged")
		line("apply_delay: %s", n.spec.Delay)
	}
	if n.spec.Witness {
		line("role: witness")
		if s.Sentinel {
			n.guide(line)
		}
		line("admin: {socket: %s}", n.admin)
		return b.String()
	}
	line("client:")
	line("  socket: %s", n.Socket)
	line("  standby_reads: %t", s.StandbyReads)
	if s.Forward {
		line("  forward: on")
		line("  forward_wait: 60s")
	}
	if s.Client != "" {
		b.WriteString(s.Client)
	}
	if s.Sentinel {
		line("  tcp: %q", n.TCP)
		n.guide(line)
	}
	line("admin: {socket: %s}", n.admin)
	if s.Segment > 0 || s.Retain > 0 {
		line("wal:")
		if s.Segment > 0 {
			line("  segment_size: %d", s.Segment)
		}
		if s.Retain > 0 {
			line("  retain: %d", s.Retain)
		}
	}
	if s.Commit > 0 || s.Stall > 0 {
		line("limits:")
		if s.Commit > 0 {
			line("  commit_timeout: %s", s.Commit)
		}
		if s.Stall > 0 {
			line("  stall: %s", s.Stall)
		}
	}
	return b.String()
}

// guide is the section sentinel.
func (n *Node) guide(line func(format string, args ...any)) {
	line("sentinel:\n  listen: %q", n.Guide)
	if cert := n.c.Spec.SentinelTLS; cert != "" {
		line("  tls_cert: %s\n  tls_key: %s", cert, strings.TrimSuffix(cert, ".crt")+".key")
	}
}

var built struct {
	sync.Once
	dir string
	err error
}

// Binary builds the commands once a test process, and returns the path of one of them.
func Binary(t testing.TB, name string) string {
	t.Helper()
	built.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "repldbin")
		if built.err != nil {
			return
		}
		args := []string{"build", "-o", built.dir + "/", "repld/cmd/repld", "repld/cmd/replctl"}
		if raceEnabled {
			args = append([]string{"build", "-race"}, args[1:]...)
		}
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

// Cleanup removes what Binary built; for TestMain.
func Cleanup() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}
