package coresim

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Time is simulated time in microseconds.
type Time int64

const (
	us = Time(1)
	ms = 1000 * us
	sc = 1000 * ms
)

// Config is everything that a run depends on.
type Config struct {
	Seed      uint64
	Nodes     int    // data nodes, 1 to 4
	K         int    // acks that a commit needs
	Shared    bool   // one token store for all nodes
	Shrink    bool   // the sync set is made smaller when members do not ack
	Lagged    int    // node that applies late, -1 none
	Slow      bool   // disks take up to 30 ms instead of 3
	Loss      int    // messages lost, in 1000
	Pace      Time   // between the writes of clients, on average
	Patience  int    // bounds of the role machine, as 1/n of production's
	Drift     int    // clocks of the nodes run by up to so much too fast or too slow, in 1000
	Length    Time   // of the phase with faults
	Leases    bool   // nodes exchange heartbeats, and the active answers reads under a lease (R14)
	Elections bool   // and the nodes promote themselves
	Preferred string // node that takes the activity back, "" for none
	Events    []Event
	Careless  bool // an emptied node is started again at once, whatever the others know
	Mutant    Mutant
}

// String is the option set in one line.
func (c Config) String() string {
	return fmt.Sprintf("seed %d: %d nodes, k %d, shared token %v, shrink %v, lagged %d, slow disks %v, loss %d/1000, a write every %d us, bounds 1/%d, drift %d/1000, leases %v, elections %v, preferred %q, %d events, mutant %q",
		c.Seed, c.Nodes, c.K, c.Shared, c.Shrink, c.Lagged, c.Slow, c.Loss, c.Pace, c.Patience, c.Drift, c.Leases, c.Elections, c.Preferred, len(c.Events), c.Mutant)
}

// Kind is what an Event does.
type Kind string

// Faults, and what persons do.
const (
	Crash      Kind = "crash"       // node loses power and is started again after For; what was not synced is lost as Arg says
	CrashWrite Kind = "crash-write" // power fails at the Arg-th operation on its epoch file
	FailSync   Kind = "fail-sync"   // the next sync of its log fails (R10)
	Pause      Kind = "pause"       // the process stands still for For
	Cut        Kind = "cut"         // node hears nothing from peer for For; Arg 1: nor peer from node
	Isolate    Kind = "isolate"     // node is cut off from all others, and Arg 1: from the token store, for For
	CutStore   Kind = "cut-store"   // node does not reach the shared token store for For
	StoreDown  Kind = "store-down"  // nobody does
	Resets     Kind = "resets"      // the heartbeat links of node break, though nobody died
	Maintain   Kind = "maintain"    // a person at node pauses failover; Arg 1 or 2: resumes it
	Noise      Kind = "noise"       // 1 of 8 messages is lost for For
	Rot        Kind = "rot"         // crash, and the last frame of the log is damaged (R8)
	Wipe       Kind = "wipe"        // crash, and the disk is lost (R11)
	Copy       Kind = "copy"        // a copy of the node's disk is made
	OldCopy    Kind = "old-copy"    // crash, and the disk is set back to the last copy
	Trim       Kind = "trim"        // the log is cut at its beginning, whoever needs it
	Promote    Kind = "promote"     // Arg: 0, or 1 + the k that the person names
	Twice      Kind = "promote-two" // node and peer, at once
	Force      Kind = "force"       // promote with consent to data loss; Arg as for promote
	Coup       Kind = "coup"        // node and all actives lose sight of each other for For, the others do not, and node is promoted
	Switchover Kind = "switchover"  // from whoever is active to node
	Demote     Kind = "demote"      // whoever is active
)

// Event is one fault or one word of a person. Each stands for itself, so that any subset of them is a valid run.
type Event struct {
	At   Time
	Kind Kind
	Node int
	Peer int
	For  Time
	Arg  int
}

// String is the event in a few words.
func (e Event) String() string {
	return fmt.Sprintf("%9.3f ms %s node %s peer %s for %d ms arg %d", float64(e.At)/float64(ms), e.Kind, name(e.Node), name(e.Peer), e.For/ms, e.Arg)
}

func name(i int) string { return string(rune('a' + i)) }

// Draw makes the configuration of a seed.
func Draw(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 0xc0))
	c := Config{Seed: seed, Nodes: 1 + r.IntN(16), Lagged: -1, Shared: r.IntN(2) == 0, Slow: r.IntN(3) == 0, Patience: 1 + r.IntN(12)}
	switch { // three nodes are what most have
	case c.Nodes > 10:
		c.Nodes = 3
	case c.Nodes > 6:
		c.Nodes = 4
	case c.Nodes > 2:
		c.Nodes = 2 + c.Nodes%2
	}
	c.K = min(r.IntN(4), c.Nodes-1)
	if c.K == 0 && c.Nodes > 1 && r.IntN(3) > 0 {
		c.K = 1
	}
	c.Shrink = c.Shared && r.IntN(3) == 0
	if r.IntN(4) == 0 {
		c.Lagged = r.IntN(c.Nodes)
	}
	if r.IntN(2) == 0 {
		c.Loss = r.IntN(30)
	}
	c.Pace = Time(2+r.IntN(40)) * ms
	if r.IntN(4) == 0 {
		c.Pace = Time(300+r.IntN(1500)) * us
	}
	c.Length = 4*sc + Time(r.IntN(12))*sc
	if d := rand.New(rand.NewPCG(seed, 0xd1)); d.IntN(3) == 0 {
		c.Drift = 1 + d.IntN(300)
	}
	if l := rand.New(rand.NewPCG(seed, 0x1ea5e)); c.Nodes > 1 && l.IntN(2) == 0 {
		c.Leases = true
		c.Elections = c.Shared && c.Nodes > 2
		if c.Elections && l.IntN(4) == 0 {
			c.Preferred = name(l.IntN(c.Nodes))
		}
	}
	c.Events = draw(r, c, weights(r, c), 40+r.IntN(400))
	if c.Nodes > 2 && r.IntN(8) == 0 {
		c.harsh(r)
	}
	return c
}

// DrawHarsh makes a configuration of a seed in which the active is deposed again and again, while standbys still hear it and their disks are slow: what goes wrong
// between a promise and an append goes wrong here.
func DrawHarsh(seed uint64) Config {
	c := Draw(seed)
	r := rand.New(rand.NewPCG(seed, 0x4a))
	c.Nodes, c.K, c.Lagged = 3+r.IntN(2), 1+r.IntN(2), -1
	c.Elections, c.Preferred = c.Leases && c.Shared, ""
	c.harsh(r)
	return c
}

// DrawLeases makes a configuration of a seed in which actives are cut off and deposed while they have a lease, voters are restarted meanwhile, clients read all the time, and
// clocks drift as far as they may: what goes wrong with leases goes wrong here.
func DrawLeases(seed uint64) Config {
	c := Draw(seed)
	r := rand.New(rand.NewPCG(seed, 0x1ea))
	c.Nodes, c.K, c.Lagged, c.Shared, c.Shrink, c.Loss, c.Drift = 3+r.IntN(2), 1, -1, true, false, 0, 300
	c.Leases, c.Elections, c.Preferred = true, r.IntN(2) == 0, ""
	c.Slow, c.Pace, c.Length = false, Time(1000+r.IntN(1500))*us, 5*sc
	kinds := []Kind{Coup, Coup, Coup, Isolate, Resets, Resets, Crash, Promote, Twice, Switchover, CutStore}
	c.Events = draw(r, c, kinds, 30+r.IntN(100))
	return c
}

func (c *Config) harsh(r *rand.Rand) {
	c.Slow, c.Pace, c.Length = true, Time(300+r.IntN(1000))*us, 5*sc
	kinds := []Kind{Coup, Coup, Coup, Coup, Promote, Crash, CrashWrite, Isolate, Switchover}
	if c.Leases {
		kinds = append(kinds, Resets, Pause)
	}
	c.Events = draw(r, *c, kinds, 60+r.IntN(100))
}

// weights says how often each kind comes; the rare ones only in some seeds, so that most are held to the strictest rules.
func weights(r *rand.Rand, c Config) []Kind {
	var all []Kind
	add := func(n int, k Kind) {
		for range n {
			all = append(all, k)
		}
	}
	some := func(of, n int, k Kind) {
		if r.IntN(of) == 0 {
			add(n, k)
		}
	}
	add(8, Crash)
	some(2, 5, CrashWrite)
	some(3, 3, FailSync)
	some(2, 6, Pause)
	add(12, Promote)
	some(4, 2, Demote)
	some(3, 4, Trim)
	if c.Nodes > 1 {
		some(2, 8, Cut)
		some(2, 8, Isolate)
		some(3, 3, Noise)
		add(4, Twice)
		add(5, Switchover)
		add(4, Coup)
		some(6, 3, Rot)
		some(4, 3, Wipe)
		some(8, 2, Force)
		if r.IntN(10) == 0 {
			add(3, Copy)
			add(2, OldCopy)
		}
	}
	if c.Shared {
		some(3, 5, CutStore)
	}
	if c.Leases {
		add(4, Resets)
		some(2, 6, Isolate)
	}
	if c.Elections {
		some(2, 4, StoreDown)
		some(3, 3, Maintain)
	}
	return all
}

// draw makes events of the kinds, at a mean distance of pace ms.
func draw(r *rand.Rand, c Config, kinds []Kind, pace int) []Event {
	var out []Event
	for at := sc + Time(r.IntN(pace))*ms; at < c.Length; at += Time(1+r.IntN(2*pace)) * ms {
		e := Event{At: at + Time(r.IntN(1000)), Kind: kinds[r.IntN(len(kinds))], Node: r.IntN(c.Nodes)}
		e.Peer = (e.Node + 1 + r.IntN(max(1, c.Nodes-1))) % c.Nodes
		e.For = Time(20+r.IntN(1500)) * ms
		switch e.Kind {
		case CrashWrite:
			e.Arg = 1 + r.IntN(4)
		case Promote, Force:
			if r.IntN(6) == 0 || e.Kind == Force {
				e.Arg = 1 + r.IntN(c.K+1)
			}
		default:
			e.Arg = r.IntN(3)
		}
		out = append(out, e)
	}
	return out
}

// list writes events one a line.
func list(events []Event) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString("  " + e.String() + "\n")
	}
	return b.String()
}
