package replicate

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"repld/snapshot"
	"repld/wal"
)

// SnapshotSource gives snapshots to seed standbys from; *snapshot.Manager is one.
type SnapshotSource interface {
	// AcquireID returns the snapshot called id if it is still there and of use, otherwise a fresh one.
	AcquireID(ctx context.Context, id string) (*snapshot.Snapshot, error)
}

// SenderOptions configures a Sender.
type SenderOptions struct {
	Group string
	Node  string
	Log   *wal.Log
	Fence Fence
	// Snapshots seeds standbys that the log cannot reach. nil: such standbys are refused with CodeSnapshot.
	Snapshots SnapshotSource
	// Committed returns the committed LSN as known here. Required; must be cheap.
	Committed func() wal.LSN
	// MayServe returns why this node may not serve a stream of that purpose now, or nil. It is asked at the start of a
	// stream and again with each heartbeat. Required; must be cheap.
	MayServe func(p Purpose) error
	// OnAck is called from the stream's reading goroutine for each ack. It must not block.
	OnAck func(standby string, a Ack)
	// OnRegress is called when acks that OnAck reported cannot be relied on any more: CommitRule.Forget the standby.
	// It is called before the stream's next OnAck. It must not block.
	OnRegress func(standby string, r Regress)
	// OnStale is called when a peer says that it knows a newer epoch: this node is to step down (R15). It must not block.
	OnStale func(e wal.Epoch, holder string)

	// Heartbeat is the interval between heartbeats (default 100 ms).
	Heartbeat time.Duration
	// CommitDelay is how long a new committed LSN may wait for a frame to travel with (default 2 ms).
	CommitDelay time.Duration
	// WriteTimeout bounds each write of up to 256 KiB (default 10 s). A standby that does not read that long loses
	// its session.
	WriteTimeout time.Duration
	// AnswerTimeout bounds the wait for a standby's answer to a question of ours (default 30 s); an installation of a
	// snapshot has InstallTimeout (default 30 min).
	AnswerTimeout, InstallTimeout time.Duration
	// BatchBytes is how much is coalesced into one write (default 256 KiB).
	BatchBytes int
	// BulkRate throttles snapshots and catch-up over all streams of this Sender, in bytes/s (0: unlimited).
	BulkRate int64
	// BulkBacklog is how far a standby must be behind for its frames to count as bulk, in bytes (default 8 MiB).
	BulkBacklog int64
	// MaxStreams bounds the streams served at a time (default 64).
	MaxStreams int
	// Logger (default: discard).
	Logger *slog.Logger
}

// EnsureDefaults fills what was left out.
func (o *SenderOptions) EnsureDefaults() {
	def(&o.Heartbeat, 100*time.Millisecond)
	def(&o.CommitDelay, 2*time.Millisecond)
	def(&o.WriteTimeout, 10*time.Second)
	def(&o.AnswerTimeout, 30*time.Second)
	def(&o.InstallTimeout, 30*time.Minute)
	def(&o.BatchBytes, 256<<10)
	def(&o.BulkBacklog, 8<<20)
	def(&o.MaxStreams, 64)
	if o.OnAck == nil {
		o.OnAck = func(string, Ack) {}
	}
	if o.OnRegress == nil {
		o.OnRegress = func(string, Regress) {}
	}
	if o.OnStale == nil {
		o.OnStale = func(wal.Epoch, string) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate names the first option that is missing.
func (o *SenderOptions) Validate() error {
	if err := checkNames(o.Group, o.Node); err != nil {
		return err
	}
	if o.Log == nil || o.Fence == nil || o.Committed == nil || o.MayServe == nil {
		return errors.New("sender needs Log, Fence, Committed and MayServe")
	}
	return nil
}
