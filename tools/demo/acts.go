package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"repld/internal/admin"
	"repld/wal"
)

// demo is the play: each act is a method, in the order of run.
type demo struct {
	*cluster
	writers writers
	loyal   *loyal // clients of the node that is frozen
	start   time.Time

	acked   int
	lost    int
	promote time.Duration // of the first promotion after a death, as a person waits for it
	epoch   wal.Epoch     // newest that was promoted
}

// say prints one line of narration with the time since the start.
func (d *demo) say(format string, args ...any) {
	fmt.Printf("%5.1fs  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) title(text string) { fmt.Printf("\n== %s\n", text) }

func (d *demo) show(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Printf("        | %s\n", line)
	}
}

// begin starts three blank nodes and makes a the first active.
func (d *demo) begin(ctx context.Context) error {
	d.title(fmt.Sprintf("Three nodes: a and b apply at once, c receives at once and applies %s later", d.delay))
	for _, name := range names {
		if err := d.cluster.start(name); err != nil {
			return err
		}
	}
	for _, name := range names {
		n := d.nodes[name]
		err := waitFor(ctx, 20*time.Second, name+" answers replctl", func(ctx context.Context) (bool, error) {
			if n.proc.ended() {
				return false, fmt.Errorf("process ended: %v", n.proc.cmd.ProcessState)
			}
			_, err := n.status(ctx)
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	err := waitFor(ctx, 20*time.Second, "a sees both others", func(ctx context.Context) (bool, error) {
		st, err := d.nodes["a"].admin.Status(ctx, false)
		if err != nil {
			return false, err
		}
		for _, n := range st.Nodes {
			if n.Error != "" {
				return false, fmt.Errorf("%s: %s", n.Node, n.Error)
			}
		}
		return len(st.Nodes) == len(names), nil
	})
	if err != nil {
		return err
	}
	d.say("started; nobody is active yet, because who may write is a person's decision here")
	took, err := d.promoteNode(ctx, "a", "first start")
	if err != nil {
		return err
	}
	d.say("replctl promote a: took %d ms", took.Milliseconds())
	return d.showStatus(ctx, "a")
}

// write lets the writers run against a.
func (d *demo) write(ctx context.Context) error {
	d.title("16 clients write through a's unix socket; a write is acknowledged when a and one standby have it on disk")
	d.writers.start(ctx, d.nodes["a"])
	if err := d.progress(ctx, 4*time.Second); err != nil {
		return err
	}
	return d.showStatus(ctx, "a")
}

// killActive kills a in mid-traffic and promotes b.
func (d *demo) killActive(ctx context.Context) error {
	d.title("The active dies: SIGKILL in mid-traffic")
	before := d.writers.acked.Load()
	died := time.Now()
	d.nodes["a"].proc.kill()
	d.say("a is dead after %d acknowledged writes; promoting b", before)
	took, err := d.promoteNode(ctx, "b", "a was killed")
	if err != nil {
		return err
	}
	d.promote = took
	if err := d.moveWriters(ctx, "b"); err != nil {
		return err
	}
	d.say("replctl promote b: took %d ms; from the death to the first write acknowledged by b: %d ms", took.Milliseconds(), d.firstAck().Sub(died).Milliseconds())
	return d.progress(ctx, 3*time.Second)
}

// returnOfA restarts the old active: it has to learn the new epoch, refuse writes and follow.
func (d *demo) returnOfA(ctx context.Context) error {
	d.title("The old active comes back")
	a := d.nodes["a"]
	old, err := a.epochOnDisk()
	if err != nil {
		return fmt.Errorf("read a's epoch: %w", err)
	}
	if old >= d.epoch {
		return fmt.Errorf("a's epoch on disk is %d, b was promoted to %d", old, d.epoch)
	}
	d.say("a's disk still says epoch %d, the cluster is at %d; starting it again", old, d.epoch)
	if err := d.cluster.start("a"); err != nil {
		return err
	}
	refusal, err := d.refused(ctx, a)
	if err != nil {
		return err
	}
	d.say("a write to a is refused: -%s", refusal)
	if err := d.rejoined(ctx, a); err != nil {
		return err
	}
	return d.progress(ctx, 2*time.Second)
}

// freezeActive stops b without killing it and promotes a: b does not know that it was replaced.
func (d *demo) freezeActive(ctx context.Context) error {
	d.title("The active freezes: SIGSTOP in mid-traffic, as a stalled machine would")
	b := d.nodes["b"]
	var err error
	if d.loyal, err = startLoyal(ctx, b); err != nil {
		return err
	}
	if err := d.loyal.writing(ctx); err != nil {
		return err
	}
	if err := b.proc.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	d.say("b is frozen; promoting a")
	took, err := d.promoteNode(ctx, "a", "b is frozen")
	if err != nil {
		return err
	}
	if err := d.moveWriters(ctx, "a"); err != nil {
		return err
	}
	d.say("replctl promote a: took %d ms; clients write to a in epoch %d", took.Milliseconds(), d.epoch)
	return d.progress(ctx, 2*time.Second)
}

// returnOfB wakes b with clients that still trust it: it must not acknowledge one more write.
func (d *demo) returnOfB(ctx context.Context) error {
	d.title("The frozen active wakes up and does not know yet")
	b := d.nodes["b"]
	loyal := d.loyal
	loyal.mark()
	d.say("%d clients still wait at b for the answers to their writes; SIGCONT", len(loyal.conns))
	if err := b.proc.signal(syscall.SIGCONT); err != nil {
		return err
	}
	if _, err := d.refused(ctx, b); err != nil {
		return err
	}
	if err := d.rejoined(ctx, b); err != nil {
		return err
	}
	loyal.stop()
	if n := loyal.stale.Load(); n > 0 {
		return fmt.Errorf("b acknowledged %d writes that it got after it was replaced (R2)", n)
	}
	d.say("b acknowledged nothing that it got since: %d refused, -READONLY, and %d with an unknown outcome", loyal.refused.Load(), loyal.unknown.Load())
	if n := loyal.late.Load(); n > 0 {
		d.say("%d answers had been on their way when it froze; these writes have to be in the history, and are counted below", n)
	}
	if text, err := d.replctl(ctx, "--config", b.config, "diverged", "list"); err != nil {
		return err
	} else if !strings.Contains(text, "nothing") {
		d.say("what only b had is not part of the history; it was set aside, not thrown away:")
		d.show(text)
	}
	return d.progress(ctx, time.Second)
}

// count stops the writers, waits for all copies and reads every acknowledged write back.
func (d *demo) count(ctx context.Context) error {
	d.title("Was anything lost?")
	d.writers.stop()
	a := d.nodes["a"]
	top, err := a.status(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		n := d.nodes[name]
		err := waitFor(ctx, 20*time.Second+applyDelay, name+" has applied everything", func(ctx context.Context) (bool, error) {
			st, err := n.status(ctx)
			return err == nil && st.Applied.LSN >= top.End.LSN, err
		})
		if err != nil {
			return err
		}
	}
	total, lost, err := d.writers.missing(ctx, a)
	if err != nil {
		return err
	}
	more, gone, err := d.loyal.missing(ctx, a)
	if err != nil {
		return err
	}
	total, lost = total+more, append(lost, gone...)
	d.acked, d.lost = total, len(lost)
	d.say("%d writes were acknowledged, %d had an unknown outcome, %d were refused", total, d.writers.unknown.Load(), d.writers.refused.Load())
	if len(lost) > 0 {
		return fmt.Errorf("%d of %d acknowledged writes are missing, the first is %s (R1)", len(lost), total, lost[0])
	}
	d.say("every acknowledged write is there")
	return d.showStatus(ctx, "a")
}

// prove compares the running copies, stops all, and verifies each data directory.
func (d *demo) prove(ctx context.Context) error {
	d.title("Are the copies equal, and is every byte on disk what it should be?")
	text, err := d.replctl(ctx, "--config", d.nodes["a"].config, "verify")
	if err != nil {
		return err
	}
	d.show(text)
	for _, name := range names {
		if err := d.nodes[name].proc.signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := d.nodes[name].proc.wait(20 * time.Second); err != nil {
			return fmt.Errorf("clean stop of %s: %w", name, err)
		}
	}
	d.say("all stopped; verifying each node's files")
	for _, name := range names {
		text, err := d.replctl(ctx, "verify", d.nodes[name].data)
		if err != nil {
			return err
		}
		d.show(text)
	}
	fmt.Println()
	return nil
}

// promoteNode runs replctl promote and returns how long a person waits for it.
func (d *demo) promoteNode(ctx context.Context, name, reason string) (time.Duration, error) {
	begin := time.Now()
	text, err := d.replctl(ctx, "--config", d.nodes[name].config, "-o", "json", "promote", name, "--reason", reason)
	took := time.Since(begin)
	if err != nil {
		return took, err
	}
	var out admin.PromoteResult
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return took, fmt.Errorf("read the result of replctl promote: %w", err)
	}
	if out.Node != name || out.Epoch != d.epoch+1 {
		return took, fmt.Errorf("promoted %s to epoch %d, want %s at %d", out.Node, out.Epoch, name, d.epoch+1)
	}
	d.epoch = out.Epoch
	return took, nil
}

// moveWriters sends the writers to a node and waits for its first acknowledgement.
func (d *demo) moveWriters(ctx context.Context, name string) error {
	d.writers.move(d.nodes[name])
	return waitFor(ctx, 20*time.Second, "a first write acknowledged by "+name, func(context.Context) (bool, error) {
		return d.writers.first.Load() != 0, nil
	})
}

func (d *demo) firstAck() time.Time { return time.Unix(0, d.writers.first.Load()) }

// refused waits until n answers a write with -READONLY; an acknowledgement is a failure.
func (d *demo) refused(ctx context.Context, n *node) (string, error) {
	c := dial(n)
	defer c.Close()
	var text string
	acked := false
	err := waitFor(ctx, 20*time.Second, n.name+" answers -READONLY", func(ctx context.Context) (bool, error) {
		err := c.Set(ctx, "fence:"+n.name, "must not be written", 0).Err()
		if err == nil {
			acked = true
			return true, nil
		}
		text = err.Error()
		return strings.HasPrefix(text, "READONLY"), err
	})
	if acked {
		return "", fmt.Errorf("%s took a write although its epoch is over (R2)", n.name)
	}
	return text, err
}

// rejoined waits until n follows the active in the newest epoch, with a log that counts.
func (d *demo) rejoined(ctx context.Context, n *node) error {
	var st admin.NodeStatus
	err := waitFor(ctx, 30*time.Second, n.name+" follows again", func(ctx context.Context) (bool, error) {
		var err error
		st, err = n.status(ctx)
		return err == nil && st.Role == admin.RoleStandby && st.Epoch == d.epoch && st.Link == "stream" && st.Voter && st.Lag.Records < 10_000, err
	})
	if err != nil {
		return err
	}
	d.say("%s raised its epoch to %d and follows %s as a standby again, without anyone's help", n.name, st.Epoch, dash(st.Source))
	return nil
}

func dash(s string) string {
	if s == "" {
		return "the active"
	}
	return s
}

// progress prints a line a second. It fails when nothing at all is acknowledged any more.
func (d *demo) progress(ctx context.Context, how time.Duration) error {
	begin := d.writers.acked.Load()
	for end := time.Now().Add(how); time.Now().Before(end); {
		before := d.writers.acked.Load()
		pause(ctx, time.Second)
		now := d.writers.acked.Load()
		d.say("%d writes acknowledged, %d/s; outcome unknown: %d", now, now-before, d.writers.unknown.Load())
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if d.writers.acked.Load() == begin {
		return fmt.Errorf("no write was acknowledged for %v", how)
	}
	return nil
}

// showStatus prints replctl status. Its exit code may be 3 (degraded) while nodes are missing, which is not what is checked here.
func (d *demo) showStatus(ctx context.Context, name string) error {
	text, err := d.replctl(ctx, "--config", d.nodes[name].config, "status")
	if err != nil && text == "" {
		return err
	}
	d.show(text)
	return nil
}
