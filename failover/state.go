package failover

import (
	"fmt"
	"slices"

	"repld/wal"
)

// MaxTenures is how many tenures a node remembers. A node whose log is further behind than that cannot take part in
// a promotion without consent (Answer.Forgotten).
const MaxTenures = 32

// Tenure is one grant of an epoch: who may write in it and under which sync set. It is recorded when the epoch is
// granted, before its holder writes anything, so a tenure says "may have begun", not "has begun" (R6).
type Tenure struct {
	Epoch  wal.Epoch   `json:"epoch"`
	Holder string      `json:"holder"`
	Sync   wal.SyncSet `json:"sync"` // Version 0: the set is not known
}

// String returns the tenure as "epoch 5 held by b, sync 1 of [a c]".
func (t Tenure) String() string {
	return fmt.Sprintf("epoch %d held by %s, sync %s", t.Epoch, t.Holder, t.Sync)
}

// State is what a node has promised about epochs (R3). The zero State is that of a blank node.
type State struct {
	// Tenures in rising order of epoch; the last one is the epoch that this node obeys.
	Tenures []Tenure `json:"tenures,omitempty"`
	// Forgotten is the highest epoch whose tenure was dropped because there were more than MaxTenures, 0 for none.
	Forgotten wal.Epoch `json:"forgotten,omitempty"`
	// Voter: this node's log counts in promotions and its acks count in commits (R11).
	Voter bool `json:"voter"`
	// Generation counts the writes of this state, from 1.
	Generation uint64 `json:"generation"`
}

// Last returns the tenure that this node obeys; the zero Tenure on a blank node.
func (s State) Last() Tenure {
	if len(s.Tenures) == 0 {
		return Tenure{}
	}
	return s.Tenures[len(s.Tenures)-1]
}

// Epoch returns the highest epoch this node has promised to obey.
func (s State) Epoch() wal.Epoch { return s.Last().Epoch }

// Holder returns who holds that epoch, "" at epoch 0.
func (s State) Holder() string { return s.Last().Holder }

// Sync returns the sync set recorded for that epoch.
func (s State) Sync() wal.SyncSet { return s.Last().Sync }

// Answer starts an Answer of node from what is persisted; the caller adds role, position and incarnation.
func (s State) Answer(node string) Answer {
	return Answer{Node: node, Reachable: true, Epoch: s.Epoch(), Holder: s.Holder(), Sync: s.Sync(),
		Tenures: slices.Clone(s.Tenures), Forgotten: s.Forgotten, Voter: s.Voter}
}

// with returns a copy of s that obeys t, which must not be older than s.Last().
func (s State) with(t Tenure) State {
	t.Sync.Members = slices.Clone(t.Sync.Members)
	next := s
	next.Tenures = slices.Clone(s.Tenures)
	if n := len(next.Tenures); n > 0 && next.Tenures[n-1].Epoch == t.Epoch {
		next.Tenures[n-1] = t
		return next
	}
	next.Tenures = append(next.Tenures, t)
	if extra := len(next.Tenures) - MaxTenures; extra > 0 {
		next.Forgotten = next.Tenures[extra-1].Epoch
		next.Tenures = slices.Delete(next.Tenures, 0, extra)
	}
	return next
}

// validate holds the invariants that a decoded state must have before anything relies on it.
func (s State) validate() error {
	if len(s.Tenures) > MaxTenures {
		return fmt.Errorf("%d tenures, at most %d", len(s.Tenures), MaxTenures)
	}
	last := s.Forgotten
	for _, t := range s.Tenures {
		if t.Epoch <= last || t.Holder == "" {
			return fmt.Errorf("tenure of epoch %d by %q after epoch %d", t.Epoch, t.Holder, last)
		}
		if t.Sync.K < 0 || t.Sync.K > len(t.Sync.Members) {
			return fmt.Errorf("epoch %d: sync set %s", t.Epoch, t.Sync)
		}
		last = t.Epoch
	}
	return nil
}
