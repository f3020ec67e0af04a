package failover

import "repld/wal"

// Action is what the machine wants done. Those with an attempt number are answered by the event of the same number.
type Action interface{ action() }

// Actions that take time.
type (
	// Survey asks all data nodes, changing nothing.
	Survey struct{ Attempt uint64 }
	// AcquireToken replaces the token if its revision is still Rev, then grants the epoch to this node (R3).
	AcquireToken struct {
		Attempt uint64
		Rev     uint64
		Record  Record
	}
	// FencePeers stops following and has every peer grant the epoch.
	FencePeers struct {
		Attempt uint64
		Epoch   wal.Epoch
		Next    wal.SyncSet
	}
	// FastForward copies the rest of the most advanced log.
	FastForward struct {
		Attempt uint64
		From    string
		To      wal.Position
	}
	// StartEpoch starts the writer and commits the epoch-start record.
	StartEpoch struct {
		Attempt uint64
		Start   wal.EpochStart
	}
	// Replay applies what is committed and not yet applied.
	Replay struct{ Attempt uint64 }
	// Drain waits until all writes are committed and durable on To.
	Drain struct {
		Attempt uint64
		To      string
	}
	// HandOver has To promote itself.
	HandOver struct {
		Attempt uint64
		To      string
		At      wal.Position
	}
	// StopWriter ends the log writer.
	StopWriter struct{ Attempt uint64 }
	// Cancel ends whatever of the attempt is running.
	Cancel struct{ Attempt uint64 }
)

// Actions done at once.
type (
	// OpenClients lets clients write.
	OpenClients struct{ Epoch wal.Epoch }
	// CloseClients refuses them, and answers writes in flight as unknown (R13).
	CloseClients struct{ Reason string }
	// PauseWrites makes new writes wait.
	PauseWrites struct{}
	// ResumeWrites ends PauseWrites.
	ResumeWrites struct{}
	// FollowActive makes this node a standby of Node; "" means nobody is known to be active.
	FollowActive struct {
		Node  string
		Epoch wal.Epoch
	}
	// Exit ends the node: its storage failed (R10).
	Exit struct{ Err error }
	// Report answers the request ID.
	Report struct {
		ID     uint64
		Result Result
		Err    error
	}
	// Tell shows the requester how far it is.
	Tell struct {
		ID   uint64
		Text string
	}
	// RoleChanged is logged and published.
	RoleChanged struct{ RoleChange }
	// Ignored is an event that was dropped, and why; logged.
	Ignored struct {
		Event  Event
		Reason string
	}
)

func (Survey) action()       {}
func (AcquireToken) action() {}
func (FencePeers) action()   {}
func (FastForward) action()  {}
func (StartEpoch) action()   {}
func (Replay) action()       {}
func (Drain) action()        {}
func (HandOver) action()     {}
func (StopWriter) action()   {}
func (Cancel) action()       {}
func (OpenClients) action()  {}
func (CloseClients) action() {}
func (PauseWrites) action()  {}
func (ResumeWrites) action() {}
func (FollowActive) action() {}
func (Exit) action()         {}
func (Report) action()       {}
func (Tell) action()         {}
func (RoleChanged) action()  {}
func (Ignored) action()      {}
