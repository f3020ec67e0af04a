package failover

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"repld/wal"
)

// Record is the content of the token: who holds which epoch. Rev counts its changes, from 1; the zero Record
// (Rev 0) is that of a group that never had an active.
type Record struct {
	Epoch  wal.Epoch   `json:"epoch"`
	Holder string      `json:"holder"`
	Sync   wal.SyncSet `json:"sync"`
	Reason string      `json:"reason"`
	Time   time.Time   `json:"time"`
	Rev    uint64      `json:"rev"`
	// History are the tenures before Epoch, rising, at most MaxTenures: a promotion that was cut off after it took the token must
	// not hide from the next one under which sets older writes were acked (R6). Forgotten is the highest epoch left out.
	History   []Tenure  `json:"history,omitempty"`
	Forgotten wal.Epoch `json:"forgotten,omitempty"`
}

// Store is where the token lives. Implementations are safe for concurrent use, and behave the same whether the
// callers share a Store or open the same place several times; tokentest.Run checks that.
type Store interface {
	// Load returns the current record, the zero Record if there is none yet.
	Load(ctx context.Context) (Record, error)
	// CompareAndSet replaces the record whose revision is rev by next, durably, and returns it with its new Rev.
	// When the current revision is another one, or next would lower the epoch or give it to a second holder, it
	// returns the current record and an error that is ErrConflict. On any other error the outcome is unknown.
	CompareAndSet(ctx context.Context, rev uint64, next Record) (Record, error)
	// Watch blocks until the revision is above after, and returns the newest record known here, which a Load may be ahead of
	// for a moment.
	Watch(ctx context.Context, after uint64) (Record, error)
	// Shared reports whether all nodes of the cluster see the same token here.
	Shared() bool
}

// Advance is the rule of CompareAndSet, which every Store applies where the record is changed: the revision is the one that was read,
// epochs only rise, one epoch has one holder, and no tenure is forgotten by a caller who does not know it. It returns
// next as it is to be stored, or ErrConflict or ErrInvalid.
func Advance(cur Record, rev uint64, next Record) (Record, error) {
	switch {
	case cur.Rev != rev:
		return Record{}, fmt.Errorf("token: %w: revision is %d, not %d", ErrConflict, cur.Rev, rev)
	case next.Epoch < cur.Epoch:
		return Record{}, fmt.Errorf("token: %w: epoch %d is below %d", ErrConflict, next.Epoch, cur.Epoch)
	case next.Epoch == cur.Epoch && next.Holder != cur.Holder:
		return Record{}, fmt.Errorf("token: %w", &ConflictError{Epoch: cur.Epoch, Holder: cur.Holder, Other: next.Holder})
	case next.Epoch == 0 || next.Holder == "":
		return Record{}, fmt.Errorf("token: %w: epoch %d held by %q", ErrInvalid, next.Epoch, next.Holder)
	}
	next.Rev = rev + 1
	next.History, next.Forgotten = mergeHistory(cur, next)
	return next, nil
}

// mergeHistory unites both histories with cur's own tenure, below next's epoch: the newest set of each epoch and holder, rising.
func mergeHistory(cur, next Record) ([]Tenure, wal.Epoch) {
	all := slices.Concat(next.History, cur.History, []Tenure{{Epoch: cur.Epoch, Holder: cur.Holder, Sync: cur.Sync}})
	all = slices.DeleteFunc(all, func(t Tenure) bool { return t.Epoch == 0 || t.Epoch >= next.Epoch })
	slices.SortStableFunc(all, func(a, b Tenure) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Holder, b.Holder), cmp.Compare(b.Sync.Version, a.Sync.Version))
	})
	all = slices.CompactFunc(all, func(a, b Tenure) bool { return a.Epoch == b.Epoch && a.Holder == b.Holder })
	forgotten := max(cur.Forgotten, next.Forgotten)
	if extra := len(all) - MaxTenures; extra > 0 {
		forgotten = max(forgotten, all[extra-1].Epoch)
		all = slices.Delete(all, 0, extra)
	}
	return all, forgotten
}
