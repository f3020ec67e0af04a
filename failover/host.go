package failover

import (
	"context"

	"repld/wal"
)

// Host is the node as the runner drives it. Methods with a context may block until it ends; the runner calls at
// most one of them at a time, never on the goroutine that owns the machine, and cancels the context when the step's
// bound has passed or the attempt is over. The others must return at once.
type Host interface {
	// Survey asks every configured data node, itself included, without changing anything anywhere. Nodes that do
	// not answer are in the result with Reachable false.
	Survey(ctx context.Context) []Answer
	// StopFollowing ends replication into this node's log. When it returns, nothing but FastForward and StartEpoch
	// moves the log's end.
	StopFollowing(ctx context.Context) error
	// FencePeers has every other data node grant (epoch, candidate) with Fence.Grant, and returns what each reports
	// afterwards, together with this node's own Answer (its grant is persisted before the call). A node that refused
	// reports the epoch that it obeys instead.
	FencePeers(ctx context.Context, epoch wal.Epoch, candidate string, next wal.SyncSet) []Answer
	// FastForward copies the log from node until this node's log is durable at `to`. progress shows that it
	// advances, which extends the bound. Not called when this node is the most advanced itself.
	FastForward(ctx context.Context, from string, to wal.Position, progress func(string)) error
	// StartEpoch starts the log writer in the epoch, appends the epoch-start record and returns its LSN when it
	// is committed. With start.CutAt it first cuts the log behind start.Previous, having saved what comes after (R9), and appends the records
	// from there up to CutAt again, behind the epoch-start record. On error the runner calls StopWriter.
	StartEpoch(ctx context.Context, start wal.EpochStart) (wal.LSN, error)
	// Replay applies everything up to the epoch-start record.
	Replay(ctx context.Context, progress func(string)) error
	// OpenClients lets clients write in epoch.
	OpenClients(epoch wal.Epoch)
	// CloseClients refuses writes from now on, and answers those in flight as unknown (R13).
	CloseClients(reason string)
	// PauseWrites makes new writes wait.
	PauseWrites()
	// ResumeWrites lets waiting writes continue in the same epoch.
	ResumeWrites()
	// Drain waits, with writes paused, until all that was appended is committed and node `to` has it durable. It
	// returns the log's end.
	Drain(ctx context.Context, to string) (wal.Position, error)
	// HandOver has node `to` promote itself and returns the epoch in which it is active.
	HandOver(ctx context.Context, to string, at wal.Position) (wal.Epoch, error)
	// StopWriter ends the log writer, if there is one. Safe to call twice.
	StopWriter(ctx context.Context) error
	// Follow makes this node a standby of holder; "" means that nobody is known to be active: look for it.
	Follow(holder string, epoch wal.Epoch)
	// Exit is told that storage failed: the node has stepped down and must leave with err (R10).
	Exit(err error)
}
