package history

import (
	"fmt"
	"sync"
)

// Ledger remembers keys that were each written once, and how that came out. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries []entry
	counts  [3]int
}

type entry struct {
	key     string
	outcome Outcome
	where   string // the node that answered
}

// Add notes that key was written with the value key, through node where.
func (l *Ledger) Add(key, where string, o Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{key, o, where})
	l.counts[o]++
}

// Count returns how many writes came out so.
func (l *Ledger) Count(o Outcome) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[o]
}

// Loss is what Check found. Lost and Ghosts name some of the keys.
type Loss struct {
	Acked, Unknown, Refused int
	Lost, Ghosts            []string // acked and not there; refused and there
	Survived                int      // of unknown outcome and there
}

// checkBatch is how many keys are read at once.
const checkBatch = 500

// Check reads every key, by read, which returns for each key its value or nil.
func (l *Ledger) Check(read func(keys []string) ([]any, error)) (Loss, error) {
	l.mu.Lock()
	all := l.entries
	loss := Loss{Acked: l.counts[OK], Unknown: l.counts[Unknown], Refused: l.counts[Refused]}
	l.mu.Unlock()
	for at := 0; at < len(all); at += checkBatch {
		batch := all[at:min(at+checkBatch, len(all))]
		keys := make([]string, len(batch))
		for i, e := range batch {
			keys[i] = e.key
		}
		values, err := read(keys)
		if err != nil {
			return loss, fmt.Errorf("read back %d keys from %s on: %w", len(keys), keys[0], err)
		}
		if len(values) != len(keys) {
			return loss, fmt.Errorf("read back %d keys, got %d values", len(keys), len(values))
		}
		for i, e := range batch {
			loss.judge(e, values[i])
		}
	}
	return loss, nil
}

func (x *Loss) judge(e entry, value any) {
	there := value == e.key
	switch {
	case value != nil && !there:
		x.Lost = append(x.Lost, fmt.Sprintf("%s (%s by %s) holds %v", e.key, e.outcome, e.where, value))
	case e.outcome == OK && !there:
		x.Lost = append(x.Lost, fmt.Sprintf("%s (acked by %s)", e.key, e.where))
	case e.outcome == Refused && there:
		x.Ghosts = append(x.Ghosts, fmt.Sprintf("%s (refused by %s)", e.key, e.where))
	case e.outcome == Unknown && there:
		x.Survived++
	}
}
