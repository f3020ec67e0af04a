package server

import (
	"context"
	"time"

	"repld/internal/kv"
	"repld/wal"
)

// Backend is what sessions need of a group. internal/node implements it; all methods may be called by many sessions at
// the same time.
type Backend interface {
	// View returns committed and applied state for reading, or an *Error (LOADING, MASTERDOWN …) when reads may not be
	// served here. The caller closes it.
	View(now time.Time) (View, error)

	// Submit evaluates fn under the sequencer lock on the calling goroutine and returns; fn must not block, and it
	// never panics and returns only errors that concern the whole submission. done is called exactly once, in LSN order,
	// from another goroutine, or from Submit itself when the submission is refused before fn ran:
	//
	//	nil          everything that fn saw and wrote is committed and applied; lsn is the last one that it depends on
	//	*Error       refused: fn did not run, or nothing of it reached the log
	//	anything else, ErrUnknown usually: the outcome is unknown (R13)
	//
	// Nothing else is ever waited for, so done must come within a bound (R12). done does not block.
	Submit(ctx context.Context, fn func(seq Sequence) error, done func(lsn wal.LSN, err error))

	// Release is asked right before the replies of a submission that succeeded go out. It returns false when this process stood still
	// in between and another node was promoted meanwhile: then the outcome is unknown to the client as well (R2, R13).
	Release() bool

	// Ready is a guess, and cheap: whether View, Submit and Release would answer now without waiting, for a lease or for room, say.
	Ready() bool

	// Unwatch forgets what w watches. It does not take the sequencer lock.
	Unwatch(w *Watcher)

	// WaitAcked waits until so many standbys hold lsn durably or ctx ends, and returns how many do (WAIT).
	WaitAcked(ctx context.Context, lsn wal.LSN, standbys int) int

	// Status is a picture of the group for ROLE, INFO, HELLO and READONLY answers. It must be cheap and must not take the
	// sequencer lock.
	Status() Status

	// Switchover hands the group over to the named standby, "" for the best one, and returns when that is done (FAILOVER).
	Switchover(ctx context.Context, to string) error
}

// View is a kv.View of committed state that the reader closes.
type View interface {
	kv.View
	// Pin makes all following reads see one state: needed by commands and transactions that read several keys.
	Pin() error
	// Close gives the view back.
	Close() error
}

// Sequence is what an evaluation writes with; it is valid only inside the fn of one Submit, under the sequencer lock.
type Sequence interface {
	// Record evaluates fn as one atomic write and appends its effects as one record. Without effects nothing is
	// appended. An error from fn aborts the effects and is returned as it is; an error of the log is returned too, and
	// then nothing of this record reached it.
	Record(now time.Time, fn func(t *kv.Txn) error) error
	// Watch makes w dirty when one of keys is touched by an evaluation from now on. keys are copied.
	Watch(keys [][]byte, w *Watcher)
}

// Role is what the node is in the group.
type Role string

// Roles as Status tells them.
const (
	RoleActive  Role = "active"
	RoleStandby Role = "standby"
	RoleWitness Role = "witness"
)

// LinkState is how far a standby's log stream is.
type LinkState string

// Link states, named as ROLE answers them.
const (
	LinkConnect    LinkState = "connect"    // not yet tried or between two tries
	LinkConnecting LinkState = "connecting" // handshake
	LinkSync       LinkState = "sync"       // receives a snapshot
	LinkConnected  LinkState = "connected"  // follows the log
)

// Status is a picture of a group as one node sees it.
type Status struct {
	Cluster, Group, Node string
	Incarnation          string
	Version              string // of repld
	Role                 Role
	Mode                 string // "hot" or "lagged", for a standby
	Epoch                wal.Epoch
	Active               string // name of the active, "" if unknown
	ActiveHost           string // where clients reach it, "" if unknown
	ActivePort           int
	Loading              bool // recovering: not yet able to serve
	Durable              wal.LSN
	Committed            wal.LSN
	Applied              wal.LSN
	Sync                 wal.SyncSet

	// Standby only.
	Link          LinkState
	LinkSince     time.Time // when Link last changed
	LastHeard     time.Time // last frame or heartbeat of the active; zero if never
	ReadsAllowed  bool
	SwitchingOver bool

	// Active only.
	Standbys []StandbyStatus

	// What the state takes on disk and in memory, bytes; 0 if unknown.
	DiskBytes, MemoryBytes int64
	LogBytes               int64
	ExpiredKeys            uint64 // deleted by expiry since start

	// Phases are the parts of a write's way and how long they take, in their order; may be nil.
	Phases func() []Phase
}

// Phase is what a part of a write's way took since the node started.
type Phase struct {
	Name     string
	Count    uint64        // how often it was measured
	Sum      time.Duration // of all
	P50, P99 time.Duration
}

// StandbyStatus is one standby as the active sees it.
type StandbyStatus struct {
	Name    string
	Host    string // where clients reach it
	Port    int
	State   LinkState
	Durable wal.LSN
	Applied wal.LSN
	LastAck time.Time
}
