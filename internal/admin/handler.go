package admin

import (
	"context"

	"repld/wal"
)

// Handler does the work of the admin API. A node implements it. Each method may return an *Error to choose the code that the caller sees;
// any other error becomes CodeFailed. emit may be called from one goroutine only, and not after the method returned.
type Handler interface {
	// Status describes the cluster; with local set only this node, without asking peers.
	Status(ctx context.Context, local bool) (ClusterStatus, error)
	// Promote makes a node the active (R5) or says with Plan what would happen. A refusal returns the result with its reasons and an *Error of CodeRefused.
	Promote(ctx context.Context, req PromoteRequest, emit func(Event)) (PromoteResult, error)
	// Demote makes a node step down.
	Demote(ctx context.Context, req DemoteRequest, emit func(Event)) error
	// Switchover hands the activity over with the old active's help.
	Switchover(ctx context.Context, req SwitchoverRequest, emit func(Event)) (PromoteResult, error)
	// Verify compares chain heads and state digests of all nodes. A difference is a result with OK false, not an error.
	Verify(ctx context.Context, req VerifyRequest, emit func(Event)) (VerifyResult, error)
	// Diverged lists the suffixes that were saved aside (R9).
	Diverged(ctx context.Context) ([]Diverged, error)
	// Log returns the frames that hold records in [from, to], as many as fit the answer.
	Log(ctx context.Context, from, to wal.LSN) ([]LogFrame, error)
	// Ready returns nil when the node answers clients (active) or follows (standby), else why not.
	Ready(ctx context.Context) error
}

// Error is a failure with one of the Code… values.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"error"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }
