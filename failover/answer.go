package failover

import (
	"fmt"
	"strings"

	"repld/wal"
)

// Role is what a node is in a group.
type Role string

// The roles of DESIGN section 2. A fenced node was active or candidate, has lost its epoch or its disk, and is
// putting its writer away; a witness holds no data and is never promoted.
const (
	RoleStandby   Role = "standby"
	RoleCandidate Role = "candidate"
	RoleActive    Role = "active"
	RoleFenced    Role = "fenced"
	RoleWitness   Role = "witness"
)

// Answer is what one data node says of itself in a survey, or after it granted a candidate's epoch. A node that
// could not be asked has Reachable false and Err set.
type Answer struct {
	Node        string      `json:"node"`
	Reachable   bool        `json:"reachable"`
	Err         string      `json:"error,omitempty"`
	Incarnation string      `json:"incarnation,omitempty"`
	Role        Role        `json:"role,omitempty"`
	Epoch       wal.Epoch   `json:"epoch"`  // highest epoch persisted
	Holder      string      `json:"holder"` // of Epoch; the candidate itself once it was granted
	Sync        wal.SyncSet `json:"sync"`   // recorded for Epoch
	// Tenures and Forgotten: State's fields; State.Answer fills them.
	Tenures   []Tenure     `json:"tenures,omitempty"`
	Forgotten wal.Epoch    `json:"forgotten,omitempty"`
	Position  wal.Position `json:"position"` // durable end of the log, read after the epoch was persisted
	Committed wal.LSN      `json:"committed"`
	Applied   wal.LSN      `json:"applied"`
	Voter     bool         `json:"voter"`
	// Doubt: not a voter only because recovery cut a damaged tail that may have been durable (R8). What the node promised, and the rest
	// of its log, are whole.
	Doubt bool `json:"doubt,omitempty"`
	Blank bool `json:"blank"` // the log holds nothing: neither records nor a snapshot's position
	// Held: a person told this node to apply nothing more, so that its state stays where it is. It may only be promoted to a moment (Cut).
	Held bool `json:"held,omitempty"`
	// LeaseLeft is for how much longer an active of an epoch below Epoch may answer reads by this node's word, and LeaseOf its name, "" if there may be
	// several (R14).
	LeaseLeft Mono   `json:"lease_left_ns,omitempty"`
	LeaseOf   string `json:"lease_of,omitempty"`
	// Stateless says why the node has no state to serve (it is damaged and being built anew), "" if it has one. Its log counts, but it cannot become active.
	Stateless string `json:"stateless,omitempty"`
	// Seen is how far this node saw the logs of the others, by node.
	Seen map[string]Sighting `json:"seen,omitempty"`
}

// Sighting is how far a node's log was seen to be durable, by its own word.
type Sighting struct {
	Incarnation string       `json:"incarnation"`
	Position    wal.Position `json:"position"`
}

// Situation is everything the promotion rule looks at.
type Situation struct {
	Candidate string
	Nodes     []string // all configured data nodes, the candidate among them
	Answers   []Answer // the candidate's own among them
	Token     Record   // the token as read; zero if there is none
	Shared    bool     // the token store is one for all nodes, so it alone makes an epoch's holder unique
	Next      wal.SyncSet
	// Fenced is the epoch won, when the answers are those of the fence: then only answers that granted it count.
	// 0 for a survey.
	Fenced        wal.Epoch
	AllowDataLoss bool // a person consented to lose what R5 cannot show to be safe
	Bootstrap     bool // a person said that this is a new cluster
	Cut           *Cut // a person wants the history to end there
}

// Cut is a person's consent to end the history at a moment, although acked writes come after it: what they wrote was the mistake. The
// records behind it are saved (R9), never thrown away.
type Cut struct {
	At  wal.Position `json:"at"`  // end of the last frame that is kept whole
	LSN wal.LSN      `json:"lsn"` // the last record kept; those behind At are written again, first thing in the new epoch
	Why string       `json:"why"` // in the person's words: "before DEL user:*"
}

// Loss is what a promotion gives up, LSNs inclusive. The zero Loss is none.
type Loss struct {
	From    wal.LSN `json:"from,omitempty"` // first LSN that may be lost
	To      wal.LSN `json:"to,omitempty"`   // last LSN known to be lost, 0 when none is known
	Unknown bool    `json:"unknown"`        // more than is known may be lost
}

// String describes the range for a person.
func (l Loss) String() string {
	switch {
	case l.From == 0:
		return "none"
	case l.To == 0:
		return fmt.Sprintf("unknown beyond LSN %d", l.From-1)
	case l.Unknown:
		return fmt.Sprintf("LSN %d to %d, unknown beyond", l.From, l.To)
	}
	return fmt.Sprintf("LSN %d to %d", l.From, l.To)
}

// Plan is the promotion rule's verdict, in a form that can be shown to a person before anything is changed.
type Plan struct {
	Allowed   bool         `json:"allowed"`
	Consented bool         `json:"consented"` // allowed only because data loss was consented to
	Bootstrap bool         `json:"bootstrap"` // the first epoch of a cluster without data
	Epoch     wal.Epoch    `json:"epoch"`     // to be used
	Needed    string       `json:"needed"`    // who had to answer, as a sentence
	Have      []string     `json:"have"`      // nodes whose answers count
	Missing   []string     `json:"missing"`   // nodes that did not answer or do not count, with the reason
	Source    string       `json:"source"`    // node with the most advanced log among those that count
	Target    wal.Position `json:"target"`    // its durable end: what the new epoch continues
	Sync      wal.SyncSet  `json:"sync"`      // newest set recorded
	Next      wal.SyncSet  `json:"next"`      // set that the new epoch records
	// History and Forgotten go into the token record of the new epoch.
	History   []Tenure  `json:"history,omitempty"`
	Forgotten wal.Epoch `json:"forgotten,omitempty"`
	Loss      Loss      `json:"loss"`
	Cut       *Cut      `json:"cut,omitempty"` // where the history ends, if a person said so
	Reasons   []string  `json:"reasons"`       // why it is refused, or what the person should know
}

func (p Plan) why() string {
	if len(p.Reasons) == 0 {
		return p.Needed
	}
	return strings.Join(p.Reasons, "; ")
}
