package coresim

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// leases are the mutants that only lives with leases catch.
var leases = []Mutant{NoLease, NoOutlast, ResetIsProof, VoteForAll}

// enough is how many seeds may pass before a mutant has to be caught.
const enough = 6000

// known are seeds that catch the mutants which most seeds miss; they are tried first, to save time. When a change of the simulation makes one of them miss, the search
// below finds another and says which.
var known = map[Mutant]uint64{
	CommitOn: 2424, IgnoreEpoch: 1225, KeepWipedAcks: 1776, CountNonVoter: 364, SettleUnrecorded: 202, ResetIsProof: 316,
}

// Each rule, broken on purpose, is found out: else the simulation shows nothing. With NIGHTLY=1 the known seeds are not used.
func TestMutantsAreCaught(t *testing.T) {
	for _, m := range Mutants() {
		t.Run(strings.ReplaceAll(string(m), " ", "-"), func(t *testing.T) {
			t.Parallel()
			if seed, ok := known[m]; ok && os.Getenv("NIGHTLY") == "" {
				if r := mutated(m, seed); r.Err != nil {
					t.Logf("seed %d: %v", seed, r.Err)
					return
				}
				t.Logf("seed %d does not catch it any more: put the one that follows into known", seed)
			}
			for seed := range uint64(enough) {
				if r := mutated(m, seed); r.Err != nil {
					t.Logf("seed %d: %v", seed, r.Err)
					return
				}
			}
			t.Errorf("not found out in %d seeds", enough)
		})
	}
}

// A run that failed is shrunk to few events that fail by the same rule, and the trace is short enough to read.
func TestShrink(t *testing.T) {
	r := mutated(CutUnsaved, 4)
	for seed := uint64(0); r.Err == nil && seed < enough; seed++ {
		r = mutated(CutUnsaved, seed)
	}
	if r.Err == nil {
		t.Fatal("no seed fails")
	}
	small := Shrink(r, 60, 40)
	t.Logf("%d events became %d:\n%s", len(r.Config.Events), len(small.Config.Events), small.Report())
	if small.Err == nil || rule(small.Err) != rule(r.Err) {
		t.Errorf("%v became %v", r.Err, small.Err)
	}
	if n := len(small.Config.Events); n > len(r.Config.Events)/2 || len(small.Trace) > 40 {
		t.Errorf("%d events became %d, with %d lines of trace", len(r.Config.Events), n, len(small.Trace))
	}
}

func mutated(m Mutant, seed uint64) Result {
	c := Draw(seed)
	if seed%2 == 1 {
		c = DrawHarsh(seed)
	}
	if slices.Contains(leases, m) {
		c = DrawLeases(seed)
	}
	if m == ForgetPromise { // nothing else restarts voters at the right moment often enough
		c = forgotten(seed)
	}
	c.Mutant = m
	return Run(c, 0)
}

// R2, R11: an empty node that is started while an active which has lost its epoch without knowing is the only one it meets, helps that one to commit: it has forgotten what it
// promised to the new active. No node can tell; a person can, by looking first whether the others are up and agree. This test holds that the simulation sees the danger, and
// that the care which all other lives take is enough.
func TestCareless(t *testing.T) {
	c := Config{
		Seed: 1, Nodes: 3, K: 1, Lagged: -1, Pace: 20 * ms, Patience: 4, Length: 8 * sc,
		Events: []Event{
			{At: 1000 * ms, Kind: Isolate, Node: 0, Peer: 1, For: 1500 * ms},
			{At: 1050 * ms, Kind: Promote, Node: 1, Peer: 0}, // epoch 2, granted by c
			{At: 2400 * ms, Kind: Cut, Node: 1, Peer: 2, For: 3 * sc, Arg: 1},
			{At: 2400 * ms, Kind: Cut, Node: 1, Peer: 0, For: 3 * sc, Arg: 1},
			{At: 2410 * ms, Kind: Wipe, Node: 2, Peer: 0, For: 100 * ms}, // meets a, who is active in epoch 1 still
		},
	}
	for _, shared := range []bool{false, true} {
		for _, careless := range []bool{true, false} {
			c.Shared, c.Careless = shared, careless
			r := Run(c, 300)
			if found := r.Err != nil && rule(r.Err) == "R11"; found != careless || r.Err != nil && !found {
				t.Errorf("shared token %v, careless %v: %v\n%s", shared, careless, r.Err, r.Report())
			}
		}
	}
}
