package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"repld/internal/failpoint"
)

func failpointScenario() scenario {
	return scenario{
		name: "failpoints", share: 4, kills: true, rows: []string{"P1", "P2"},
		about: "SIGKILL at each named step of the write path, a promotion and recovery, on active and standby",
		needs: func(o Options) string {
			if o.Failpoints == "" && !strings.Contains(mustVersion(o.Repld), "+failpoints") {
				return "this repld was built without -tags failpoints, as every one that is installed should be"
			}
			return ""
		},
		run: runFailpoints,
	}
}

func mustVersion(bin string) string {
	v, err := versionOf(context.Background(), bin)
	if err != nil {
		return ""
	}
	return v
}

// runFailpoints: P1 at each step that has a name, P2 for those of recovery.
func runFailpoints(_ context.Context, p *play) error {
	p.bin, p.env = p.o.Failpoints, map[string][]string{}
	if p.bin == "" {
		p.bin = p.o.Repld
	}
	if err := p.build(layout{nodes: []string{"a", "b", "c"}, k: 1, segment: "128KiB"}); err != nil {
		return err
	}
	p.begin(true)
	names := failpoint.Names()
	p.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	reached := map[string]bool{}
	for i := 0; p.more(); i++ {
		name := names[i%len(names)]
		hit, err := p.failpoint(name)
		if err != nil {
			return fmt.Errorf("failpoint %s: %w", name, err)
		}
		reached[name] = reached[name] || hit
	}
	var missed []string
	for _, name := range names {
		if !reached[name] {
			missed = append(missed, name)
		}
	}
	p.note("%d of %d failpoints killed a process; not reached: %s", len(names)-len(missed), len(names), strings.Join(missed, " "))
	return p.judge()
}

// failpoint arms one place in a node that will reach it, has it reached, and brings the node back. It reports whether the place was reached.
func (p *play) failpoint(name string) (hit bool, err error) {
	victim := p.any(p.active)
	role := "standby"
	switch name {
	case failpoint.TokenTaken, failpoint.SlotBetween, failpoint.SlotWritten, failpoint.EpochStart:
		role = "candidate"
	case failpoint.SendFrames, failpoint.Command:
		role = "active"
	case failpoint.BeforeAck, failpoint.AfterAck, failpoint.RecoverLog, failpoint.RecoverCut, failpoint.RecoverState:
	default:
		role = []string{"standby", "active"}[p.rnd.IntN(2)]
	}
	at := 1 + p.rnd.IntN(40)
	switch name {
	case failpoint.TokenTaken, failpoint.SlotBetween, failpoint.SlotWritten, failpoint.EpochStart, failpoint.RecoverLog, failpoint.RecoverCut, failpoint.RecoverState,
		failpoint.FlushBegin, failpoint.FlushEnd, failpoint.WALRotate, failpoint.ManifestMade:
		at = 1
	}
	spec := fmt.Sprintf("REPLD_FAILPOINTS=%s=kill:%d", name, at)
	p.log.Info("failpoint", "name", name, "hit", at, "role", role, "node", victim.name)
	p.kill(victim)
	if name == failpoint.RecoverCut {
		if err := tear(victim.data); err != nil {
			return false, err
		}
	}
	before := sizeOf(victim.log)
	p.env[victim.name] = []string{spec}
	err = p.up(victim)
	p.env[victim.name] = nil
	if err != nil {
		return false, err
	}
	if role != "standby" {
		// The attempt may die with the candidate: that is the point. It may be refused at first, because the others are not connected yet.
		ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
		for p.attempt(ctx, victim) != nil && victim.proc.alive() && ctx.Err() == nil {
			again := time.NewTimer(100 * time.Millisecond)
			select {
			case <-again.C:
			case <-ctx.Done():
				again.Stop()
			}
		}
		cancel()
	}
	wait := failpointWait
	if name == failpoint.WALRotate {
		wait *= 4 // a segment has to be filled
	}
	_ = p.until(wait, "end of "+victim.name, func() error {
		if victim.proc.alive() {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	hit = !victim.proc.alive() && strings.Contains(tailFrom(victim.log, before), "failpoint "+name+":")
	switch {
	case victim.proc.alive():
		p.kill(victim) // not reached in time
	case hit:
		p.row.Kills++
		p.row.Faults++
	default:
		return false, p.died(victim)
	}
	if err := p.up(victim); err != nil {
		return hit, err
	}
	next := p.fleet.nodes[p.fleet.order[p.rnd.IntN(len(p.fleet.order))]]
	if err := p.settle(next); err != nil {
		return hit, err
	}
	return hit, p.acks(20)
}

// tear leaves a part of a frame at the end of a stopped node's log, as a power cut within a write does. Nobody was promised anything for it.
func tear(data string) error {
	segments, err := filepath.Glob(filepath.Join(data, "groups", "default", "wal", "*.seg"))
	if err != nil {
		return err
	}
	slices.Sort(segments)
	for _, path := range slices.Backward(segments) {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		end := len(bytes.TrimRight(b, "\x00"))
		if end == 0 {
			continue // prepared, and not used yet
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 40), int64(end))
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("no segment in %s", data)
}

// failpointWait is how long a place may take to be reached under load; a start that has to read the log is in it.
const failpointWait = 3 * time.Second

// attempt promotes once, however it comes out, and sends the load there if it came out well.
func (p *play) attempt(ctx context.Context, n *node) error {
	err := p.until(5*time.Second, n.name+" answers", func() error {
		if !n.proc.alive() {
			return nil
		}
		_, err := n.status(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := n.admin.Promote(ctx, promoteRequest, nil); err != nil {
		return err
	}
	p.active = n
	p.load.move(n)
	return nil
}

func sizeOf(path string) int64 {
	i, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return i.Size()
}

// tailFrom is what was added to a file since it had size bytes.
func tailFrom(path string, size int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < size {
		return ""
	}
	return string(b[size:])
}
