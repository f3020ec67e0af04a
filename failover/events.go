package failover

import (
	"time"

	"repld/wal"
)

// Event is what the machine is told. A completion carries the attempt number of the action that it completes.
type Event interface{ event() }

// Requests. ID comes back in the Report that answers them.
type (
	// Started is the first event: the epoch and holder that the fence remembers.
	Started struct {
		Epoch  wal.Epoch
		Holder string
	}
	// PromoteRequested asks this node to become active, with Next as the configured sync set.
	PromoteRequested struct {
		ID      uint64
		Options PromoteOptions
		Next    wal.SyncSet
	}
	// DemoteRequested asks this node to stop being active.
	DemoteRequested struct {
		ID     uint64
		Reason string
	}
	// SwitchoverRequested asks the active to hand over to another node.
	SwitchoverRequested struct {
		ID uint64
		To string
	}
)

// Facts that need no request.
type (
	// HigherEpochSeen: the fence has persisted an epoch that another node holds.
	HigherEpochSeen struct {
		Epoch  wal.Epoch
		Holder string
	}
	// StoreFailed: the log, the state or the epoch file cannot be trusted any more (R10).
	StoreFailed struct{ Err error }
	// Tick is one unit of the bounds.
	Tick struct{}
	// Progressed extends the bound of the step that reports it.
	Progressed struct {
		Attempt uint64
		Text    string
	}
)

// Completions.
type (
	// SurveyDone completes Survey. Err: the token could not be read.
	SurveyDone struct {
		Attempt uint64
		Answers []Answer
		Token   Record
		Err     error
	}
	// TokenWon completes AcquireToken: the record is durable, and this node has granted itself the epoch.
	TokenWon struct{ Attempt uint64 }
	// TokenLost completes AcquireToken.
	TokenLost struct {
		Attempt uint64
		Err     error
	}
	// FenceDone completes FencePeers.
	FenceDone struct {
		Attempt uint64
		Answers []Answer
		Err     error
	}
	// FastForwardDone completes FastForward, with an error if it failed.
	FastForwardDone struct {
		Attempt uint64
		Err     error
	}
	// EpochStarted completes StartEpoch: the epoch-start record is committed as LSN, or Err.
	EpochStarted struct {
		Attempt uint64
		LSN     wal.LSN
		Err     error
	}
	// ReplayDone completes Replay.
	ReplayDone struct {
		Attempt uint64
		Err     error
	}
	// Drained completes Drain.
	Drained struct {
		Attempt  uint64
		Position wal.Position
		Err      error
	}
	// HandedOver completes HandOver: the other node is active in Epoch, or Err.
	HandedOver struct {
		Attempt uint64
		Epoch   wal.Epoch
		Err     error
	}
	// WriterStopped completes StopWriter.
	WriterStopped struct {
		Attempt uint64
		Err     error
	}
)

func (Started) event()             {}
func (PromoteRequested) event()    {}
func (DemoteRequested) event()     {}
func (SwitchoverRequested) event() {}
func (HigherEpochSeen) event()     {}
func (StoreFailed) event()         {}
func (Tick) event()                {}
func (Progressed) event()          {}
func (SurveyDone) event()          {}
func (TokenWon) event()            {}
func (TokenLost) event()           {}
func (FenceDone) event()           {}
func (FastForwardDone) event()     {}
func (EpochStarted) event()        {}
func (ReplayDone) event()          {}
func (Drained) event()             {}
func (HandedOver) event()          {}
func (WriterStopped) event()       {}

// Bounds limit each step of a promotion or switchover (R12). For FastForward and Replay it is the time without
// progress, for the others the time in all.
type Bounds struct {
	Survey      time.Duration // default 5 s
	Token       time.Duration // default 10 s
	Fence       time.Duration // default 10 s
	FastForward time.Duration // default 15 s
	EpochStart  time.Duration // default 15 s
	Replay      time.Duration // default 30 s
	Drain       time.Duration // default 10 s
	HandOver    time.Duration // default 30 s
	StopWriter  time.Duration // default 15 s
}

// EnsureDefaults fills what is unset.
func (b *Bounds) EnsureDefaults() {
	set := func(d *time.Duration, seconds int) {
		if *d == 0 {
			*d = time.Duration(seconds) * time.Second
		}
	}
	set(&b.Survey, 5)
	set(&b.Token, 10)
	set(&b.Fence, 10)
	set(&b.FastForward, 15)
	set(&b.EpochStart, 15)
	set(&b.Replay, 30)
	set(&b.Drain, 10)
	set(&b.HandOver, 30)
	set(&b.StopWriter, 15)
}
