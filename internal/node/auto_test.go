package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
)

// automatic declares a cluster of a, b and c that elects by itself, on a fabric.
func automatic(t *testing.T, tune func(name string, o *Options)) (*cluster, *fabric) {
	t.Helper()
	f := newFabric()
	disk := vfs.NewMem()
	if err := disk.MkdirAll("token", 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 1, func(name string, o *Options) {
		store, err := failover.OpenFileStore(failover.FileStoreOptions{FS: disk, Dir: "token", Shared: true})
		if err != nil {
			t.Fatal(err)
		}
		o.Token = store
		o.Listen, o.Dial = f.listen(name), f.dialer(name)
		// Longer than the defaults, so that a busy machine is not taken for a failure.
		o.Failover = FailoverOptions{Mode: FailoverAutomatic, Backoff: -1, Startup: 30 * time.Second, Suspect: 2 * time.Second, Lease: 2 * time.Second}
		if tune != nil {
			tune(name, o)
		}
	}, "a", "b", "c")
	return c, f
}

// elected waits for an active above epoch among the nodes that run, apart from those given.
func (c *cluster) elected(epoch uint64, not ...string) (name string) {
	c.t.Helper()
	until(c.t, func() error {
		for _, n := range c.names {
			m := c.nodes[n]
			if m == nil || contains(not, n) {
				continue
			}
			if g := m.group; g.active() && uint64(g.fence.Epoch()) > epoch {
				name = n
				return nil
			}
		}
		return fmt.Errorf("nobody is active above epoch %d: %s", epoch, c)
	})
	return name
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (c *cluster) others(name string) (out []string) {
	for _, n := range c.names {
		if n != name {
			out = append(out, n)
		}
	}
	return out
}

func (m *member) epoch() uint64 { return uint64(m.group.fence.Epoch()) }

// view reads a key as a client would, with the lease.
func (m *member) view(key string) (string, error) {
	b := newBackend(m.group)
	v, err := b.View(time.Now())
	if err != nil {
		return "", err
	}
	defer v.Close()
	e, _, err := v.Get([]byte(key))
	return string(e.Value), err
}

// An active that is cut off from everybody, without a reset, is followed by another one without a person. From the first write that the new one acks on, the old one answers no read (R2,
// R14); it steps down, and rejoins by itself when it is reached again (R15).
//
// Faults: W1, W8 (the active is isolated silently: takeover, no stale read, rejoin)
func TestIsolatedActive(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, func(_ string, o *Options) { o.Failover.StepDown = time.Second; o.StandbyReads = false })
	c.start()
	old := c.elected(0)
	a := c.nodes[old]
	c.settled(old)
	a.mustSet("x")
	epoch := a.epoch()

	var acked atomic.Bool // the new active has acked a write
	stale := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		defer close(stale)
		for reads := 0; ; reads++ {
			select {
			case <-stop:
				return
			default:
			}
			after := acked.Load()
			v, err := a.view("x")
			if err == nil && after && v == "x" {
				stale <- fmt.Errorf("read %d of the old active gave the old value after the new one had acked another", reads)
				return
			}
			if err != nil && !strings.HasPrefix(err.Error(), "MASTERDOWN") {
				stale <- err
				return
			}
		}
	}()
	f.isolate(old, c.others(old)...)
	next := c.elected(epoch, old)
	if got := c.nodes[next].epoch(); got != epoch+1 {
		t.Logf("it took %d epochs", got-epoch) // a busy machine may cost an attempt
	}
	until(t, func() error { return c.nodes[next].set("x", "new") })
	acked.Store(true)
	until(t, func() error {
		if a.group.active() {
			return errors.New("the isolated active does not step down")
		}
		return nil
	})
	f.heal()
	c.settled(c.elected(epoch)) // next, unless the machine is so busy that there was another failover
	close(stop)
	if err := <-stale; err != nil {
		t.Fatal(err)
	}
}

// A standby that alone cannot hear the active asks for support again and again, gets none, and no epoch is raised (W2).
//
// Faults: W2, W3 (the active is not heard by one of two standbys: no failover)
func TestOneStandbyDeaf(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, nil)
	c.start()
	active := c.elected(0)
	c.settled(active)
	epoch := c.nodes[active].epoch()
	deaf := c.others(active)[0]
	f.drop(active, deaf)
	until(t, func() error {
		if n := c.nodes[deaf].group.voter.rounds.Load(); n < 10 {
			return fmt.Errorf("%s asked %d times", deaf, n)
		}
		return nil
	})
	if now := c.nodes[active].epoch(); now != epoch || !c.nodes[active].group.active() {
		t.Fatalf("a standby that is deaf disturbed the active: epoch %d after %d: %s", now, epoch, c)
	}
	c.nodes[active].mustSet("still")
	f.heal()
	c.settled(active)
}

// A stop that is asked for hands over first, so that nobody waits for a suspicion.
func TestStopHandsOver(t *testing.T) {
	t.Parallel()
	c, _ := automatic(t, nil)
	c.start()
	active := c.elected(0)
	c.settled(active)
	c.nodes[active].mustSet("k")
	epoch := c.nodes[active].epoch()
	c.stop(active)
	next := c.elected(epoch)
	rec, err := c.nodes[next].group.token.Load(t.Context())
	if err != nil || c.nodes[next].epoch() != epoch+1 || !strings.Contains(rec.Reason, "switchover") {
		t.Fatalf("%s took over in epoch %d after %d: %q, %v", next, c.nodes[next].epoch(), epoch, rec.Reason, err)
	}
	if got := c.nodes[next].get("k"); got != "k" {
		t.Fatalf("k is %q", got)
	}
}

// Maintenance: with failover paused nobody takes over, a restart does not forget it, a node that was away learns of it, and resume has an active found.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	var again atomic.Bool // a node that starts again would take over at once
	c, _ := automatic(t, func(_ string, o *Options) {
		if again.Load() {
			o.Failover.Startup = time.Millisecond
		}
	})
	c.start()
	active := c.elected(0)
	c.settled(active)
	again.Store(true)
	away := c.others(active)[1]
	c.stop(away)
	pause := func(n string, resume bool) admin.PauseResult {
		t.Helper()
		r, err := adminAPI{c.nodes[n].group}.Pause(t.Context(), admin.PauseRequest{Resume: resume, Reason: "test"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := pause(active, false)
	if r.Paused == nil || len(r.Knows) != 2 || len(r.Silent) != 1 || r.Silent[0] != away {
		t.Fatalf("pause with one node away: %+v", r)
	}
	epoch := c.nodes[active].epoch()
	c.start(away)
	until(t, func() error {
		if c.nodes[away].group.paused() == nil {
			return errors.New("the node that was away does not know of the pause")
		}
		return nil
	})
	c.stop(active) // hands nothing over
	other := c.others(active)[0]
	c.stop(other)
	c.start(other)
	until(t, func() error {
		g := c.nodes[other].group
		if g.paused() == nil {
			t.Fatal("a restart forgot the pause")
		}
		if !contains(*g.voter.suspects.Load(), active) {
			return errors.New("the active is not missed yet")
		}
		return nil
	})
	if g := c.nodes[away].group; g.active() || c.nodes[other].group.active() || c.nodes[away].epoch() != epoch {
		t.Fatalf("somebody took over during maintenance: %s", c)
	}
	pause(other, true)
	c.elected(epoch)
}

// The lease in manual mode: an active whose only sync standby is gone cannot know whether that one was promoted, and refuses reads until it is back (R14). With reads: local it
// answers.
func TestLeaseInManualMode(t *testing.T) {
	t.Parallel()
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprintf("local=%t", local), func(t *testing.T) {
			c := newCluster(t, 1, func(_ string, o *Options) { o.Failover.LocalReads = local }, "a", "b")
			c.start()
			c.promote("a")
			c.settled("a")
			a := c.nodes["a"]
			a.mustSet("k")
			until(t, func() error { _, err := a.view("k"); return err })
			c.stop("b")
			if local {
				if v, err := a.view("k"); err != nil || v != "k" {
					t.Fatalf("%q, %v", v, err)
				}
				return
			}
			until(t, func() error {
				if _, err := a.view("k"); err == nil || !strings.HasPrefix(err.Error(), "MASTERDOWN") {
					return fmt.Errorf("read without a lease: %v", err)
				}
				return nil
			})
			c.start("b")
			until(t, func() error { _, err := a.view("k"); return err })
		})
	}
}

// Heartbeats pass while the sessions between the nodes carry nothing at all, so saturated that not a byte moves: nobody is suspected and the lease lives on, though writes wait.
//
// Faults: W6 (bulk traffic stalls the sessions; heartbeats have connections of their own)
func TestHeartbeatsPassBulk(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, func(_ string, o *Options) {
		// Generous, so that a busy machine is not taken for a delay; the stall lasts longer.
		o.Failover.Suspect, o.Failover.Lease = 3*time.Second, 3*time.Second
	})
	c.start()
	active := c.elected(0)
	c.settled(active)
	a := c.nodes[active].group
	epoch := c.nodes[active].epoch()
	end := f.stall()
	defer end()
	wrote := make(chan error, 1)
	go func() { wrote <- c.nodes[active].set("big", strings.Repeat("x", 1<<20)) }()
	began, lived := time.Now(), failover.Mono(a.lease.until.Load())
	until(t, func() error {
		for _, n := range c.names {
			if s := *c.nodes[n].group.voter.suspects.Load(); len(s) > 0 {
				t.Fatalf("%s suspects %v behind bulk traffic", n, s)
			}
		}
		if until := failover.Mono(a.lease.until.Load()); until-lived < failover.Mono(4*time.Second) {
			return fmt.Errorf("the lease was extended by %s in %s", time.Duration(until-lived), time.Since(began))
		}
		return nil
	})
	select {
	case err := <-wrote:
		t.Fatalf("the sessions were not stalled: a write was answered: %v", err)
	default:
	}
	end()
	<-wrote
	if !a.active() || c.nodes[active].epoch() != epoch {
		t.Fatalf("bulk traffic caused a failover: %s", c)
	}
}

// A standby that is frozen in the middle of a hand-over holds writes up only until it is suspected: the active takes them back.
//
// Faults: P3 (the target of a switchover stands still between drain and promotion)
func TestSwitchoverRollsBack(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, nil)
	c.start()
	active := c.elected(0)
	c.settled(active)
	epoch := c.nodes[active].epoch()
	to := c.others(active)[0]
	other := c.others(active)[1]
	f.isolate(to, active, other)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.nodes[active].group.runner.Switchover(ctx, to, nil); err == nil {
		t.Fatal("a switchover to a node that is cut off succeeded")
	}
	c.nodes[active].mustSet("goes on")
	if _, err := c.nodes[active].group.switchover(ctx, to, "test", nil); err == nil {
		t.Fatal("a node that is cut off has prepared to take over")
	}
	c.nodes[active].mustSet("was not paused")
	if got := c.nodes[active].epoch(); got != epoch {
		t.Fatalf("epoch %d after %d", got, epoch)
	}
	f.heal()
	c.settled(active)
}

// A node whose application does not answer hands over to one whose application does.
func TestSickApplication(t *testing.T) {
	t.Parallel()
	c, _ := automatic(t, nil)
	c.start()
	active := c.elected(0)
	c.settled(active)
	epoch := c.nodes[active].epoch()
	why := "it does not answer"
	c.nodes[active].group.probe.why.Store(&why)
	next := c.elected(epoch, active)
	if c.nodes[next].epoch() != epoch+1 {
		t.Fatalf("epoch %d after %d", c.nodes[next].epoch(), epoch)
	}
	c.settled(next)
}

// TestProbe asks real applications: a command, an HTTP address and a RESP one.
func TestProbe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o    ProbeOptions
		well bool
	}{
		"command":        {ProbeOptions{Command: []string{"true"}}, true},
		"command fails":  {ProbeOptions{Command: []string{"false"}}, false},
		"command hangs":  {ProbeOptions{Command: []string{"sleep", "60"}, Timeout: 50 * time.Millisecond}, false},
		"no such server": {ProbeOptions{HTTP: "http://127.0.0.1:1/"}, false},
		"no such socket": {ProbeOptions{RESP: "PING", Addr: "/nonexistent/socket"}, false},
	} {
		c.o.ensureDefaults()
		p := probe{o: c.o}
		if err := p.ask(t.Context()); (err == nil) != c.well {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFailoverOptions: what cannot work is refused with the reason.
func TestFailoverOptions(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(o *Options){
		"two voters":               func(o *Options) { o.Peers = o.Peers[:1] },
		"token store":              func(o *Options) { o.Token = nil },
		"not a data node":          func(o *Options) { o.Failover.Preferred = "z" },
		"lease 100ms":              func(o *Options) { o.Failover.Lease = 100 * time.Millisecond },
		"longer than the silence":  func(o *Options) { o.Failover.Lease = time.Hour },
		"suspicion after 120ms is": func(o *Options) { o.Failover.Suspect = 120 * time.Millisecond },
	} {
		c, _ := automatic(t, nil)
		o := c.options("a")
		change(&o)
		o.EnsureDefaults()
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
