package node

import (
	"testing"
	"time"

	"repld/failover"
	"repld/internal/heartbeat"
	"repld/wal"
)

// leased is a read lease of a voter of three, in epoch 2, on a clock that the test sets.
func leased(now *failover.Mono) *readLease {
	l := newReadLease(failover.LeaseOptions{Voters: []string{"b", "c"}, Majority: true, Length: 1000, Margin: 100}, false, func() failover.Mono { return *now })
	l.begin(2, wal.SyncSet{Version: 1, Members: []string{"b", "c"}, K: 1})
	return l
}

// R14: linearizable reads need the word of a majority that was given in this epoch, for something sent in it, and only for as long as that word lasts: length less
// margin, from the sending.
// Faults: C2 (the active's clock against what the voters promised by theirs: the margin is given away)
func TestReadLease(t *testing.T) {
	t.Parallel()
	now := failover.Mono(5000)
	l := leased(&now)
	for name, a := range map[string]struct {
		ack  heartbeat.Ack
		sent failover.Mono
	}{
		"no support":          {heartbeat.Ack{Epoch: 2}, 5000},
		"another epoch":       {heartbeat.Ack{Supports: true, Epoch: 1}, 5000},
		"sent before it":      {heartbeat.Ack{Supports: true, Epoch: 2}, 4999},
		"a newer epoch by it": {heartbeat.Ack{Supports: true, Epoch: 3}, 5000},
	} {
		l.acked("b", a.ack, a.sent, nil)
		if l.live() {
			t.Fatalf("%s: the lease lives", name)
		}
	}
	l.acked("b", heartbeat.Ack{Supports: true, Epoch: 2}, 5000, nil)
	for _, c := range []struct {
		at   failover.Mono
		live bool
	}{{5000, true}, {5899, true}, {5900, false}, {6000, false}} {
		if now = c.at; l.live() != c.live {
			t.Errorf("supported at 5000 for 1000, margin 100: at %d live is %t", c.at, l.live())
		}
	}
	l.begin(3, wal.SyncSet{})
	if now = 5000; l.live() {
		t.Error("the lease of epoch 2 lives in epoch 3")
	}
}

// R14: what a voter owes an older active is waited for, unless that one granted the epoch itself.
func TestOlderLeaseIsOutlasted(t *testing.T) {
	t.Parallel()
	now := failover.Mono(5000)
	l := leased(&now)
	l.fenced(3, "a", []failover.Answer{{Node: "b", Reachable: true, Epoch: 3, Holder: "a", LeaseOf: "c", LeaseLeft: 700}})
	if l.mu.oldUntil != 5700 {
		t.Errorf("c may read until %d, want 5700", l.mu.oldUntil)
	}
	l.fenced(4, "a", []failover.Answer{
		{Node: "b", Reachable: true, Epoch: 4, Holder: "a", LeaseOf: "c", LeaseLeft: 700}, {Node: "c", Reachable: true, Epoch: 4, Holder: "a"},
	})
	if l.mu.oldUntil != 0 {
		t.Errorf("c granted the epoch itself, and is waited for until %d", l.mu.oldUntil)
	}
}

// seen is the picture that a node, a standby in epoch 2 of b, gives Sentinel clients when it has heard peers so long ago.
func seen(peers map[string]profile, ago map[string]time.Duration) (sv sentinelView) {
	r := &roster{self: func() profile { return profile{Node: "a", Epoch: 2, Holder: "b"} }, interval: 100 * time.Millisecond}
	r.mu.by = map[string]heard{}
	for n, p := range peers {
		p.Node = n
		r.mu.by[n] = heard{p, time.Now().Add(-ago[n])}
	}
	return sentinelView{r, &Options{Name: "a", Peers: []Peer{{Name: "b"}, {Name: "c"}}}}
}

// Sentinel clients are told who is active only by a node that hears a majority, by words that are fresh, and by the highest epoch among them.
// Faults: W1, W3 (what a node that hears nobody, or only old words, says of the active)
func TestSentinelAnswersWithAMajority(t *testing.T) {
	t.Parallel()
	active := profile{Epoch: 2, Holder: "b", Open: true, Client: "10.0.0.2:6379"}
	lapsed := active
	lapsed.Lapsed = true
	const old = time.Hour
	for name, c := range map[string]struct {
		peers map[string]profile
		ago   map[string]time.Duration
		live  bool
		open  bool
	}{
		"all":                    {map[string]profile{"b": active, "c": {Epoch: 2, Holder: "b"}}, nil, true, true},
		"one of two":             {map[string]profile{"b": active, "c": {Epoch: 2, Holder: "b"}}, map[string]time.Duration{"c": old}, true, true},
		"the active long ago":    {map[string]profile{"b": active, "c": {Epoch: 2, Holder: "b"}}, map[string]time.Duration{"b": old}, true, false},
		"nobody":                 {nil, nil, false, false},
		"only old words":         {map[string]profile{"b": active, "c": active}, map[string]time.Duration{"b": old, "c": old}, false, false},
		"its lease is over":      {map[string]profile{"b": lapsed, "c": {Epoch: 2, Holder: "b"}}, nil, true, false},
		"a newer epoch is known": {map[string]profile{"b": active, "c": {Epoch: 3, Holder: "c"}}, nil, true, false},
	} {
		p := seen(c.peers, c.ago).Picture()
		if p.Live != c.live || p.Open != c.open {
			t.Errorf("%s: live %t, an active is named: %t; %+v", name, p.Live, p.Open, p)
		}
	}
}
