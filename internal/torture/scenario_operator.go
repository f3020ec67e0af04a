package torture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"repld/internal/failpoint"
)

func operatorScenario() scenario {
	return scenario{
		name: "operator", share: 3, rows: []string{"H2", "H3", "H10", "D23", "P7", "P8"},
		about: "a node restored from an old copy, a wiped one, another node's directory, two daemons on one directory, no descriptors left, a panic in a command",
		run:   runOperator,
	}
}

// runOperator: H2, H3, H10, D23, P7, P8.
func runOperator(_ context.Context, p *play) error {
	p.env = map[string][]string{}
	if p.o.Failpoints != "" {
		p.bin = p.o.Failpoints
	}
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1}); err != nil {
		return err
	}
	p.begin(true)
	kinds := []struct {
		name string
		do   func() error
	}{{"restored from an old copy (H2)", p.oldCopy}, {"wiped (D23)", p.wipe}, {"two daemons (H10)", p.twice}, {"wrong directory (H3)", p.wrongDir}, {"no descriptors (P7)", p.descriptors}, {"a panic in a command (P8)", p.panics}}
	for i := 0; p.more() || i < len(kinds) && p.ctx.Err() == nil; i++ {
		k := kinds[i%len(kinds)]
		p.log.Info("operator", "fault", k.name)
		if err := p.acks(30); err != nil {
			return err
		}
		p.row.Faults++
		if err := k.do(); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if err := p.caughtUp(); err != nil {
			return fmt.Errorf("after %s: %w", k.name, err)
		}
		p.row.Rounds = max(p.row.Rounds, i+1)
	}
	return p.judge()
}

// down stops a node cleanly.
func (p *play) down(n *node) error {
	if err := n.proc.signal(syscall.SIGTERM); err != nil {
		return err
	}
	return n.proc.ended(60 * time.Second)
}

// oldCopy puts an older copy of its own directory under a node that had acked more since. Then the active dies: the copy must not be what the next epoch continues.
func (p *play) oldCopy() error {
	n := p.any(p.active)
	if err := p.down(n); err != nil {
		return err
	}
	saved := filepath.Join(p.dir, "old-copy")
	if err := copyDir(n.data, saved); err != nil {
		return err
	}
	defer os.RemoveAll(saved)
	if err := p.up(n); err != nil {
		return err
	}
	if err := p.caughtUp(); err != nil {
		return err
	}
	if err := p.acks(200); err != nil {
		return err
	}
	p.kill(n)
	if err := os.RemoveAll(n.data); err != nil {
		return err
	}
	if err := copyDir(saved, n.data); err != nil {
		return err
	}
	if err := p.up(n); err != nil {
		return err
	}
	if p.rnd.IntN(2) == 0 {
		return nil // it is brought up to date by the active
	}
	// The active dies before it could tell. The copy does not count once the others know what it had, so the rule may ask for the one that held the epoch: it is back, as a standby.
	old, third := p.active, p.third(n)
	p.kill(old)
	if err := p.up(old); err != nil {
		return err
	}
	if err := p.promote(third); err != nil {
		return err
	}
	p.load.move(third)
	return nil
}

// third is the node that is neither the active nor n.
func (p *play) third(n *node) *node {
	for _, x := range p.fleet.others(p.active.name) {
		if x != n {
			return x
		}
	}
	return nil
}

// wipe empties the directory of a standby, or of an active that died.
func (p *play) wipe() error {
	n := p.any(p.active)
	if p.rnd.IntN(2) == 0 {
		n = p.active
	}
	p.kill(n)
	if err := os.RemoveAll(n.data); err != nil {
		return err
	}
	if n == p.active {
		next := p.any(n)
		if err := p.promote(next); err != nil {
			return err
		}
		p.load.move(next)
	}
	return p.up(n)
}

// refusedStart starts a second process and holds that it ends by itself, with words like want.
func (p *play) refusedStart(config, want string) error {
	log := filepath.Join(p.dir, "refused.log")
	before := sizeOf(log)
	x, err := launch(log, nil, p.bin, "--config", config)
	if err != nil {
		return err
	}
	if err := x.ended(30 * time.Second); err != nil {
		x.kill()
		return err
	}
	said := tailFrom(log, before)
	if code := x.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(said, want) {
		return fmt.Errorf("exit code %d, want another one and %q; it said: %s", code, want, said)
	}
	return nil
}

// twice starts a second daemon on the directory of a running one, with sockets of its own.
func (p *play) twice() error {
	n := p.fleet.nodes[p.fleet.order[p.rnd.IntN(3)]]
	config, err := p.otherConfig(n, n.data, n.name)
	if err != nil {
		return err
	}
	if err := p.refusedStart(config, "in use"); err != nil {
		return err
	}
	return p.acks(30)
}

// wrongDir starts a node with the directory of another one, which does not run.
func (p *play) wrongDir() error {
	n := p.any(p.active)
	other := p.third(n)
	if err := p.down(n); err != nil {
		return err
	}
	if err := p.down(other); err != nil {
		return err
	}
	config, err := p.otherConfig(other, n.data, other.name)
	if err != nil {
		return err
	}
	if err := p.refusedStart(config, "belongs to node"); err != nil {
		return err
	}
	return errors.Join(p.up(n), p.up(other))
}

// otherConfig is the configuration of a node with another directory and other sockets.
func (p *play) otherConfig(n *node, data, name string) (string, error) {
	b, err := os.ReadFile(n.config)
	if err != nil {
		return "", err
	}
	text := strings.Replace(string(b), "data: "+n.data+"\n", "data: "+data+"\n", 1)
	text = strings.ReplaceAll(text, filepath.Join(p.fleet.socks, name+"."), filepath.Join(p.fleet.socks, "x-"+name+"."))
	path := filepath.Join(p.dir, "other.yml")
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// descriptors leaves the active only a few descriptors more than it has, and takes them with idle connections. Who is connected goes on, replication goes on, and when the connections go
// others can come.
func (p *play) descriptors() error {
	n := p.active
	have, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.proc.pid()))
	if err != nil {
		return err
	}
	most := len(have) + 24
	if why := missing("prlimit"); why != "" {
		p.note("no descriptors (P7) was left out: %s", why)
		return nil
	}
	set := func(soft int) error {
		return tool("prlimit", "--pid", fmt.Sprint(n.proc.pid()), fmt.Sprintf("--nofile=%d:", soft))
	}
	before, err := softLimit(n.proc.pid())
	if err != nil {
		return err
	}
	if err := set(most); err != nil {
		return err
	}
	var conns []net.Conn
	for range 40 {
		c, err := net.DialTimeout("unix", n.client, time.Second)
		if err != nil {
			break
		}
		conns = append(conns, c)
	}
	err = p.acks(60)
	for _, c := range conns {
		_ = c.Close()
	}
	if err == nil {
		err = p.writable(n)
	}
	return errors.Join(err, set(before))
}

// panics has a command of the active panic while it is evaluated. Its connection ends, and nothing else: the node stays the active and goes on to ack.
func (p *play) panics() error {
	if p.o.Failpoints == "" {
		p.note("a panic in a command (P8) was left out: this repld was built without -tags failpoints")
		return nil
	}
	n := p.any(p.active)
	if err := p.down(n); err != nil {
		return err
	}
	before := sizeOf(n.log)
	p.env[n.name] = []string{fmt.Sprintf("REPLD_FAILPOINTS=%s=panic:%d", failpoint.Command, 1+p.rnd.IntN(40))}
	err := p.up(n)
	p.env[n.name] = nil
	if err != nil {
		return err
	}
	if err := p.lead(n); err != nil {
		return err
	}
	if err := p.acks(100); err != nil { // far more commands than it takes, from all clients
		return err
	}
	if said := tailFrom(n.log, before); !n.proc.alive() || !strings.Contains(said, "failpoint "+failpoint.Command+":") {
		return fmt.Errorf("the panic ended the process, or did not come: %v: %s", n.proc.cmd.ProcessState, lastLine(n.log))
	}
	return p.writable(n)
}

// softLimit is how many descriptors a process may have.
func softLimit(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok && len(strings.Fields(rest)) > 0 {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, errors.New("no limit of open files is known")
}

// copyDir copies a directory of files.
func copyDir(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil // sockets
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}
