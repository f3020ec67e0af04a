package failover

import "repld/wal"

// Beat is what a node says of itself with each heartbeat.
type Beat struct {
	Node     string       `json:"node"`
	Inc      string       `json:"inc,omitempty"` // incarnation
	Role     Role         `json:"role"`
	Epoch    wal.Epoch    `json:"epoch"`  // highest persisted
	Holder   string       `json:"holder"` // of Epoch
	Sync     wal.SyncSet  `json:"sync,omitzero"`
	Position wal.Position `json:"position"` // durable end of its log
	End      wal.LSN      `json:"end"`      // on the active: what it has given to clients or is about to
	Voter    bool         `json:"voter"`
	Blank    bool         `json:"blank,omitempty"`
	Lagged   bool         `json:"lagged,omitempty"`
	Held     bool         `json:"held,omitempty"` // a person told it to apply nothing
	Priority int          `json:"priority,omitempty"`
	Zone     string       `json:"zone,omitempty"`
	Sick     string       `json:"sick,omitempty"` // why its application does not answer, "" if it does or is not asked
	Paused   Maintenance  `json:"paused,omitzero"`
}

// Maintenance is the word of a person that nothing is to happen by itself (maintenance). The highest version is in force; nodes tell each other.
type Maintenance struct {
	Version uint64 `json:"version,omitempty"`
	On      bool   `json:"on,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Node    string `json:"node,omitempty"` // where it was said
	At      int64  `json:"at,omitempty"`   // Unix seconds, for people
}

// Newer reports whether h replaces o. Of two that were said at the same time on two nodes the name decides, on every node alike.
func (h Maintenance) Newer(o Maintenance) bool {
	return h.Version > o.Version || h.Version == o.Version && h.Node > o.Node
}

// Poll is a candidate asking for support before it raises an epoch. Nothing is granted by an answer.
type Poll struct {
	Candidate string    `json:"candidate"`
	Epoch     wal.Epoch `json:"epoch"` // the highest that the candidate knows: it would begin a later one
	Lagged    bool      `json:"lagged,omitempty"`
	Sick      string    `json:"sick,omitempty"`
	Priority  int       `json:"priority,omitempty"`
	Zone      string    `json:"zone,omitempty"`
	LSN       wal.LSN   `json:"lsn"`
	Blank     bool      `json:"blank,omitempty"`
}

// Vote answers a Poll.
type Vote struct {
	Support bool   `json:"support"`
	Reason  string `json:"reason,omitempty"`
	Wait    Mono   `json:"wait,omitempty"` // after which the voter would support the candidate, if nothing else happens; 0: not known
}

// Self is what the detector must know of its own node.
type Self struct {
	Beat
	// Seen is the highest LSN that the active is known to have given out, by its heartbeats or its log.
	Seen wal.LSN
}

// Observation is what the detector is told.
type Observation interface{ observation() }

type (
	// Clock is the time. Between two of them no more than a few intervals pass for the detector, whatever the clock says: a process that stood
	// still has heard nobody because it did not listen.
	Clock struct{ Now Mono }
	// BeatHeard is a heartbeat, or an answer to one.
	BeatHeard struct{ Beat Beat }
	// TrafficHeard is any other message of a node that is active in Epoch, of its log stream for one.
	TrafficHeard struct {
		Node  string
		Epoch wal.Epoch
	}
	// LinkLost: a connection with Node ended by the other end's reset or close.
	LinkLost struct{ Node string }
	// LinkRefused: Node's host answers that nobody listens there.
	LinkRefused struct{ Node string }
	// SelfChanged is the node's own state.
	SelfChanged struct{ Self Self }
	// LeaseChanged: whether this node, being active, has its lease.
	LeaseChanged struct{ Held bool }
	// Voted is an answer to the poll of a round.
	Voted struct {
		Round uint64
		Node  string
		Vote  Vote
	}
	// TriedPromotion completes Promote.
	TriedPromotion struct{ Err error }
	// TriedHandOver completes HandOverTo.
	TriedHandOver struct{ Err error }
)

func (Clock) observation()          {}
func (BeatHeard) observation()      {}
func (TrafficHeard) observation()   {}
func (LinkLost) observation()       {}
func (LinkRefused) observation()    {}
func (SelfChanged) observation()    {}
func (LeaseChanged) observation()   {}
func (Voted) observation()          {}
func (TriedPromotion) observation() {}
func (TriedHandOver) observation()  {}

// Measure is what the detector wants done.
type Measure interface{ measure() }

type (
	// Suspected: Node counts as silent or dead from now on.
	Suspected struct {
		Node     string
		Evidence string
		Proof    bool // its process is gone
	}
	// Recovered: Node was suspected and is heard again.
	Recovered struct{ Node string }
	// AskVotes polls all other voters.
	AskVotes struct {
		Round uint64
		Poll  Poll
	}
	// Promote has this node take over. Whether it may is the promotion rule's business (R5).
	Promote struct{ Reason string }
	// GiveUp has this active step down: it has been without a lease for too long.
	GiveUp struct{ Reason string }
	// HandOverTo begins a switchover.
	HandOverTo struct {
		Node   string
		Reason string
	}
	// Waits says why nothing happens although there is no active.
	Waits struct{ Reason string }
)

func (Suspected) measure()  {}
func (Recovered) measure()  {}
func (AskVotes) measure()   {}
func (Promote) measure()    {}
func (GiveUp) measure()     {}
func (HandOverTo) measure() {}
func (Waits) measure()      {}
