package admin

import (
	"time"

	"repld/wal"
)

// Paths of what concerns copies in time.
const (
	PathHold    = "/v1/hold"    // POST HoldRequest → Events; Result is a HoldResult
	PathSalvage = "/v1/salvage" // POST SalvageRequest → Events; Result is a SalvageResult
)

// Moment is where a promotion ends the history, in a node's own log.
type Moment struct {
	At             wal.Position   `json:"at"`      // end of the last frame that is kept whole
	LSN            wal.LSN        `json:"lsn"`     // the last record kept
	Time           time.Time      `json:"time"`    // of its frame
	Why            string         `json:"why"`     // in the person's words
	Carried        uint64         `json:"carried"` // records behind At that are written again in the new epoch
	Aside          uint64         `json:"aside"`   // records of this log that are set aside
	Matched        uint64         `json:"matched,omitempty"`
	MatchedEffects uint64         `json:"matched_effects,omitempty"` // effects behind the cut that the predicate means
	Applied        wal.Position   `json:"applied"`                   // of the state that becomes the active one
	Held           bool           `json:"held"`
	Around         []MomentRecord `json:"around,omitempty"`
}

// MomentRecord is one record near a cut.
type MomentRecord struct {
	LSN     wal.LSN   `json:"lsn"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Effects []string  `json:"effects,omitempty"`
	Kept    bool      `json:"kept"`
}

// ToMoment reports whether the request is for a promotion to a moment.
func (r PromoteRequest) ToMoment() bool { return r.ToLSN != 0 || r.ToTime != nil || r.Before != "" }

// Hold says since when and why a standby applies nothing.
type Hold struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// HoldRequest makes a standby stop applying, or go on.
type HoldRequest struct {
	Node    string `json:"node,omitempty"`
	Release bool   `json:"release,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// HoldResult is where the state of a standby stands.
type HoldResult struct {
	Node    string       `json:"node"`
	Hold    *Hold        `json:"hold,omitempty"` // nil: it applies
	Applied wal.Position `json:"applied"`
	Durable wal.Position `json:"durable"`
	Next    time.Time    `json:"next,omitzero"` // when the first record that is not applied was written
}

// SalvageRequest asks the active for records that were set aside: what they would do now, and with Apply that they are written again.
type SalvageRequest struct {
	Node   string `json:"node,omitempty"`   // that set them aside; default: the one that is asked
	Name   string `json:"name"`             // of the suffix
	Keys   string `json:"keys,omitempty"`   // only keys like this
	Except string `json:"except,omitempty"` // leave these effects out: 'DEL user:*'
	Apply  bool   `json:"apply,omitempty"`
	Limit  int    `json:"limit,omitempty"` // items listed; default 100, at most 1000
}

// Verdicts on a key of a suffix.
const (
	SalvageApply    = "apply"    // nothing has touched the key since: it is, or would be, written again
	SalvageConflict = "conflict" // the key was changed in the new history: left
	SalvageSame     = "same"     // the key holds this already
	SalvageExpired  = "expired"  // its time to live is over
)

// SalvageItem is the net effect of a suffix on one key.
type SalvageItem struct {
	Key     string  `json:"key"`
	Op      string  `json:"op"` // set or del
	Bytes   int     `json:"bytes"`
	LSN     wal.LSN `json:"lsn"` // of the newest effect, in the suffix
	Verdict string  `json:"verdict"`
}

// SalvageResult counts keys by what became of them.
type SalvageResult struct {
	Node      string        `json:"node"`
	Name      string        `json:"name"`
	From      wal.Position  `json:"from"`
	To        wal.Position  `json:"to"`
	Applied   bool          `json:"applied"` // false: only looked at
	Records   uint64        `json:"records"` // of the suffix
	Effects   uint64        `json:"effects"` // on keys that were asked for
	Excepted  uint64        `json:"excepted"`
	Clears    uint64        `json:"clears"` // of all keys: never written again
	Keys      uint64        `json:"keys"`   // with a net effect
	Apply     uint64        `json:"apply"`  // keys that were, or would be, written again
	Conflicts uint64        `json:"conflicts"`
	Same      uint64        `json:"same"`
	Expired   uint64        `json:"expired"`
	Items     []SalvageItem `json:"items,omitempty"` // conflicts first in each part of the work, as many as the limit
}
