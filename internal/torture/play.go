package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/internal/admin"
	"repld/test/history"
	"repld/wal"
)

// play is one scenario under way. One goroutine drives it.
type play struct {
	o        Options
	s        scenario
	dir      string
	row      *Row
	start    time.Time
	deadline time.Time // of its share of the budget
	latest   time.Time // no new round after it, whatever is still wanted
	rnd      *rand.Rand
	log      *slog.Logger
	ctx      context.Context

	wantKills, wantCuts int

	fleet   *fleet
	bin     string // of the nodes; default: Options.Repld
	env     map[string][]string
	load    *load
	loads   []*load // all that were ever started: each is judged
	tenures history.Tenures
	active  *node
	cleanup []func() error // in reverse
}

// more reports whether another round is due.
func (p *play) more() bool {
	now := time.Now()
	switch {
	case p.ctx.Err() != nil:
		return false
	case p.row.Rounds > 0 && now.After(p.latest):
		return false
	case p.row.Rounds > 0 && now.After(p.deadline) && p.row.Kills >= p.wantKills && p.row.Cuts >= p.wantCuts:
		return false
	}
	p.row.Rounds++
	return true
}

// until waits for ok. The last error is what it says when that takes too long.
func (p *play) until(limit time.Duration, what string, ok func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if p.ctx.Err() != nil || errors.Is(err, errDied) || time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %w", what, limit, err)
		}
		select {
		case <-p.ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pause waits, at most until the play is over.
func (p *play) pause(d time.Duration) {
	select {
	case <-p.ctx.Done():
	case <-time.After(d):
	}
}

// upTo is a random duration.
func (p *play) upTo(d time.Duration) time.Duration { return time.Duration(p.rnd.Int64N(int64(d))) }

// build makes the nodes and starts them; with three, it waits until they see each other, and makes a the first active.
func (p *play) build(l layout) (err error) {
	if p.bin == "" {
		p.bin = p.o.Repld
	}
	if p.fleet, err = newFleet(p.dir, p.o, l); err != nil {
		return err
	}
	for _, name := range l.nodes {
		if err := p.up(p.fleet.nodes[name]); err != nil {
			return err
		}
	}
	p.active = p.fleet.nodes[l.nodes[0]]
	if len(l.nodes) == 1 {
		return p.writable(p.active)
	}
	err = p.until(60*time.Second, "the nodes see each other", func() error {
		for _, name := range l.nodes {
			ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
			st, err := p.fleet.nodes[name].admin.Status(ctx, false)
			cancel()
			if err != nil {
				return err
			}
			for _, row := range st.Nodes {
				if row.Error != "" {
					return fmt.Errorf("%s does not reach %s: %s", name, row.Node, row.Error)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if l.automatic {
		return p.followed()
	}
	if err := p.promote(p.active); err != nil {
		return err
	}
	return p.caughtUp()
}

// up starts a node with its environment.
func (p *play) up(n *node) error { return n.start(p.bin, p.env[n.name]...) }

// kill ends a node with SIGKILL and counts it.
func (p *play) kill(n *node) {
	if n.proc.kill() {
		p.row.Kills++
	}
}

// begin starts the load on the active.
func (p *play) begin(reads bool) {
	p.load = p.startLoad(fmt.Sprint(len(p.loads)), clients, reads, p.active)
}

// acks waits until n more commands are acked.
func (p *play) acks(n int) error {
	from := p.load.acked.Load()
	return p.until(60*time.Second, "acknowledged writes", func() error {
		if got := p.load.acked.Load() - from; got < int64(n) {
			return fmt.Errorf("%d acked by %s, want %d", got, p.load.target.Load().name, n)
		}
		return nil
	})
}

// promote makes n the active, with as many tries as it takes: nodes may be starting, and an attempt may be cut off by the fault itself.
func (p *play) promote(n *node) error { return p.promoteWith(n, admin.PromoteRequest{}) }

func (p *play) promoteWith(n *node, req admin.PromoteRequest) error {
	began := time.Now()
	defer func() { p.log.Info("promotion", "node", n.name, "took", time.Since(began)) }()
	err := p.until(90*time.Second, "promotion of "+n.name, func() error {
		if !n.proc.alive() {
			return p.died(n)
		}
		ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
		defer cancel()
		req.Reason = "torture"
		r, err := n.admin.Promote(ctx, req, nil)
		if err != nil && len(r.Reasons) > 0 {
			err = fmt.Errorf("%w: %s", err, strings.Join(r.Reasons, "; "))
		}
		return err
	})
	if err == nil {
		p.active = n
	}
	return err
}

// died says how a node ended that should run.
func (p *play) died(n *node) error {
	return fmt.Errorf("node %s %w (%v): %s", n.name, errDied, n.proc.cmd.ProcessState, lastLine(n.log))
}

var errDied = errors.New("does not run")

// writable waits until a node takes a write.
func (p *play) writable(n *node) error {
	return p.until(60*time.Second, n.name+" takes a write", func() error {
		if !n.proc.alive() {
			return p.died(n)
		}
		ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
		defer cancel()
		return n.redis.Set(ctx, "torture:probe", n.name, 0).Err()
	})
}

// caughtUp waits until every node follows the active, votes, and has applied what was committed when this began.
func (p *play) caughtUp() error {
	var target admin.NodeStatus
	err := p.until(60*time.Second, "status of the active", func() (err error) {
		target, err = p.active.status(p.ctx)
		return err
	})
	if err != nil {
		return err
	}
	if target.Role != admin.RoleActive {
		return fmt.Errorf("node %s is %s in epoch %d: %w", p.active.name, target.Role, target.Epoch, errDeposed)
	}
	for _, n := range p.fleet.others(p.active.name) {
		if err := p.followsAt(n, target); err != nil {
			return err
		}
	}
	return nil
}

// settle promotes next and waits until all follow it, again if an earlier attempt of another candidate, which was cut off, still deposes it: a grant that was
// persisted somewhere is heard of when its node returns.
func (p *play) settle(next *node) error {
	for tries := 0; ; tries++ {
		if err := p.promote(next); err != nil {
			return err
		}
		p.load.move(next)
		err := p.caughtUp()
		if err == nil || !errors.Is(err, errDeposed) || tries == 5 {
			return err
		}
		p.log.Info("deposed by an epoch that was granted before", "node", next.name, "error", err)
	}
}

// errDeposed: the active is none any more.
var errDeposed = errors.New("no longer the active")

func (p *play) followsAt(n *node, target admin.NodeStatus) error {
	var deposed error
	err := p.until(90*time.Second, n.name+" follows again", func() error {
		if !n.proc.alive() {
			return p.died(n)
		}
		s, err := n.status(p.ctx)
		if err != nil {
			return err
		}
		if s.Epoch > target.Epoch {
			if now, err := p.active.status(p.ctx); err == nil && now.Role != admin.RoleActive {
				deposed = fmt.Errorf("%s is %s in epoch %d of %q: %w", p.active.name, now.Role, now.Epoch, now.Holder, errDeposed)
				return nil
			}
		}
		if s.Epoch != target.Epoch || !s.Voter || s.Durable.LSN < target.Committed || s.Applied.LSN < target.Committed || s.Role != admin.RoleStandby {
			return fmt.Errorf("%s: %s, epoch %d voter %t durable %d applied %d link %q alarms %v, want epoch %d lsn %d", n.name, s.Role, s.Epoch, s.Voter,
				s.Durable.LSN, s.Applied.LSN, s.Link, s.Alarms, target.Epoch, target.Committed)
		}
		return nil
	})
	return errors.Join(err, deposed)
}

// epoch is the highest that a node knows.
func (p *play) epoch(n *node) (wal.Epoch, error) {
	s, err := n.status(p.ctx)
	return s.Epoch, err
}

// any is a random node but one.
func (p *play) any(but *node) *node {
	others := p.fleet.others(but.name)
	return others[p.rnd.IntN(len(others))]
}

// note adds a line to the report.
func (p *play) note(format string, args ...any) {
	p.row.Notes = append(p.row.Notes, fmt.Sprintf(format, args...))
}

// count takes the numbers of the loads into the report.
func (p *play) count() {
	for _, l := range p.loads {
		p.row.Acked += int(l.acked.Load())
		p.row.Unknown += l.ledger.Count(2)
		p.row.Refused += l.ledger.Count(1)
	}
}

// later registers what is to be undone at the end, in reverse order.
func (p *play) later(fn func() error) { p.cleanup = append(p.cleanup, fn) }

// close ends everything. When the play failed, the last lines of each log are kept in the report.
func (p *play) close(passed bool) error {
	for _, l := range p.loads {
		l.stopIt()
	}
	if !passed && p.fleet != nil {
		for _, name := range p.fleet.order {
			p.note("last line of %s: %s", name, lastLine(p.fleet.nodes[name].log))
		}
	}
	errs := []error{p.fleet.close()}
	for _, l := range p.loads {
		l.stop()
	}
	for i := len(p.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, p.cleanup[i]())
	}
	return errors.Join(errs...)
}

// lastLine is the last line of a log file.
func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// grown is the size of everything below a folder.
func grown(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if i, err := d.Info(); err == nil {
				total += i.Size()
			}
		}
		return nil
	})
	return total
}

// promoteRequest is a plain promotion.
var promoteRequest = admin.PromoteRequest{Reason: "torture"}
