package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"repld/wal"
)

// lagged makes b apply what it has after a delay.
func lagged(delay time.Duration) func(string, *Options) {
	return func(name string, o *Options) {
		if name == "b" {
			o.Mode, o.ApplyDelay = ModeLagged, delay
		}
	}
}

// A lagged standby has records durable at once and applies them late: until its delay has passed it does not show them. A promotion does not wait for the delay.
func TestDelayIsLiftedByPromotion(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, lagged(time.Hour), "a", "b")
	c.start()
	c.promote("a")
	c.nodes["a"].mustSet("x", "y", "z")
	c.settled("a")
	b := c.nodes["b"]
	if at := b.group.state.applied().LSN; at != 0 || b.get("x") != "" {
		t.Fatalf("b applied up to %d, delay 1 h", at)
	}
	c.promote("b")
	c.settled("b")
	if got := b.get("x") + b.get("y") + b.get("z"); got != "xyz" {
		t.Fatalf("the new active shows %q", got)
	}
	c.nodes["b"].mustSet("after")
}

// A frame is applied once its delay has passed, and not before.
func TestDelay(t *testing.T) {
	t.Parallel()
	const delay = 200 * time.Millisecond
	c := newCluster(t, 1, lagged(delay), "a", "b")
	c.start()
	c.promote("a")
	b := c.nodes["b"]
	for i := range 3 {
		key := fmt.Sprint("key ", i)
		c.nodes["a"].mustSet(key)
		at := c.nodes["a"].group.log.End().LSN
		until(t, func() error {
			if b.group.state.applied().LSN < at {
				return fmt.Errorf("b applied %v, want %d", b.group.state.applied(), at)
			}
			return nil
		})
		written, err := b.group.log.TimeOf(at)
		if err != nil {
			t.Fatal(err)
		}
		if age := time.Since(written); age < delay {
			t.Fatalf("record %d was applied after %s, delay %s", at, age, delay)
		}
	}
}

// A replay says how far it is whenever it got further, which extends its bound, and ends at what is committed (R12).
func TestReplayProgress(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, lagged(time.Hour), "a", "b")
	c.start()
	c.promote("a")
	c.nodes["a"].mustSet("1", "2", "3", "4", "5", "6")
	c.settled("a")
	end := c.nodes["a"].group.commit.lsn()
	c.stop("b")
	n := c.open("b") // its log is whole, its state empty; nothing applies unless the test does
	defer n.Close()
	g := n.group
	g.commit.learned(end)
	var limit atomic.Uint64
	g.applier.limit = func() wal.LSN { return wal.LSN(limit.Load()) }
	said := make(chan string, 100)
	done := make(chan error, 1)
	go func() { done <- host{g}.Replay(t.Context(), func(line string) { said <- line }) }()
	for at := end - 2; at <= end; at++ {
		limit.Store(uint64(at))
		until(t, func() error {
			if _, _, err := g.applier.once(nil); err != nil {
				t.Fatal(err)
			}
			if g.state.applied().LSN < at {
				return errors.New("not applied")
			}
			return nil
		})
		if at == end {
			break
		}
		if line, want := soon(t, said, "progress"), fmt.Sprintf("lsn %d of %d", at, end); !strings.Contains(line, want) {
			t.Fatalf("said %q, want %q", line, want)
		}
	}
	if err := soon(t, done, "the end of the replay"); err != nil {
		t.Fatal(err)
	}
	g.applier.drop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.commit.learned(end + 1)
	if err := (host{g}).Replay(ctx, func(string) {}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("replayed to lsn %d of %d", end, end+1)) {
		t.Fatalf("a replay that was broken off: %v", err)
	}
}

// Every node digests its state at the same mark, and the digests are equal.
func TestDigestsAreEqual(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	for i := range 50 {
		c.nodes["a"].mustSet(fmt.Sprint("key ", i))
	}
	for _, asked := range []string{"a", "b"} {
		v, err := c.nodes[asked].verified(t.Context())
		if err != nil || !v.OK || len(v.Nodes) != 3 {
			t.Fatalf("%+v, %v", v, err)
		}
		for _, d := range v.Nodes {
			if d.Digest != v.Nodes[0].Digest || d.Position != v.Mark || d.Rows < 50 {
				t.Errorf("%+v, mark %v", d, v.Mark)
			}
		}
	}
}

// Marks whose state is about to be replaced are answered with an error, whether they wait or are being digested, and give the state free. Later ones are digested.
func TestDigestsAreGivenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, func(_ string, o *Options) { o.DigestRate = 1 }, "a") // a byte a second: it takes hours
	c.start()
	a := c.nodes["a"]
	a.mustSet(strings.Repeat("k", 10_000))
	g := a.group
	mark := func(id string) {
		t.Helper()
		if _, err := g.mark(t.Context(), markRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{"first", "second", "third"}
	for _, id := range ids {
		mark(id)
	}
	until(t, func() error {
		g.digests.mu.Lock()
		defer g.digests.mu.Unlock()
		if g.digests.mu.stop == nil {
			return errors.New("the first mark is not being digested")
		}
		return nil
	})
	st, err := g.state.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer g.state.release()
	g.applier.step.Lock()
	g.digests.cancel()
	g.applier.step.Unlock()
	if g.digests.begin(waitingMark{}, func() {}) {
		t.Error("a mark that was taken from the queue just before is digested all the same")
	}
	for _, id := range ids {
		d, err := g.digest(t.Context(), markRequest{ID: id})
		if err != nil || d.Error == "" {
			t.Fatalf("%s: %+v, %v", id, d, err)
		}
	}
	until(t, func() error {
		if n := st.Metrics().Snapshots; n != 0 {
			return fmt.Errorf("%d snapshots are open", n)
		}
		return nil
	})
	mark("later")
	until(t, func() error {
		if st.Metrics().Snapshots != 1 {
			return errors.New("a mark after the install is not digested")
		}
		return nil
	})
}
