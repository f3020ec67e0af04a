package server

import (
	"errors"
	"fmt"

	"repld/wal"
)

// ErrUnknown tells done that a submission may or may not survive (R13).
var ErrUnknown = errors.New("the outcome of this write is unknown")

// ErrClosed is returned by Serve after Shutdown or Close.
var ErrClosed = errors.New("server closed")

// Error is an answer that begins with a code that clients know, such as READONLY or LOADING.
type Error struct {
	Code    string // upper-case, without '-'
	Message string // one line
}

// Error returns the answer as it goes over the wire, without '-' and line end.
func (e *Error) Error() string { return e.Code + " " + e.Message }

// Errorf makes an Error.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ReadOnly refuses a write on a node that is not the active. It begins as Redis' own text does, because clients look for
// that, and names the epoch and the active, "" if unknown.
func ReadOnly(epoch wal.Epoch, active string) *Error {
	if active == "" {
		return Errorf("READONLY", "You can't write against a read only replica. (epoch %d, the active is not known)", epoch)
	}
	return Errorf("READONLY", "You can't write against a read only replica. (epoch %d, active %s)", epoch, active)
}

// Loading refuses everything that needs state while the node recovers.
func Loading() *Error { return Errorf("LOADING", "Redis is loading the dataset in memory") }

// MasterDown refuses a read on a standby that may not serve stale state.
func MasterDown() *Error {
	return Errorf("MASTERDOWN", "Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
}

// NoReplicas refuses a write, of which nothing was applied, because too few standbys are there.
func NoReplicas() *Error { return Errorf("NOREPLICAS", "Not enough good replicas to write.") }
