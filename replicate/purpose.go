package replicate

import (
	"time"

	"repld/wal"
)

// Purpose says why a standby opens a log stream.
type Purpose string

const (
	// Follow streams the log of the active until the stream ends.
	Follow Purpose = "follow"
	// FastForward copies the log of a fenced peer up to a position, before a promotion (R5).
	FastForward Purpose = "fast-forward"
)

// Fence knows and keeps the highest epoch that this node has seen.
type Fence interface {
	// Epoch returns the highest epoch seen.
	Epoch() wal.Epoch
	// Holder returns the holder of Epoch, "" if not known.
	Holder() string
	// Observe persists a higher epoch, or a newer sync set of the same epoch, before it returns (R3). It fails when e
	// is lower than Epoch, or equal with another holder.
	Observe(e wal.Epoch, holder string, sync wal.SyncSet) error
}

// Ack is what a standby says of itself.
type Ack struct {
	// Durable is the end of the standby's log as fsynced, in records.
	Durable wal.LSN
	// Applied is the end of what the standby has applied to its state.
	Applied wal.LSN
	// Sync is the version of the newest sync set that the standby has persisted.
	Sync uint64
	// Voter is false while the standby must not count for data (R11).
	Voter bool
	// Counts is true when Durable may be given to CommitRule.Acked: the standby follows this epoch, is a voter, shares
	// our history up to Durable, and has not lost records that it acked before.
	Counts bool
}

// Regress tells that records which a standby acked earlier in this epoch cannot be relied on any more (H2, R11).
type Regress struct {
	Had    wal.LSN // acked before
	Has    wal.LSN // has now
	Reason string
}

// StandbyStatus describes one log stream that is being served.
type StandbyStatus struct {
	Name        string        `json:"name"`
	Incarnation string        `json:"incarnation"`
	Purpose     Purpose       `json:"purpose"`
	State       ProgressState `json:"state"`
	Voter       bool          `json:"voter"`
	Counts      bool          `json:"counts"`
	Sent        wal.LSN       `json:"sent"`
	Durable     wal.LSN       `json:"durable"`
	Applied     wal.LSN       `json:"applied"`
	Sync        uint64        `json:"sync_version"`
	BytesBehind int64         `json:"bytes_behind"` // estimate: records not yet durable there, at the stream's average size
	BytesSent   int64         `json:"bytes_sent"`
	Since       time.Time     `json:"since"`
	LastAck     time.Time     `json:"last_ack"` // zero before the first
	Regressed   wal.LSN       `json:"regressed,omitempty"`
	Seeding     *SeedStatus   `json:"seeding,omitempty"`
}

// SeedStatus tells how far the transfer of a snapshot is, in bytes of what had to be sent on this stream.
type SeedStatus struct {
	ID    string `json:"id"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// ReceiverStatus describes the stream that this node receives.
type ReceiverStatus struct {
	Running   bool          `json:"running"`
	Purpose   Purpose       `json:"purpose"`
	Source    string        `json:"source"`
	State     ProgressState `json:"state"`
	Epoch     wal.Epoch     `json:"epoch"`
	Committed wal.LSN       `json:"committed"` // as told by the source, not capped by what is durable here
	End       wal.LSN       `json:"end"`       // end of the source's log when it last said so
	At        time.Time     `json:"at"`        // the source's wall clock when it last said so
	Heard     time.Time     `json:"heard"`     // our clock at the last message
	Seeding   *SeedStatus   `json:"seeding,omitempty"`
}
