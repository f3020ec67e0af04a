package coresim

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"repld/test/invariant"
)

// Result is how a run ended.
type Result struct {
	Config Config
	Err    error    // the first violation
	Hash   uint64   // of everything that happened
	Trace  []string // the last lines, if they were asked for
	Stats  Stats
}

// healthyWithin is how long, after the last fault, a cluster may take to become healthy with a person's help (R12, R15). Several promotions with their
// bounds fit in.
const healthyWithin = 150 * sc

// Run runs a configuration. lines is how many lines of trace to keep, 0 for none, which is much faster.
func Run(c Config, lines int) Result {
	s := &Sim{c: c, rng: rand.New(rand.NewPCG(c.Seed, 0x51)), check: invariant.New(), trace: trace{on: lines > 0, limit: lines}}
	if c.Shared {
		s.store = &tokenStore{}
	}
	for i := range c.Nodes {
		s.addNode(i)
	}
	for _, n := range s.nodes {
		n.disk.epoch.lies = s.mutant(LyingSync)
		s.after(s.between(0, 5*ms), nil, n.start)
	}
	if c.Nodes > 1 {
		s.after(20*ms, nil, s.found)
	}
	s.startClients()
	for _, e := range c.Events {
		s.at(e.At, nil, func() { s.inject(e) })
	}
	s.run(c.Length, nil)
	s.heal()
	s.stats.Time = s.now
	return Result{Config: c, Err: s.check.Err(), Hash: s.trace.hash, Trace: s.trace.last(), Stats: s.stats}
}

// heal ends all faults and holds the liveness rule.
func (s *Sim) heal() {
	s.calm = true
	s.net = network{}
	s.note(nil, "calm")
	for _, n := range s.nodes {
		n.paused, n.failSync, n.disk.epoch.fuse, n.disk.epoch.blow = 0, false, 0, nil
		if n.proc == nil {
			s.after(s.between(0, 100*ms), nil, n.start)
		}
	}
	for _, n := range s.nodes {
		if p := n.proc; p != nil && p.voter != nil && n.disk.paused.On {
			s.after(0, p, func() { p.voter.maintain(false) })
		}
	}
	s.person.since, s.person.sick = s.now, s.now
	began := s.now
	s.attend()
	s.finalWrite()
	s.run(began+healthyWithin, func() bool { return s.clients.last && s.unhealthy() == "" })
	if why := s.unhealthy(); s.check.Err() == nil && (why != "" || !s.clients.last) {
		s.check.Fail("R12", "%d s after the last fault the cluster is not healthy: %s (last write acked: %v)", healthyWithin/sc, why, s.clients.last)
	}
	s.stats.Healed = s.now - began
}

// finalWrite goes on until a write is acked by an otherwise healthy cluster.
func (s *Sim) finalWrite() {
	if s.clients.last || s.check.Err() != nil {
		return
	}
	s.after(100*ms, nil, s.finalWrite)
	if s.unhealthy() != "" {
		return
	}
	s.write(s.open()[0], func(err error) { s.clients.last = s.clients.last || err == nil })
}

func (s *Sim) byName(name string) *node { return s.nodes[name[0]-'a'] }

// Report says everything about a failed run: the options, the command that replays it, the events, the last lines of its trace.
func (r Result) Report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n%v\n", r.Err, r.Config)
	fmt.Fprintf(&b, "replay: REPLD_SEED=%d go test ./test/coresim -run TestSeed -v\n", r.Config.Seed)
	fmt.Fprintf(&b, "events:\n%slast lines:\n", list(r.Config.Events))
	for _, l := range r.Trace {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}
