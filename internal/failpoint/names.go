package failpoint

// Names lists all places, in the order in which a write, then a promotion, then a recovery passes them. TestNames holds it equal to the calls of Hit.
func Names() []string {
	return []string{
		WALBeforeWrite, WALAfterWrite, WALBeforeSync, WALAfterSync, WALRotate,
		SendFrames, BeforeAck, AfterAck,
		BeforeApply, AfterApply, FlushBegin, FlushEnd, ManifestMade,
		TokenTaken, SlotBetween, SlotWritten, EpochStart,
		RecoverLog, RecoverCut, RecoverState,
		Command,
	}
}

// The places.
const (
	WALBeforeWrite = "wal.before-write" // a frame is sealed and not written
	WALAfterWrite  = "wal.after-write"  // written, not synced, readers do not see it yet
	WALBeforeSync  = "wal.before-sync"  // written and perhaps on its way to standbys
	WALAfterSync   = "wal.after-sync"   // synced, nobody knows yet
	WALRotate      = "wal.rotate"       // the next segment is taken, its header is not written

	SendFrames = "replicate.send"       // frames are in the stream's buffer
	BeforeAck  = "replicate.before-ack" // durable on the standby, not acked
	AfterAck   = "replicate.after-ack"  // acked, not applied

	BeforeApply  = "node.before-apply" // committed, not applied
	AfterApply   = "node.after-apply"  // applied, clients are not answered
	FlushBegin   = "kv.flush-begin"
	FlushEnd     = "kv.flush-end"
	ManifestMade = "kv.manifest"

	TokenTaken  = "failover.token-taken"  // the token says so, the epoch file does not
	SlotBetween = "failover.slot-between" // one slot of the epoch file is new, one old
	SlotWritten = "failover.slot-written" // the epoch is persisted, nobody was answered
	EpochStart  = "node.epoch-start"      // fenced and fast-forwarded, no record of the new epoch yet

	RecoverLog   = "wal.recover"  // before the log's directory is looked at
	RecoverCut   = "wal.cut"      // a torn tail was decided on and is not cut
	RecoverState = "node.recover" // the log is recovered, the state is open

	Command = "server.command" // a write is about to be evaluated, under the sequencer's lock
)
