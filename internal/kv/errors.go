package kv

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"repld/wal"
)

var (
	// ErrCorrupt is in every error that tells of damaged files or of rows that contradict each other. The state must be
	// built anew: from a peer's snapshot, or from the log.
	ErrCorrupt = errors.New("state is damaged")
	// ErrVersion is in errors about rows of a format that this version does not know.
	ErrVersion = errors.New("unknown state format")
	// ErrBadEffects is in errors about a record whose payload is not an effects payload that this version writes.
	ErrBadEffects = errors.New("malformed effects")
	// ErrGap means that a frame does not follow the applied position; nothing of it was applied.
	ErrGap = errors.New("frame does not follow the applied position")
	// ErrDiverged means that a frame's history is not the applied one: equal LSNs, different chain hashes.
	ErrDiverged = errors.New("frame is of another history than the applied one")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("state is closed")
	// ErrFailed is in errors after OnFatal: the state accepts nothing more until it is opened again (R10).
	ErrFailed = errors.New("state has failed")
	// ErrStalled is in errors of calls into Pebble that outlast Options.StallLimit.
	ErrStalled = errors.New("state is stalled")
	// ErrBusy means that Close gave up waiting for readers.
	ErrBusy = errors.New("state is still in use")
	// ErrInUse means that another process, or another Store, has the directory open.
	ErrInUse = errors.New("state directory is in use")
	// ErrNotExist means that the directory holds no state.
	ErrNotExist = errors.New("no state")
	// ErrTooLarge is in errors about keys and values above MaxKeyBytes and MaxValueBytes.
	ErrTooLarge = errors.New("too large")
)

// SequenceError tells which frame did not fit where. It is ErrGap or ErrDiverged.
type SequenceError struct {
	Applied wal.Position // where the state is
	First   wal.LSN      // first LSN of the frame
	Prev    wal.Hash     // the chain hash that the frame continues
	Kind    error        // ErrGap or ErrDiverged
}

// Error implements error.
func (e *SequenceError) Error() string {
	return fmt.Sprintf("%v: applied %s, frame from lsn %d after hash %s", e.Kind, e.Applied, e.First, e.Prev)
}

// Unwrap returns ErrGap or ErrDiverged.
func (e *SequenceError) Unwrap() error { return e.Kind }

// readError wraps an error of Pebble's so that damage is recognised as ErrCorrupt.
func readError(what string, err error) error {
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s: %w: %w", what, ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
