package node

import (
	"fmt"
	"testing"
	"time"
)

// A process that stood still as a standby does not ask its peers about that when it is promoted later: the answers to its fence are newer. It would wait for the one that it follows, which
// is silent, and all writes with it.
//
// Faults: P3 (a standby that stood still is promoted)
func TestOldPauseIsForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	b := c.nodes["b"].group
	b.guard.stood.Store(true)
	c.promote("b")
	if b.guard.stood.Load() {
		t.Error("a pause from before the promotion is still to be looked into")
	}
	c.nodes["b"].mustSet("k")
}

// An active that stood still does not wait for a peer that was silent before when a majority answers; it does for all others, and when there is no majority.
//
// Faults: P3 (the active stands still while a peer is gone)
func TestConfirmDoesNotWaitForTheSilent(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, nil)
	c.start()
	active := c.elected(0)
	c.settled(active)
	g := c.nodes[active].group
	gone, here := c.others(active)[0], c.others(active)[1]
	if g.saysEnough([]string{here}) {
		t.Fatal("a peer that is well need not answer")
	}
	f.isolate(gone, active, here)
	until(t, func() error {
		if !g.voter.suspected(gone) {
			return fmt.Errorf("%s is not suspected", gone)
		}
		return nil
	})
	if g.saysEnough(nil) {
		t.Fatal("nobody need answer")
	}
	done := make(chan []string, 1)
	go func() { done <- g.askEpochs(t.Context(), 10*patience, g.saysEnough) }()
	select {
	case answered := <-done:
		if !contains(answered, here) {
			t.Fatalf("%v answered", answered)
		}
	case <-time.After(patience):
		t.Fatal("waits for a peer that is silent")
	}
	g.guard.stood.Store(true)
	if !g.confirm() || g.guard.stood.Load() {
		t.Fatalf("%s is not sure to be the active: %s", active, c)
	}
	f.heal()
}
