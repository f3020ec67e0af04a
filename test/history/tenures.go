package history

import (
	"fmt"
	"slices"
	"sync"

	"repld/wal"
)

// Tenures holds that no two actives committed in overlapping time (R2), from the outside: every write that was acked lies, in the log, in an epoch of the node that acked it, and
// there are moments, one for each acked write between its call and its answer, at which all of an older epoch come before all of a newer one. It is safe for concurrent use.
type Tenures struct {
	mu  sync.Mutex
	all []acked
}

// acked is a write of a key that nobody else writes, as its client saw it.
type acked struct {
	key, where   string
	call, answer int64
}

// Add notes that where acked a write of key, between call and answer of one clock.
func (t *Tenures) Add(key, where string, call, answer int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, acked{key, where, call, answer})
}

// TenuresResult is what Check found.
type TenuresResult struct {
	Placed int // acked writes that were found in the log
	Before int // written before the beginning of the log: not judged
	Epochs int // in which they lie
	Bad    []string
}

// tenure is what clients saw of one epoch: the last call and the first answer of writes that it acked.
type tenure struct {
	epoch                 wal.Epoch
	lastCall, firstAnswer acked
}

// Check places all writes, and the transactions that have a record, in the log.
func (t *Tenures) Check(l *Log, txs []*Tx) TenuresResult {
	t.mu.Lock()
	all := slices.Clone(t.all)
	t.mu.Unlock()
	at := map[string]wal.LSN{}
	for _, r := range l.Records {
		for _, e := range r.Effects {
			if e.Set {
				at[e.Key] = r.LSN
			}
		}
	}
	var res TenuresResult
	by := map[wal.Epoch]*tenure{}
	for _, w := range all {
		res.place(l, by, w, at[w.key])
	}
	for _, x := range txs {
		if x.Outcome == OK && x.Own {
			res.place(l, by, acked{x.Token, x.Where, x.Call, x.Return}, x.LSN)
		}
	}
	res.Epochs = len(by)
	res.overlaps(by)
	return res
}

// place notes a write in the tenure of its epoch. One that is nowhere is lost, or older than the log: other checks tell which.
func (r *TenuresResult) place(l *Log, by map[wal.Epoch]*tenure, w acked, lsn wal.LSN) {
	e := l.EpochOf(lsn)
	if e == 0 {
		r.Before++
		return
	}
	r.Placed++
	if holder, known := l.Holders[e]; known && holder != w.where {
		r.bad("%s was acked by %s and is at LSN %d, in epoch %d of %s (R2)", w.key, w.where, lsn, e, holder)
	}
	x := by[e]
	if x == nil {
		by[e] = &tenure{epoch: e, lastCall: w, firstAnswer: w}
		return
	}
	if w.call > x.lastCall.call {
		x.lastCall = w
	}
	if w.answer < x.firstAnswer.answer {
		x.firstAnswer = w
	}
}

// overlaps looks for a write that was begun after one of a newer epoch had been acked, and was acked in an older one.
func (r *TenuresResult) overlaps(by map[wal.Epoch]*tenure) {
	var all []*tenure
	for _, x := range by {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *tenure) int { return int(a.epoch) - int(b.epoch) })
	var last *tenure // the one of the older epochs whose last call is the latest
	for _, x := range all {
		if last != nil && last.lastCall.call > x.firstAnswer.answer {
			r.bad("%s was begun and acked by %s in epoch %d after %s had acked %s in epoch %d: two actives at a time (R2)",
				last.lastCall.key, last.lastCall.where, last.epoch, x.firstAnswer.where, x.firstAnswer.key, x.epoch)
		}
		if last == nil || x.lastCall.call > last.lastCall.call {
			last = x
		}
	}
}

func (r *TenuresResult) bad(format string, args ...any) {
	if len(r.Bad) < maxBad {
		r.Bad = append(r.Bad, fmt.Sprintf(format, args...))
	}
}
