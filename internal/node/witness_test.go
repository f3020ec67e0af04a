package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
)

// witnessed is a cluster of data nodes and the witness w, which all keep the token.
func witnessed(t *testing.T, k int, tune func(name string, o *Options), data ...string) *cluster {
	t.Helper()
	c := newCluster(t, k, func(name string, o *Options) {
		onRaft(o)
		for i := range o.Peers {
			if o.Peers[i].Name == "w" {
				o.Peers[i].Witness = true
			}
		}
		if tune != nil {
			tune(name, o)
		}
	}, append(data, "w")...)
	return c
}

// witness runs w until the test ends, on the disk it had before.
func (c *cluster) witness(disk vfs.FS) (w *Witness, stop func()) {
	c.t.Helper()
	o := c.options("w")
	o.FS = disk
	w, err := OpenWitness(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-w.Ready()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("witness: %v", err)
		}
	}
	c.t.Cleanup(stop)
	return w, stop
}

// Two data nodes and a witness: with either data node gone the other one is promoted by the rule, the witness is never a candidate, member or copy, and
// remembers the epochs (R3, R5).
func TestWitness(t *testing.T) {
	t.Parallel()
	c := witnessed(t, 1, nil, "a", "b")
	var disk vfs.FS = vfs.NewMem()
	w, stop := c.witness(disk)
	c.start("a", "b")
	c.promote("a")
	c.settled("a")
	if members := c.nodes["a"].rule().Members; len(members) != 1 || members[0] != "b" {
		t.Fatalf("members of the sync set: %v", members)
	}
	c.nodes["a"].mustSet("first")
	c.settled("a")
	until(t, func() error { // leadership is kept off the active
		if l := w.raft.Status().Leader; l != "w" && l != "b" {
			return fmt.Errorf("%q leads the token log", l)
		}
		return nil
	})
	c.stop("a")
	none := 0
	if _, err := c.nodes["b"].promote(admin.PromoteRequest{Sync: &none}); err != nil {
		t.Fatal(err)
	}
	b := c.nodes["b"]
	if got := b.get("first"); got != "first" {
		t.Fatalf("an acked write is gone: %q", got)
	}
	until(t, func() error {
		if e := w.fence.Epoch(); e != b.group.fence.Epoch() {
			return fmt.Errorf("the witness obeys epoch %d, %s", e, c)
		}
		return nil
	})
	status := w.Status(t.Context(), false)
	if status.Active != "b" || len(status.Nodes) != 3 {
		t.Fatalf("%+v", status)
	}
	for _, n := range status.Nodes {
		if n.Node == "w" && (n.Role != admin.RoleWitness || n.Voter || n.Token == nil || len(n.Token.Voters) != 3) {
			t.Fatalf("%+v", n)
		}
	}
	if strings.Contains(strings.Join(status.AtRisk.Lossless, " "), "w") {
		t.Fatalf("a witness may be promoted? %+v", status.AtRisk)
	}
	// Started again it still knows the epoch, and that it took part in the token log.
	epoch := w.fence.Epoch()
	stop()
	again, _ := c.witness(disk)
	if again.fence.Epoch() != epoch {
		t.Fatalf("it knew epoch %d and knows %d after a restart", epoch, again.fence.Epoch())
	}
	c.start("a")
	c.settled("b")
	c.grown("b", 1)
	if _, err := (witnessAPI{again}).Promote(t.Context(), admin.PromoteRequest{}, func(admin.Event) {}); err == nil {
		t.Fatal("a witness was promoted")
	}
	// Commands that concern data are passed on.
	if _, err := (witnessAPI{again}).Promote(t.Context(), admin.PromoteRequest{Node: "a"}, func(admin.Event) {}); err != nil {
		t.Fatal(err)
	}
	c.settled("a")
}

// Policy shrink with a witness: of two data nodes either one may be away, the active goes on alone once that is recorded by the majority of the token log, and the
// one that was left behind is not promoted without it (R1, R5, R6).
func TestShrinkWithWitness(t *testing.T) {
	t.Parallel()
	c := witnessed(t, 1, func(_ string, o *Options) { o.Sync.Policy = PolicyShrink }, "a", "b")
	w, _ := c.witness(vfs.NewMem())
	c.start("a", "b")
	c.promote("a")
	c.settled("a")
	a := c.nodes["a"]
	a.mustSet("together")
	c.settled("a")
	c.stop("b")
	if err := a.set("alone", "alone"); err != nil { // waits until the set is smaller
		t.Fatal(err)
	}
	if rec := a.token(); rec.Sync.K != 0 || a.rule().K != 0 {
		t.Fatalf("recorded %s, in force %s", rec.Sync, a.rule())
	}
	c.stop("a")
	c.start("b")
	var refused admin.PromoteResult
	until(t, func() (err error) { // as soon as b and the witness have a leader of the token log
		refused, err = c.nodes["b"].promote(admin.PromoteRequest{Plan: true})
		return err
	})
	if refused.Allowed {
		t.Fatalf("b, which misses an acked write, may be promoted: %+v", refused)
	}
	c.start("a")
	c.promote("a")
	c.settled("a")
	c.grown("a", 1)
	if rec, err := w.raft.Load(t.Context()); err != nil || rec.Sync.K != 1 {
		t.Fatalf("recorded %s, %v", rec.Sync, err)
	}
}

// Two data nodes and a witness fail over by themselves, with the token in the three of them.
func TestWitnessAutomatic(t *testing.T) {
	t.Parallel()
	c := witnessed(t, 1, func(_ string, o *Options) {
		o.Failover.Mode = FailoverAutomatic
		o.Failover.Startup = time.Second
		o.Sync.Policy = PolicyShrink
	}, "a", "b")
	w, _ := c.witness(vfs.NewMem())
	c.start("a", "b")
	var first, other string
	for {
		until(t, func() error {
			for _, n := range []string{"a", "b"} {
				if c.nodes[n].group.active() {
					first = n
					return nil
				}
			}
			return fmt.Errorf("nobody is active: %s", c)
		})
		c.settled(first)
		c.nodes[first].mustSet("acked")
		c.settled(first)
		c.grown(first, 1)
		other = map[string]string{"a": "b", "b": "a"}[first]
		c.stop(first) // hands over, or is missed
		rec, err := w.raft.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Holder == other || rec.Sync.K > 0 {
			break
		}
		c.start(first) // a slow machine: the set was made smaller at the last moment, so the other one may rightly not be promoted
	}
	until(t, func() error {
		if !c.nodes[other].group.active() {
			return fmt.Errorf("%s is not active: %s", other, c)
		}
		return nil
	})
	if got := c.nodes[other].get("acked"); got != "acked" {
		t.Fatalf("an acked write is gone: %q", got)
	}
	c.nodes[other].mustSet("after")
}

// A witness refuses what would make it something else.
func TestWitnessRefusals(t *testing.T) {
	t.Parallel()
	c := witnessed(t, 1, nil, "a", "b")
	o := c.options("w")
	o.FS, o.Raft = vfs.NewMem(), nil
	if _, err := OpenWitness(o); err == nil {
		t.Error("a witness without a part in the token store")
	}
	c.start("a")
	c.stop("a")
	o = c.options("w")
	o.FS, o.Name = c.disks["a"], "a"
	if w, err := OpenWitness(o); err == nil {
		t.Error("a witness on the directory of a data node", w.Close())
	}
}
