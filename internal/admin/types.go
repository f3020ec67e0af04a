package admin

import (
	"time"

	"repld/wal"
)

// Paths of the admin API. Requests and answers are JSON; long work answers with a stream of Events, one JSON object a line, the last
// of which has Done set.
const (
	PathStatus     = "/v1/status"     // GET  → ClusterStatus (?local=1: only this node, no peers asked)
	PathPromote    = "/v1/promote"    // POST PromoteRequest → Events; Result is a PromoteResult
	PathDemote     = "/v1/demote"     // POST DemoteRequest → Events
	PathSwitchover = "/v1/switchover" // POST SwitchoverRequest → Events; Result is a PromoteResult
	PathVerify     = "/v1/verify"     // POST VerifyRequest → Events; Result is a VerifyResult
	PathDiverged   = "/v1/diverged"   // GET → []Diverged
	PathLog        = "/v1/log"        // GET ?from=LSN&to=LSN → []LogFrame, bounded
	PathReady      = "/readyz"        // GET → 200 when the node answers clients (active) or follows (standby)
)

// Role names as they appear in JSON, logs and tables.
const (
	RoleActive    = "active"
	RoleStandby   = "standby"
	RoleCandidate = "candidate"
	RoleFenced    = "fenced"
	RoleWitness   = "witness"
)

// ClusterStatus is what one node knows of the whole cluster at Time.
type ClusterStatus struct {
	Cluster string       `json:"cluster"`
	Asked   string       `json:"asked"` // the node that answered
	Time    time.Time    `json:"time"`
	Epoch   wal.Epoch    `json:"epoch"`            // the highest epoch among the nodes that answered
	Active  string       `json:"active,omitempty"` // its active, empty if no node that answered is active at it
	Sync    wal.SyncSet  `json:"sync"`
	Nodes   []NodeStatus `json:"nodes"`
	AtRisk  AtRisk       `json:"at_risk"`
	Alarms  []string     `json:"alarms,omitempty"`
}

// AtRisk says what would be lost if the active died now, with its disk.
type AtRisk struct {
	// Promotable are the nodes whom the promotion rule (R5) accepts without consent to loss while the active, or the last one, stays away. Asked of all nodes
	// and of the token at the time of the status; absent when only the node itself was asked.
	Promotable []string `json:"promotable,omitempty"`

	Lossless  []string `json:"lossless"`  // standbys to whom a promotion would lose no acked write
	Records   uint64   `json:"records"`   // acked records that the best standby lacks
	Statement string   `json:"statement"` // one sentence for a person
	Known     bool     `json:"known"`     // false when the active did not answer: then Records is as of what the standbys know
}

// NodeStatus is one node of the group, as it says itself, or with Error set when it could not be asked.
type NodeStatus struct {
	Node        string        `json:"node"`
	Address     string        `json:"address,omitempty"`
	Role        string        `json:"role,omitempty"`
	Mode        string        `json:"mode,omitempty"` // hot or lagged
	ApplyDelay  time.Duration `json:"apply_delay_ns,omitempty"`
	Error       string        `json:"error,omitempty"`
	Incarnation string        `json:"incarnation,omitempty"`
	Version     string        `json:"version,omitempty"`
	PID         int           `json:"pid,omitempty"`
	Started     time.Time     `json:"started,omitzero"`
	Epoch       wal.Epoch     `json:"epoch"`
	Holder      string        `json:"holder,omitempty"` // who, as far as this node knows, holds Epoch
	Sync        wal.SyncSet   `json:"sync"`
	Voter       bool          `json:"voter"`
	Blank       bool          `json:"blank,omitempty"`
	Start       wal.Position  `json:"start"`   // just before the first record that the log still has
	Durable     wal.Position  `json:"durable"` // end of the fsynced log
	End         wal.Position  `json:"end"`     // end of the log
	Committed   wal.LSN       `json:"committed"`
	Applied     wal.Position  `json:"applied"`
	Source      string        `json:"source,omitempty"` // whom it follows
	Link        string        `json:"link,omitempty"`   // connecting, probe, stream, snapshot
	Lag         Lag           `json:"lag"`
	Hold        *Hold         `json:"hold,omitempty"`     // it applies nothing, at a person's word
	Standbys    []Standby     `json:"standbys,omitempty"` // on the active: what it knows of each standby
	LogBytes    int64         `json:"log_bytes"`
	StateBytes  int64         `json:"state_bytes"`
	Keys        int64         `json:"keys"`
	Clients     int           `json:"clients"`
	Diverged    int           `json:"diverged,omitempty"` // saved suffixes waiting in diverged/
	Token       *TokenVoter   `json:"token,omitempty"`    // its part in the token log, when the token store is raft
	Degraded    string        `json:"degraded,omitempty"` // set when fewer copies are promised than configured
	Alarms      []string      `json:"alarms,omitempty"`

	CertificateEnd time.Time `json:"certificate_not_after,omitzero"` // of the certificate that peers see, zero if nodes talk in plain text
	// Failover is nil on a node without peers.
	Failover *FailoverStatus `json:"failover,omitempty"`

	// Verified is how the last comparison of all copies that this node knows of came out; nil: none since it started.
	Verified    *Verification     `json:"verified,omitempty"`
	Archive     *ArchiveStatus    `json:"archive,omitempty"`
	Checkpoints *CheckpointStatus `json:"checkpoints,omitempty"`
	// Seed is where its state came from; nil: it has the one that it started with.
	Seed *SeedStatus `json:"seed,omitempty"`
	// Drill is how its last drill came out; nil: none since it started.
	Drill *DrillResult `json:"drill,omitempty"`
}

// TokenVoter is a node's view of the token log that the voters keep by majority.
type TokenVoter struct {
	Started bool     `json:"started"`          // it takes part
	Waits   string   `json:"waits,omitempty"`  // why it does not
	Leader  string   `json:"leader,omitempty"` // empty when it knows none
	Voters  []string `json:"voters,omitempty"`
	Rev     uint64   `json:"rev"` // revision of the token as this node has it
}

// Lag is how far a standby's log and state are behind the active, as the standby knows it.
type Lag struct {
	Records      uint64  `json:"records"`       // records of the active's log that are not durable here
	Bytes        int64   `json:"bytes"`         // log bytes not durable here, as far as known
	Seconds      float64 `json:"seconds"`       // age of the newest durable record while records are missing, else 0
	ApplyRecords uint64  `json:"apply_records"` // durable here, not applied
	ApplySeconds float64 `json:"apply_seconds"` // age of the oldest record that is not applied
}

// Standby is the active's view of one standby.
type Standby struct {
	Node    string    `json:"node"`
	State   string    `json:"state"` // down, probe, stream, snapshot
	Sent    wal.LSN   `json:"sent"`
	Durable wal.LSN   `json:"durable"`
	Applied wal.LSN   `json:"applied"`
	InSync  bool      `json:"in_sync"` // member of the sync set whose acks count now
	LastAck time.Time `json:"last_ack,omitzero"`
	Bytes   int64     `json:"bytes_behind"`
}

// PromoteRequest asks for an unplanned take-over by Node (empty: the node that is asked).
type PromoteRequest struct {
	Node          string `json:"node,omitempty"`
	Plan          bool   `json:"plan,omitempty"` // say what would happen, change nothing
	AllowDataLoss bool   `json:"allow_data_loss,omitempty"`
	Bootstrap     bool   `json:"bootstrap,omitempty"` // first start of a cluster although not all nodes answer
	Sync          *int   `json:"sync,omitempty"`      // k of the new epoch, default: as configured
	Reason        string `json:"reason,omitempty"`

	// A promotion to a moment: one of the three says where the history ends.
	ToLSN     wal.LSN    `json:"to_lsn,omitempty"`     // behind this record
	ToTime    *time.Time `json:"to_time,omitempty"`    // behind the last frame that was written by then
	Before    string     `json:"before,omitempty"`     // before the first record with such an effect: 'DEL user:*'
	After     wal.LSN    `json:"after,omitempty"`      // Before looks behind this LSN only
	AfterTime *time.Time `json:"after_time,omitempty"` // and from this time on
	CutWhy    string     `json:"cut_why,omitempty"`    // how a person put it, when ToLSN was found by other means
	AcceptCut bool       `json:"accept_cut,omitempty"` // consent that what comes after leaves the history (it is kept aside)
}

// DemoteRequest asks Node (empty: the node that is asked) to step down; the cluster then has no active.
type DemoteRequest struct {
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// SwitchoverRequest asks for a planned hand-over to To (empty: the best standby).
type SwitchoverRequest struct {
	To     string    `json:"to,omitempty"`
	Plan   bool      `json:"plan,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`      // begin then; the node that is active now keeps it on disk
	Cancel bool      `json:"cancel,omitempty"` // forget what was scheduled
}

// PromoteResult is how a promotion, switchover or its plan came out.
type PromoteResult struct {
	Node      string       `json:"node"`
	Allowed   bool         `json:"allowed"`
	Plan      bool         `json:"plan,omitempty"`
	Already   bool         `json:"already,omitempty"` // it was the active before
	Epoch     wal.Epoch    `json:"epoch"`
	Previous  wal.Epoch    `json:"previous_epoch"`
	From      wal.Position `json:"from"` // end of the log that the new epoch continues
	Source    string       `json:"source,omitempty"`
	Sync      wal.SyncSet  `json:"sync"`
	Replay    uint64       `json:"replay_records"`
	ReplaySec float64      `json:"replay_seconds"` // measured, or estimated in a plan
	LostFrom  wal.LSN      `json:"lost_from,omitempty"`
	LostTo    wal.LSN      `json:"lost_to,omitempty"`
	LossSaid  string       `json:"loss,omitempty"` // one sentence on what is or may be lost
	Have      []string     `json:"have,omitempty"`
	Missing   []string     `json:"missing,omitempty"`
	Reasons   []string     `json:"reasons,omitempty"`
	Millis    float64      `json:"millis"` // from the request to the first accepted client
	Moment    *Moment      `json:"moment,omitempty"`
	Scheduled *Scheduled   `json:"scheduled,omitempty"` // nothing was done yet, or what was cancelled
}

// VerifyRequest asks for a proof that the copies agree.
type VerifyRequest struct {
	WaitSeconds float64 `json:"wait_seconds,omitempty"` // for lagged standbys to reach the mark, default their delay + 30 s
	BytesPerSec int64   `json:"bytes_per_second,omitempty"`
	Keys        int     `json:"keys,omitempty"`        // list so many keys that differ, at most MaxVerifyKeys
	RepairFrom  string  `json:"repair_from,omitempty"` // standbys that differ from this node are given its state
}

// VerifyResult says whether chain heads and digests agree.
type VerifyResult struct {
	OK    bool         `json:"ok"`
	Mark  wal.Position `json:"mark"`
	Nodes []NodeDigest `json:"nodes"`
	Notes []string     `json:"notes,omitempty"`

	Reference   string       `json:"reference,omitempty"` // the node that the others are compared with: the active, if it answered
	Differences []Difference `json:"differences,omitempty"`
	Repaired    []string     `json:"repaired,omitempty"` // standbys whose state was replaced; everything else is then as of after it
}

// NodeDigest is one node's digest of its state at Position.
type NodeDigest struct {
	Node     string       `json:"node"`
	Position wal.Position `json:"position"`
	Digest   wal.Hash     `json:"digest"`
	Rows     uint64       `json:"rows"`
	Bytes    uint64       `json:"bytes"`
	Error    string       `json:"error,omitempty"`
}

// Diverged is one suffix that was cut from the log and saved (R9).
type Diverged struct {
	Node    string       `json:"node"`
	Name    string       `json:"name"`
	Path    string       `json:"path"`
	From    wal.Position `json:"from"`
	To      wal.Position `json:"to"`
	Records uint64       `json:"records"`
	Bytes   int64        `json:"bytes"`
	Reason  string       `json:"reason"`
	Time    time.Time    `json:"time"`
}

// Event is one line of a long answer: progress, or, with Done, the end.
type Event struct {
	Message string  `json:"message,omitempty"`
	Percent float64 `json:"percent,omitempty"`
	Done    bool    `json:"done,omitempty"`
	Code    string  `json:"code,omitempty"` // of a failure: see Code…
	Error   string  `json:"error,omitempty"`

	Promote *PromoteResult `json:"promote,omitempty"`
	Verify  *VerifyResult  `json:"verify,omitempty"`
	Hold    *HoldResult    `json:"hold,omitempty"`
	Salvage *SalvageResult `json:"salvage,omitempty"`
	Backup  *BackupResult  `json:"backup,omitempty"`
	Pause   *PauseResult   `json:"pause,omitempty"`
	Receipt *ReceiptResult `json:"receipt,omitempty"`

	Checkpoints *CheckpointsResult `json:"checkpoints,omitempty"`
	Drill       *DrillResult       `json:"drill,omitempty"`
	Reseed      *ReseedResult      `json:"reseed,omitempty"`
}

// Failure codes of the admin API; replctl turns them into exit codes.
const (
	CodeUsage    = "usage"   // the request is wrong
	CodeRefused  = "refused" // a safety rule forbids it
	CodeNoActive = "no-active"
	CodeDegraded = "degraded"
	CodeFailed   = "failed" // it was tried and did not work
)
