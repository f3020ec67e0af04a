package node

import (
	"strings"
	"testing"
	"time"
)

// A preferred active that was followed by another one takes back when it has been well for as long as told: by a switchover, in one epoch, without a person. Without take_back it does not.
func TestPreferredTakesBack(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, func(_ string, o *Options) {
		o.Failover.StepDown, o.Failover.Suspect, o.Failover.Lease = time.Second, time.Second, time.Second
		o.Failover.Preferred, o.Failover.TakeBack = "a", 300*time.Millisecond
	})
	c.start()
	c.elected(0)
	c.settled("a") // whoever began, a has it by now
	for try := 1; ; try++ {
		c.nodes["a"].mustSet("k")
		epoch := c.nodes["a"].epoch()
		f.isolate("a", "b", "c")
		next := c.elected(epoch, "a")
		until(t, func() error { return c.nodes[next].set("k", "newer") })
		f.heal()
		c.settled("a")
		rec, err := c.nodes["a"].group.token.Load(t.Context())
		if err == nil && rec.Holder == "a" && strings.Contains(rec.Reason, "switchover") {
			break
		}
		if err != nil || rec.Holder != "a" || try == 4 { // on a slow machine the other one may have lost its role before it was asked
			t.Fatalf("a has the token by %+v, %v", rec, err)
		}
	}
	if got := c.nodes["a"].get("k"); got != "newer" {
		t.Fatalf("k is %q", got)
	}
}
