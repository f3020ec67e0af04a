package failover

import (
	"context"
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
	// Watch blocks until the revision is above after, and returns the newest record.
	Watch(ctx context.Context, after uint64) (Record, error)
	// Shared reports whether all nodes of the cluster see the same token here.
	Shared() bool
}
