package admin

import (
	"time"

	"repld/wal"
)

// MaxVerifyKeys is how many keys a verification lists at most.
const MaxVerifyKeys = 10_000

// Kinds of KeyDifference.
const (
	KeyMissing = "missing" // the reference has it, the node does not
	KeyExtra   = "extra"   // the node has it, the reference does not
	KeyChanged = "changed" // both have it, with other values
)

// Difference is a range of keys in which a node's state is not the reference's, at one position.
type Difference struct {
	Node    string          `json:"node"`
	From    string          `json:"from"`     // the first row, in words
	To      string          `json:"to"`       // the row before which it ends, in words
	Rows    int64           `json:"rows"`     // of the node
	RefRows int64           `json:"ref_rows"` // of the reference
	Keys    []KeyDifference `json:"keys,omitempty"`
}

// KeyDifference is one row that is not the same.
type KeyDifference struct {
	Row  string `json:"row"` // in words: key "user:1", expiry at … of key …
	Kind string `json:"kind"`
}

// Verification is how a comparison of all copies came out.
type Verification struct {
	At    time.Time    `json:"at"`   // when it ended
	Took  float64      `json:"took"` // seconds
	By    string       `json:"by"`   // the node that asked for it
	Self  bool         `json:"self"` // by itself, not at a person's word
	OK    bool         `json:"ok"`
	Mark  wal.Position `json:"mark"`
	Nodes []string     `json:"nodes"` // that gave a digest
	Odd   []string     `json:"odd,omitempty"`
	Said  string       `json:"said"` // in one sentence
}

// Difference reports whether copies were found to differ, rather than not all compared.
func (v Verification) Difference() bool { return len(v.Odd) > 0 }
