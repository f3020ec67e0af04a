package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
	"repld/replicate"
	"repld/wal"
)

// Two nodes promoted at once: whoever wins, exactly one is active at the end, the others follow it, and nothing that was acked is gone (R1, R2; FAULTS H7).
// Faults: H7 (two nodes promoted at once)
func TestPromotedTwice(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	c.nodes["a"].mustSet("acked")
	pairs := [][2]string{{"b", "c"}, {"a", "c"}, {"a", "b"}, {"c", "b"}, {"a", "b"}, {"b", "c"}}
	for round, pair := range pairs {
		var all sync.WaitGroup
		var errs [2]error
		for i, name := range pair {
			all.Go(func() { _, errs[i] = c.nodes[name].promote(admin.PromoteRequest{}) })
		}
		all.Wait()
		if errs[0] != nil && errs[1] != nil {
			c.promote(pair[round%2]) // both gave up in favour of the other: nothing may stand in the way of the next one
		}
		var active string
		until(t, func() error {
			var all []string
			for _, n := range c.names {
				if c.nodes[n].group.active() {
					all = append(all, n)
				}
			}
			if len(all) != 1 {
				return fmt.Errorf("round %d: active: %v, errors %v: %s", round, all, errs, c)
			}
			active = all[0]
			return nil
		})
		c.settled(active)
		if got := c.nodes[active].get("acked"); got != "acked" {
			t.Fatalf("round %d: an acked write is gone: %q", round, got)
		}
		c.nodes[active].mustSet(fmt.Sprint("round ", round))
		c.settled(active)
	}
}

// A candidate that died after it had granted an epoch to itself, and meets a rival that won the same epoch meanwhile, becomes its standby by itself (R2, R15).
func TestRivalGrantIsReplaced(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	c.nodes["a"].mustSet("acked")
	c.settled("a")
	own := wal.SyncSet{Version: c.nodes["a"].group.fence.State().Sync().Version + 1, Members: []string{"a", "c"}, K: 1}
	c.stop("b")
	n := c.open("b") // as it is after a crash between its own grant and its first request
	if err := errors.Join(n.group.fence.Grant(2, "b", own), n.Close()); err != nil {
		t.Fatal(err)
	}
	c.promote("c")
	if e := c.nodes["c"].group.fence.Epoch(); e != 2 {
		t.Fatalf("c won epoch %d, not the one that b granted to itself", e)
	}
	c.start("b")
	c.nodes["c"].mustSet("after")
	c.settled("c")
}

// Two actives made by consent on both sides of a partition have epochs of their own. When it heals the lower one steps down and becomes a standby by itself; what
// it alone had acked is saved aside (R2, R3, R9, R15).
func TestConsentOnBothSides(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	c.nodes["a"].mustSet("before")
	c.settled("a")
	c.wire.partition()
	c.stop("a")
	none := 0
	epochs := map[string]wal.Epoch{}
	for _, n := range []string{"b", "c"} {
		r, err := c.nodes[n].promote(admin.PromoteRequest{Sync: &none, AllowDataLoss: true})
		if err != nil {
			t.Fatalf("promote %s: %v", n, err)
		}
		epochs[n] = r.Epoch
		c.nodes[n].mustSet("on " + n)
	}
	winner, loser := "b", "c"
	if epochs["c"] > epochs["b"] {
		winner, loser = "c", "b"
	}
	if epochs["b"] == epochs["c"] {
		t.Fatalf("both hold epoch %d", epochs["b"])
	}
	c.wire.heal()
	c.settled(winner)
	until(t, func() error {
		if w, l := c.nodes[winner].get("on "+winner), c.nodes[loser].get("on "+winner); w == "" || l == "" {
			return fmt.Errorf("what %s acked is not on both: %q %q", winner, w, l)
		}
		return nil
	})
	if got := c.nodes[loser].get("on " + loser); got != "" {
		t.Errorf("%s still shows what the new history does not contain: %q", loser, got)
	}
	if saved := c.nodes[loser].Status(t.Context(), true).Nodes[0].Diverged; saved == 0 {
		t.Errorf("%s saved nothing aside", loser)
	}
	c.start("a")
	c.settled(winner)
	if got := c.nodes["a"].get("before"); got != "before" {
		t.Errorf("a has %q", got)
	}
}

// A peer that is slow to answer, because its disk is, is waited for when its grant is needed, as long as it shows that it is alive; a survey does not wait for it, and
// one that is gone is not waited for either (R5, R12).
func TestSlowGrant(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b")
	c.start()
	c.promote("a")
	c.settled("a")
	a := c.nodes["a"]
	ask := func(patient bool, takes time.Duration) failover.Answer {
		t.Helper()
		answers := make(chan []failover.Answer, 1)
		go func() {
			answers <- a.group.peers.survey(t.Context(), patient, host{a.group}.terms(0, a.group.nextSync()), func(ctx context.Context, _ string) (failover.Answer, error) {
				select {
				case <-time.After(takes):
					return failover.Answer{Voter: true}, nil
				case <-ctx.Done():
					return failover.Answer{}, context.Cause(ctx)
				}
			})
		}()
		return soon(t, answers, "the end of the questions")[0]
	}
	until(t, func() error { // b must answer one question within askTimeout, which a busy machine may spoil
		if got := ask(true, askTimeout*3/2); !got.Reachable || !got.Voter || got.Node != "b" {
			return fmt.Errorf("a slow grant: %+v", got)
		}
		return nil
	})
	if got := ask(false, patience); got.Reachable {
		t.Errorf("a survey waited for %+v", got)
	}
	c.stop("b")
	until(t, func() error { // once its session is known to be gone
		if got := ask(true, patience); got.Reachable || got.Err == "" {
			return fmt.Errorf("a node that is gone: %+v", got)
		}
		return nil
	})
}

// A node that promised a higher epoch between its own grant and its epoch start commits nothing of its own any more and does not call its log complete
// (R3, R7, R11).
func TestStartOfAnOldEpoch(t *testing.T) {
	t.Parallel()
	set := func(version uint64, k int) wal.SyncSet {
		return wal.SyncSet{Version: version, Members: []string{"b", "c"}, K: k}
	}
	prepare := func(t *testing.T, k int) (*group, func(ctx context.Context) error) {
		c := newCluster(t, k, nil, "a", "b", "c")
		n := c.open("a")
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := n.group.fence.Grant(5, "a", set(1, k)); err != nil {
			t.Fatal(err)
		}
		return n.group, func(ctx context.Context) error {
			_, err := n.group.startEpoch(ctx, wal.EpochStart{Epoch: 5, Holder: "a", Sync: set(1, k)})
			return err
		}
	}
	t.Run("before", func(t *testing.T) {
		g, begin := prepare(t, 0)
		if err := g.fence.Grant(6, "b", set(2, 0)); err != nil {
			t.Fatal(err)
		}
		if err := begin(t.Context()); !errors.Is(err, failover.ErrFenced) {
			t.Fatalf("start of epoch 5 under a promise to obey 6: %v", err)
		}
		if g.commit.lsn() != 0 || g.fence.Voter() || g.serving.epoch() != 0 {
			t.Fatalf("committed %d, voter %t, serving epoch %d", g.commit.lsn(), g.fence.Voter(), g.serving.epoch())
		}
	})
	t.Run("while its first record waits for acks", func(t *testing.T) {
		g, begin := prepare(t, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		started := make(chan error, 1)
		go func() { started <- begin(ctx) }()
		until(t, func() error {
			if g.log.Durable().LSN != 1 {
				return errors.New("the epoch-start record is not durable")
			}
			return nil
		})
		if err := g.fence.Grant(6, "b", set(2, 1)); err != nil {
			t.Fatal(err)
		}
		g.acked("c", replicate.Ack{Durable: 1, Sync: 1, Counts: true})
		if g.commit.lsn() != 0 || g.serving.epoch() != 0 {
			t.Fatalf("an ack after the promise committed up to %d; serving epoch %d", g.commit.lsn(), g.serving.epoch())
		}
		cancel()
		if err := soon(t, started, "the end of the start"); err == nil {
			t.Fatal("epoch 5 was started after 6 was promised")
		}
	})
}

// brokenStore is a token store that does not take the token: it answers with err, or, without one, not before the step is cancelled.
type brokenStore struct {
	failover.Store
	err   error
	asked chan struct{} // capacity 1
}

func (s *brokenStore) CompareAndSet(ctx context.Context, _ uint64, _ failover.Record) (failover.Record, error) {
	s.asked <- struct{}{}
	if s.err != nil {
		return failover.Record{}, s.err
	}
	<-ctx.Done()
	return failover.Record{}, ctx.Err()
}

// A promotion that fails or is broken off at the token leaves the standby following, whether or not its stream was ended by the attempt.
func TestFailedTokenStep(t *testing.T) {
	t.Parallel()
	broken := &brokenStore{asked: make(chan struct{}, 1)}
	c := three(t, func(name string, o *Options) {
		if name != "b" {
			return
		}
		if broken.Store == nil {
			fs := vfs.NewMem()
			if err := fs.MkdirAll("token", 0o700); err != nil {
				t.Fatal(err)
			}
			store, err := failover.OpenFileStore(failover.FileStoreOptions{FS: fs, Dir: "token"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = store.Close() }) // nothing is written
			broken.Store = store
		}
		o.Token = broken
	})
	b := c.nodes["b"]
	for _, hangs := range []bool{false, true} {
		broken.err = errors.New("the store is not there")
		if hangs {
			broken.err = nil
		}
		var done chan error
		until(t, func() error { // a survey may fail when the machine is busy
			done = make(chan error, 1)
			go func() {
				_, err := b.promote(admin.PromoteRequest{})
				done <- err
			}()
			select {
			case <-broken.asked:
				return nil
			case err := <-done:
				done <- err
				select {
				case <-broken.asked: // both had come
					return nil
				default:
					return fmt.Errorf("no token step: %w", err)
				}
			}
		})
		if hangs {
			if err := b.group.runner.Demote(t.Context(), "breaks the promotion off"); err != nil {
				t.Fatal(err)
			}
		}
		if err := soon(t, done, "the end of the promotion"); err == nil {
			t.Fatal("b was promoted without the token")
		}
		c.nodes["a"].mustSet(fmt.Sprint("after ", hangs))
		c.settled("a")
		if e := b.group.fence.Epoch(); e != 1 {
			t.Fatalf("b is at epoch %d", e)
		}
	}
}

// All machines lose power, or all processes are killed, at once: the cluster has an active again without anybody's consent, and every acked write (R1, R5, R8).
func TestAllKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b", "c")
	disks := map[string]*vfs.MemFS{}
	for _, n := range c.names {
		disks[n] = vfs.NewCrashableMem()
		c.disks[n] = disks[n]
	}
	c.start()
	c.promote("a")
	c.settled("a")
	var keys []string
	for i := range 50 {
		keys = append(keys, fmt.Sprint("key ", i))
	}
	c.nodes["a"].mustSet(keys...)
	left := map[string]map[string]*vfs.MemFS{}
	for how, percent := range map[string]int{"power cut": 0, "torn": 50, "killed": 100} {
		left[how] = map[string]*vfs.MemFS{}
		for i, n := range c.names {
			left[how][n] = disks[n].CrashClone(crash(percent, uint64(i)))
		}
	}
	for _, n := range c.names {
		c.stop(n)
	}
	for how, active := range map[string]string{"power cut": "a", "torn": "b", "killed": "c"} {
		t.Run(how, func(t *testing.T) {
			again := newCluster(t, 1, nil, c.names...)
			for n, fs := range left[how] {
				again.disks[n] = fs
			}
			again.start()
			again.promote(active)
			again.settled(active)
			for _, k := range keys {
				if got := again.nodes[active].get(k); got != k {
					t.Fatalf("acked %q, found %q", k, got)
				}
			}
			again.nodes[active].mustSet("after")
		})
	}
}
