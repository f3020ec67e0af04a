package node

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// R14, FAULTS W1: an active that is cut off names itself no longer than its lease lives, and nobody names it once another one accepts writes; then every node that hears a majority
// names that one, and the old one too when it is reached again.
//
// Faults: W1 (the active isolated: whom the Sentinel endpoints name)
func TestSentinelFollowsTheLease(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, func(name string, o *Options) {
		o.Reach = name + ":6379"
		o.Gossip = time.Second // so that its view of a majority is fresh for longer than the lease
	})
	c.start()
	old := c.elected(0)
	c.settled(old)
	view := func(n string) sentinelView { return sentinelView{c.nodes[n].group.roster, &c.nodes[n].o} }
	named := func(n string) string {
		if p := view(n).Picture(); p.Live && p.Open {
			return p.Active.Node
		}
		return ""
	}
	agree := func(on string, nodes ...string) {
		t.Helper()
		until(t, func() error {
			for _, n := range nodes {
				if got := named(n); got != on {
					return fmt.Errorf("%s names %q, want %q", n, got, on)
				}
			}
			return nil
		})
	}
	agree(old, c.names...)
	epoch := c.nodes[old].epoch()
	f.isolate(old, c.others(old)...)
	lease := c.nodes[old].group.lease
	until(t, func() error {
		lived := lease.live() // looked at first: cut off, it does not come back
		p := view(old).Picture()
		if !lived && p.Open {
			t.Fatalf("%s names %s without a lease", old, p.Active.Node)
		}
		if lived {
			return errors.New("the lease lives")
		}
		if !p.Live {
			t.Log("the view was over before the lease: a busy machine")
		}
		return nil
	})
	next := c.elected(epoch, old)
	agree(next, c.others(old)...)
	if got := named(old); got != "" {
		t.Fatalf("%s, cut off, names %q", old, got)
	}
	f.heal()
	agree(c.elected(epoch), c.names...)
}
