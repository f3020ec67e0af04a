package torture

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/failpoint"
	"repld/wal"
)

func needsDisk(Options) string { return noDisk() }

func powerAloneScenario() scenario {
	return scenario{
		name: "power-alone", share: 3, cuts: true, rows: []string{"D2", "D21"}, needs: needsDisk,
		about: "power cuts of a node that stands alone, on a real ext4: all that it acked is on its one disk",
		run:   runPowerAlone,
	}
}

// runPowerAlone: D2 (unsynced writes lost), D21 (directory entries). The node has no peer that could know more than its disk.
func runPowerAlone(_ context.Context, p *play) error {
	c, err := p.cutter("a")
	if err != nil {
		return err
	}
	if err := p.build(layout{nodes: []string{"a"}, data: map[string]string{"a": c.data}}); err != nil {
		return err
	}
	c.node = p.active
	p.begin(true)
	for p.more() {
		if err := p.acks(5 + p.rnd.IntN(200)); err != nil {
			return err
		}
		if err := c.cutAndCheck(); err != nil {
			return err
		}
	}
	return p.judge()
}

func powerScenario() scenario {
	return scenario{
		name: "power", share: 4, cuts: true, rows: []string{"D2", "D21", "D22"}, needs: needsDisk,
		about: "power cuts of one of three nodes, active, standby or in the middle of its promotion, on a real ext4",
		run:   runPower,
	}
}

// runPower: D2, D21, and D22 (epoch file and token after a promotion that was cut).
func runPower(_ context.Context, p *play) error {
	p.env = map[string][]string{}
	if p.o.Failpoints != "" {
		p.bin = p.o.Failpoints
	}
	c, err := p.cutter("a")
	if err != nil {
		return err
	}
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, data: map[string]string{"a": c.data}}); err != nil {
		return err
	}
	c.node = p.active
	p.begin(true)
	for p.more() {
		if err := p.acks(5 + p.rnd.IntN(100)); err != nil {
			return err
		}
		if p.rnd.IntN(3) == 0 && p.active != c.node {
			c.promise = p.promiseDuring(c.node)
		}
		if err := c.cutAndCheck(); err != nil {
			return err
		}
		next := p.fleet.nodes[p.fleet.order[p.rnd.IntN(3)]]
		if err := p.settle(next); err != nil {
			return err
		}
	}
	return p.judge()
}

// promiseDuring begins a promotion of n and returns the epoch that another node has promised to it by the time of the cut; 0 if none.
func (p *play) promiseDuring(n *node) func() (wal.Epoch, error) {
	go func() {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		defer cancel()
		_, _ = n.admin.Promote(ctx, promoteRequest, nil) // cut off, most often
	}()
	p.pause(p.upTo(60 * time.Millisecond))
	return func() (wal.Epoch, error) {
		var highest wal.Epoch
		for _, o := range p.fleet.others(n.name) {
			s, err := o.status(p.ctx)
			if err != nil {
				return 0, err
			}
			if s.Holder == n.name {
				highest = max(highest, s.Epoch)
			}
		}
		return highest, nil
	}
}

// cutter is a node on a disk whose power can be cut.
type cutter struct {
	p      *play
	disk   device
	data   string // of the node
	onDisk string // the same as the disk has it
	node   *node
	// promise, if set, tells the epoch that others have granted the node: its own disk has to know it (R3).
	promise func() (wal.Epoch, error)
}

func (p *play) cutter(name string) (*cutter, error) {
	d, err := newDisk(p.dir, name, diskBytes)
	if err != nil {
		return nil, err
	}
	p.later(d.remove)
	data := filepath.Join(d.mount, "data")
	return &cutter{p: p, disk: d, data: data, onDisk: data}, nil
}

// device is a disk whose power can be cut while no thread uses it.
type device interface {
	cut() error
	detach() error // what is left after a cut is looked at, and used again, after detach and attach
	attach() error
}

// cutAndCheck cuts the power once, sometimes again while the node recovers, and holds that the disk has what the node had acked.
func (c *cutter) cutAndCheck() error {
	p := c.p
	if err := c.cutOnce(); err != nil {
		return err
	}
	for p.rnd.IntN(3) == 0 {
		if err := p.up(c.node); err != nil {
			return err
		}
		p.pause(p.upTo(100 * time.Millisecond))
		if err := c.cutOnce(); err != nil {
			return fmt.Errorf("during recovery: %w", err)
		}
	}
	arm := c.arm()
	if err := p.up(c.node); err != nil {
		return err
	}
	if p.env != nil {
		p.env[c.node.name] = nil
	}
	if arm != "" {
		if err := c.cutArmed(arm); err != nil {
			return err
		}
	}
	if len(p.fleet.order) == 1 {
		return p.writable(c.node)
	}
	return nil
}

// armedWait is how long an armed place may take to be reached; a start that has to read the log is in it.
const armedWait = 2 * time.Second

// cutArmed waits until the node has stopped by itself in the middle of something, and cuts the power there. A place that is not reached in time would stop the node
// later, in a round that does not expect it: so the power is cut all the same, and the node starts anew with nothing armed.
func (c *cutter) cutArmed(name string) error {
	p := c.p
	reached := c.node.proc.frozen(armedWait) == nil
	if !reached && !c.node.proc.alive() {
		return p.died(c.node)
	}
	p.log.Info("power cut at a failpoint", "name", name, "reached", reached)
	if reached {
		p.row.Faults++
	}
	if err := c.cutOnce(); err != nil {
		return fmt.Errorf("at failpoint %s (reached: %t): %w", name, reached, err)
	}
	return p.up(c.node)
}

// arm prepares the next start to stop at a random place of the write path or of recovery, if the binary can.
func (c *cutter) arm() string {
	p := c.p
	if p.env == nil || p.o.Failpoints == "" || p.rnd.IntN(2) == 0 {
		return ""
	}
	names := []string{failpoint.WALBeforeWrite, failpoint.WALAfterWrite, failpoint.WALBeforeSync, failpoint.WALAfterSync, failpoint.BeforeAck, failpoint.AfterAck,
		failpoint.BeforeApply, failpoint.AfterApply, failpoint.RecoverLog, failpoint.RecoverState, failpoint.ManifestMade, failpoint.WALRotate}
	name := names[p.rnd.IntN(len(names))]
	at := 1 + p.rnd.IntN(20)
	if name == failpoint.RecoverLog || name == failpoint.RecoverState || name == failpoint.ManifestMade || name == failpoint.WALRotate {
		at = 1
	}
	p.env[c.node.name] = []string{fmt.Sprintf("REPLD_FAILPOINTS=%s=stop:%d", name, at)}
	return name
}

// cutOnce stops all threads, cuts the power, kills the process, mounts again, and compares the disk with what the node had promised.
func (c *cutter) cutOnce() error {
	p, n := c.p, c.node
	if err := n.proc.freeze(); err != nil {
		return err
	}
	acked, err := c.promised()
	if err != nil {
		return err
	}
	var epoch wal.Epoch
	if c.promise != nil {
		if epoch, err = c.promise(); err != nil {
			return err
		}
		c.promise = nil
	}
	if err := c.disk.cut(); err != nil {
		return err
	}
	p.row.Cuts++
	n.proc.kill()
	if err := c.disk.detach(); err != nil {
		return err
	}
	if err := c.disk.attach(); err != nil {
		return err
	}
	rep, err := wal.Verify(vfs.Default, filepath.Join(c.onDisk, "groups", "default", "wal"), wal.VerifyOptions{})
	if rep.End.LSN < acked {
		return fmt.Errorf("after power cut %d the log of %s ends at %v, it had acked LSN %d (R1, D2): %w", p.row.Cuts, n.name, rep.End, acked, errors.Join(err, errLost))
	}
	if epoch == 0 {
		return nil
	}
	have, err := epochOnDisk(c.onDisk)
	if err != nil {
		return fmt.Errorf("epoch file after power cut %d: %w", p.row.Cuts, err)
	}
	if have < epoch {
		return fmt.Errorf("after power cut %d the epoch file of %s says %d, others have granted it %d (R3, D22)", p.row.Cuts, n.name, have, epoch)
	}
	return nil
}

var errLost = errors.New("acked records are lost")

// promised is the highest LSN that the frozen node has vouched for: to clients, if it was the active, or to the active.
func (c *cutter) promised() (wal.LSN, error) {
	p := c.p
	var lsn wal.LSN
	for _, l := range p.loads {
		lsn = max(lsn, l.highest(c.node.name))
	}
	if p.active == c.node || len(p.fleet.order) == 1 {
		return lsn, nil
	}
	s, err := p.active.status(p.ctx)
	if err != nil {
		return 0, err
	}
	for _, x := range s.Standbys {
		if x.Node == c.node.name {
			lsn = max(lsn, x.Durable)
		}
	}
	return lsn, nil
}
