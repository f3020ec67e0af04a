package failover

import (
	"errors"
	"fmt"

	"repld/wal"
)

var (
	// ErrConflict: another node holds this epoch, or the token changed since it was read.
	ErrConflict = errors.New("conflict")
	// ErrStaleEpoch: the epoch is lower than one this node has promised to obey. See StaleEpochError.
	ErrStaleEpoch = errors.New("stale epoch")
	// ErrCorrupt: a persisted state or token record does not match its checksum. See CorruptError.
	ErrCorrupt = errors.New("corrupt")
	// ErrVersion: a file was written in a format that this program does not know.
	ErrVersion = errors.New("unknown format version")
	// ErrMissing: the epoch file is absent although the caller says that this node has lived before.
	ErrMissing = errors.New("epoch file missing")
	// ErrFailed: an earlier write or sync failed; what is on disk is unknown, so nothing more is promised (R10).
	ErrFailed = errors.New("storage failed")
	// ErrInvalid: an argument that no correct caller passes.
	ErrInvalid = errors.New("invalid")
	// ErrRefused: the promotion rule (R5) is not met. See RefusedError.
	ErrRefused = errors.New("promotion refused")
	// ErrBusy: another promotion, demotion or switchover is under way.
	ErrBusy = errors.New("busy")
	// ErrNotActive: the request is for the active, and this node is not.
	ErrNotActive = errors.New("not active")
	// ErrFenced: this node lost its epoch, or failed, before the request was done.
	ErrFenced = errors.New("fenced")
	// ErrTimeout: a step did not end, or did not progress, within its bound (R12).
	ErrTimeout = errors.New("timed out")
	// ErrClosed: the runner or store was closed.
	ErrClosed = errors.New("closed")
)

// StaleEpochError refuses an epoch that is lower than one this node has persisted (R3). It tells the sender the
// newer epoch and who holds it. errors.Is ErrStaleEpoch.
type StaleEpochError struct {
	Seen   wal.Epoch // the epoch refused
	Epoch  wal.Epoch // the epoch this node obeys
	Holder string    // who holds Epoch
}

// Error says both epochs.
func (e *StaleEpochError) Error() string {
	return fmt.Sprintf("stale epoch %d: epoch %d is held by %s", e.Seen, e.Epoch, e.Holder)
}

// Is reports whether target is ErrStaleEpoch.
func (e *StaleEpochError) Is(target error) bool { return target == ErrStaleEpoch }

// ConflictError refuses a second holder of one epoch (R2). errors.Is ErrConflict.
type ConflictError struct {
	Epoch  wal.Epoch
	Holder string // who holds Epoch as far as this node promised
	Other  string // who was refused
}

// Error names both.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("epoch %d is held by %s, not by %s", e.Epoch, e.Holder, e.Other)
}

// Is reports whether target is ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// CorruptError names the file and offset that could not be trusted. errors.Is ErrCorrupt.
type CorruptError struct {
	File   string
	Offset int64 // bytes
	Reason string
}

// Error says where and what.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s at offset %d: corrupt: %s", e.File, e.Offset, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// RefusedError carries the plan that was refused, so that a caller can print who was needed. errors.Is ErrRefused.
type RefusedError struct {
	Plan  Plan
	Phase string // "survey": nothing was changed anywhere; "fence": the epoch is used up
}

// Error says the reasons in one line.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("promotion refused after the %s: %s", e.Phase, e.Plan.why())
}

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }
