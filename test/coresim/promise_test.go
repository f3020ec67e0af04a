package coresim

import "testing"

// forgotten is a life in which a node is killed right after it granted an epoch, restarts at once, and has forgotten whose heartbeats it acked before: the voter b, after which
// the candidate c comes again; or the candidate c, after which b is promoted. The active a is cut off all the while.
func forgotten(seed uint64) Config {
	c := Config{Seed: seed, Nodes: 3, K: 1, Lagged: -1, Shared: true, Leases: true, Elections: seed/2%2 == 0, Pace: 2 * ms, Patience: 4, Length: 2 * sc}
	killed, next := 1, 2
	if seed%2 == 0 {
		killed, next = 2, 1
		c.Events = append(c.Events, Event{At: 700 * ms, Kind: Cut, Node: 0, Peer: 1, For: 3 * sc, Arg: 1}) // a has the word of c alone
	}
	c.Events = append(c.Events,
		Event{At: 1000 * ms, Kind: Isolate, Node: 0, Peer: 1, For: 2 * sc},
		Event{At: 1005 * ms, Kind: Promote, Node: 2},
		Event{At: 1006*ms + Time(seed/4)*500*us, Kind: Crash, Node: killed, For: 20 * ms}) // somewhere between the grant and the opening
	for i := range Time(8) {
		c.Events = append(c.Events, Event{At: 1080*ms + i*40*ms, Kind: Promote, Node: next})
	}
	return c
}

// R14: a candidate waits for the lease of that active all the same. (Found by DrawLeases' kind of life: see docs/faults.md.)
func TestForgottenPromise(t *testing.T) {
	read, promoted := 0, 0
	for seed := range uint64(160) {
		r := Run(forgotten(seed), 200)
		if r.Err != nil {
			t.Fatal(r.Report())
		}
		read, promoted = read+r.Stats.Read, promoted+r.Stats.Promotions
	}
	if read == 0 || promoted < 200 {
		t.Errorf("%d reads, %d promotions: nothing was shown", read, promoted)
	}
}
