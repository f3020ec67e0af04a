package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"repld/wal"
)

// Config is everything that a life is told beforehand.
type Config struct {
	Seed      uint64
	Nodes     int
	K         int           // acks that a commit needs
	Shared    bool          // one token store for all nodes
	Raft      bool          // and that is the raft log of the nodes themselves
	Witness   bool          // a node without data votes, too
	Scrub     bool          // log and state are read through every few seconds
	Auto      bool          // nodes promote themselves; a person only looks on
	Drift     int           // clocks of leases run by up to so much too fast or too slow, in 1000
	Shrink    bool          // the sync set is made smaller when members do not ack
	Lagged    int           // node that applies late, -1 none
	Lag       time.Duration // of that node
	Segment   int64         // bytes of a log segment
	Retain    int64         // log budget, bytes
	MemTable  int64         // of the state, bytes
	Memory    int64         // of the log in memory, bytes; a standby that is farther behind is served from disk
	Codec     wal.Codec
	Heartbeat time.Duration // on log streams; the exchange of epochs comes every second one
	Delay     time.Duration // of each link, one way
	Jitter    time.Duration
	Slow      time.Duration // a sync of the log takes up to so long, 0 = no time
	Writers   int
	Pace      time.Duration // between the writes of one writer, on average
	Burst     int           // commands that a writer sends at once, on average
	Value     int           // bytes of a value, at most
	Length    time.Duration // of the phase with faults
	Events    []Event
}

// String is the option set in one line.
func (c Config) String() string {
	return fmt.Sprintf("seed %d: %d nodes, k %d, shared token %v, raft %v, witness %v, scrub %v, automatic %v, drift %d/1000, shrink %v, lagged %d by %v, segments of %d, retain %d, memtable %d, log in memory %d, codec %v, heartbeat %v, delay %v+%v, "+
		"sync up to %v, %d writers every %v %d at once, values up to %d bytes, %v with %d events",
		c.Seed, c.Nodes, c.K, c.Shared, c.Raft, c.Witness, c.Scrub, c.Auto, c.Drift, c.Shrink, c.Lagged, c.Lag, c.Segment, c.Retain, c.MemTable, c.Memory, c.Codec, c.Heartbeat, c.Delay, c.Jitter,
		c.Slow, c.Writers, c.Pace, c.Burst, c.Value, c.Length, len(c.Events))
}

// Kind is what an Event does.
type Kind string

// Faults, and what persons do.
const (
	Crash      Kind = "crash"       // node loses power; what was not synced is lost by chance; it is started again after For
	Blackout   Kind = "blackout"    // all nodes lose power at once
	Kill       Kind = "kill"        // the process ends, the disk keeps everything
	Stop       Kind = "stop"        // a clean stop, and a start after For
	Cut        Kind = "cut"         // nothing arrives at node from peer for For; Arg 1: nor at peer from node
	Isolate    Kind = "isolate"     // node is cut off from all others for For; Arg 1: from the shared token store as well
	Deaf       Kind = "deaf"        // node hears nobody for For and is heard
	CutStore   Kind = "cut-store"   // node does not reach the shared token store for For
	Reset      Kind = "reset"       // all connections of node break
	Noise      Kind = "noise"       // for For, everything to and from node is late by chance, and now and then a connection breaks
	SlowSync   Kind = "slow-sync"   // for For, syncs of node's log take up to 2 s
	Freeze     Kind = "freeze"      // for For, nothing leaves or reaches node, and its disk is slow
	FailSync   Kind = "fail-sync"   // a sync of node's log fails and forgets what was written (R10); node is started again after For
	FailWrite  Kind = "fail-write"  // a write to node's log is done in part and fails
	FailEpoch  Kind = "fail-epoch"  // a write or sync of node's epoch file fails
	Stick      Kind = "stick"       // syncs of node's log do not return for For
	Fill       Kind = "fill"        // for For, node's disk has no room
	Rot        Kind = "rot"         // a bit of node's log or state goes wrong: while it is down for For, Arg 1 and 2: while it runs
	Wipe       Kind = "wipe"        // the disk of node is lost (R11), if the others can do without
	Promote    Kind = "promote"     // a person promotes node
	Twice      Kind = "promote-two" // node and peer at once
	Force      Kind = "force"       // with consent to data loss
	Coup       Kind = "coup"        // the active is cut off from all others for For, and node is promoted
	Switchover Kind = "switchover"  // from whoever is active to node
	Demote     Kind = "demote"      // whoever is active
	NoWitness  Kind = "no-witness"  // the witness loses power, and is started again after For
	CutWitness Kind = "cut-witness" // nothing arrives at the witness for For; Arg 1: nor from it
	Pause      Kind = "pause"       // a person at node pauses automatic failover, for For
)

// fault reports whether the kind is a fault and not a person's word.
func (k Kind) fault() bool {
	switch k {
	case Promote, Twice, Force, Switchover, Demote, Pause:
		return false
	}
	return true
}

// Event is one fault or one word of a person. Each stands for itself, so that any subset of them is a valid life.
type Event struct {
	At   time.Duration
	Kind Kind
	Node int
	Peer int
	For  time.Duration
	Arg  int
}

// String is the event in a few words.
func (e Event) String() string {
	return fmt.Sprintf("%8.3f s %s node %s peer %s for %v arg %d", e.At.Seconds(), e.Kind, name(e.Node), name(e.Peer), e.For, e.Arg)
}

func name(i int) string { return string(rune('a' + i)) }

// Draw makes the configuration of a seed: its own sizes, policies and mix of faults (swarm testing).
func Draw(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 0x51a))
	c := Config{
		Seed: seed, Nodes: []int{3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 4, 1}[r.IntN(12)], Shared: r.IntN(2) == 0, Lagged: -1,
		Segment: 8 << 10 << r.IntN(3), MemTable: 64 << 10 << r.IntN(3), Codec: []wal.Codec{wal.CodecS2, wal.CodecS2, wal.CodecNone}[r.IntN(3)],
		Heartbeat: []time.Duration{400, 800, 800, 1600}[r.IntN(4)] * time.Millisecond, Delay: time.Duration(100+r.IntN(3000)) * time.Microsecond,
		Writers: 2 + r.IntN(4), Value: 20 << r.IntN(5), Length: time.Duration(30+r.IntN(60)) * time.Second,
	}
	c.Memory = []int64{4 << 10, 64 << 10, 1 << 20}[r.IntN(3)]
	c.Retain = c.Segment * int64(3+r.IntN(6))
	c.Burst = []int{1, 4, 8, 16, 16, 32}[r.IntN(6)]
	c.Pace = time.Duration(c.Writers*c.Burst) * 10 * time.Millisecond // about 50 writes/s, reads, refusals and outages included
	c.K = min(1+r.IntN(2), c.Nodes-1)
	if r.IntN(6) == 0 {
		c.K = 0
	}
	if r.IntN(2) == 0 {
		c.Jitter = time.Duration(r.IntN(4000)) * time.Microsecond
	}
	if r.IntN(3) == 0 {
		c.Slow = time.Duration(1+r.IntN(20)) * time.Millisecond
	}
	c.Auto = c.Shared && c.Nodes > 2 && r.IntN(3) > 0
	if r.IntN(2) == 0 {
		c.Drift = r.IntN(40) // a lease gives away a tenth for it
	}
	c.Shrink = c.Shared && r.IntN(3) == 0
	if r.IntN(3) == 0 {
		c.Lagged, c.Lag = r.IntN(c.Nodes), time.Duration(1+r.IntN(8))*time.Second
	}
	c.Raft = c.Shared && c.Nodes > 2 && r.IntN(3) == 0
	c.Scrub = r.IntN(4) == 0
	if c.Nodes == 2 && r.IntN(3) > 0 { // the two, and a witness: the smallest cluster that can elect
		c.Witness, c.Shared, c.Auto, c.Raft = true, true, r.IntN(4) > 0, r.IntN(3) > 0
	}
	kinds := weights(r, c)
	calm := 18000 + r.IntN(16000) // ms from storm to storm, on average
	for at := 2 * time.Second; at < c.Length; at += time.Duration(1+r.IntN(2*calm)) * time.Millisecond {
		c.Events = append(c.Events, storm(r, c, kinds, at)...)
	}
	slices.SortStableFunc(c.Events, func(a, b Event) int { return int(a.At - b.At) })
	return c
}

// storm is some events close together, most of which last, so that several kinds of faults are there at once; then the cluster may go on for a while.
func storm(r *rand.Rand, c Config, kinds []Kind, at time.Duration) (all []Event) {
	for range 2 + r.IntN(9) {
		e := Event{At: at, Kind: kinds[r.IntN(len(kinds))], Node: r.IntN(c.Nodes), Arg: r.IntN(3)}
		e.Peer = (e.Node + 1 + r.IntN(max(1, c.Nodes-1))) % c.Nodes
		e.For = time.Duration(50+r.IntN(6000)) * time.Millisecond
		if r.IntN(6) == 0 {
			e.For *= 2
		}
		all = append(all, e)
		at += time.Duration(r.IntN(500)) * time.Millisecond
	}
	return all
}

// weights says how often each kind comes; some come only in some seeds.
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
	add(5, Crash)
	add(3, Promote)
	some(2, 3, Kill)
	some(2, 2, Stop)
	some(3, 1, Blackout)
	some(2, 6, SlowSync)
	some(2, 3, FailSync)
	some(3, 2, FailWrite)
	some(4, 2, FailEpoch)
	some(4, 1, Demote)
	some(3, 2, Stick)
	some(3, 2, Fill)
	if c.Nodes > 1 {
		add(6, Noise)
		some(2, 8, Cut)
		some(2, 5, Isolate)
		some(2, 4, Deaf)
		some(2, 8, Reset)
		some(2, 6, Freeze)
		add(2, Twice)
		add(3, Switchover)
		add(3, Coup)
		some(4, 2, Wipe)
		some(3, 3, Rot)
		some(10, 1, Force)
	}
	if c.Auto {
		some(3, 2, Pause)
	}
	if c.Witness {
		add(3, NoWitness)
		add(3, CutWitness)
	}
	if c.Shared && !c.Raft {
		some(3, 5, CutStore)
	}
	return all
}

// list writes events one a line.
func list(events []Event) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString("  " + e.String() + "\n")
	}
	return b.String()
}

// drift is how fast the clock of a node runs.
func (c Config) drift(node int) float64 {
	if c.Drift == 0 {
		return 1
	}
	r := rand.New(rand.NewPCG(c.Seed, uint64(0xd1+node)))
	return 1 + float64(r.IntN(2*c.Drift+1)-c.Drift)/1000
}
