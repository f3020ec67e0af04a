package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN numbers a record: from 1, without gaps, in one group. 0 means "before the first record".
type LSN uint64

// Epoch numbers a grant of the token: from 1, only ever rising. 0 means "no epoch yet".
type Epoch uint64

// Hash is a frame's chained xxhash64: equal (LSN, Hash) on two nodes means equal history up to that LSN.
// It is written as 16 hex digits in JSON, because JSON numbers lose bits beyond 2^53.
type Hash uint64

// String returns the hash as 16 hex digits.
func (h Hash) String() string { return fmt.Sprintf("%016x", uint64(h)) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil {
		return fmt.Errorf("chain hash %q: %w", b, err)
	}
	*h = Hash(v)
	return nil
}

// Position is the end of a frame: its epoch, the LSN of its last record, and its chain hash. The zero
// Position is the beginning of every log.
type Position struct {
	Epoch Epoch `json:"epoch"`
	LSN   LSN   `json:"lsn"`
	Hash  Hash  `json:"hash"`
}

// String returns the position as epoch/lsn/hash.
func (p Position) String() string { return fmt.Sprintf("%d/%d/%s", p.Epoch, p.LSN, p.Hash) }

// Ahead reports whether p's log is more advanced than q's: a later epoch wins, then a higher LSN. It is the order in
// which promotion chooses the log to adopt (R5).
func (p Position) Ahead(q Position) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch > q.Epoch
	}
	return p.LSN > q.LSN
}

// Kind says what a record is. A frame may hold records of several kinds.
type Kind uint8

const (
	// KindEffects changes state: the payload is an effects encoding of internal/kv.
	KindEffects Kind = 1
	// KindEpochStart opens an epoch: the payload is an EpochStart in JSON.
	KindEpochStart Kind = 2
	// KindMark asks every node for a digest of its state at the end of the frame that holds it: the payload is
	// an opaque identifier.
	KindMark Kind = 3
)

// String returns the kind's name as logs and dumps write it.
func (k Kind) String() string {
	switch k {
	case KindEffects:
		return "effects"
	case KindEpochStart:
		return "epoch-start"
	case KindMark:
		return "mark"
	}
	return "kind-" + strconv.Itoa(int(k))
}

// Record is one numbered record of a frame. Payload aliases the frame's memory.
type Record struct {
	LSN     LSN
	Kind    Kind
	Payload []byte
}

// SyncSet is (V, k): the standbys whose acks count, and how many of them a commit needs besides the active.
// Version rises with each change within the cluster's life; (Epoch, Version) orders records of it.
type SyncSet struct {
	Version uint64   `json:"version"`
	Members []string `json:"members"`
	K       int      `json:"k"`
}

// String returns the set as "1 of [b c]".
func (s SyncSet) String() string {
	return fmt.Sprintf("%d of [%s]", s.K, strings.Join(s.Members, " "))
}

// Has reports whether node is a member.
func (s SyncSet) Has(node string) bool {
	for _, m := range s.Members {
		if m == node {
			return true
		}
	}
	return false
}

// EpochStart is the payload of the record that opens an epoch.
type EpochStart struct {
	Epoch    Epoch    `json:"epoch"`
	Holder   string   `json:"holder"`
	Sync     SyncSet  `json:"sync"`
	Reason   string   `json:"reason"`
	Previous Position `json:"previous"`            // end of the log that the epoch continues
	LostFrom LSN      `json:"lost_from,omitempty"` // first LSN given up with consent, 0 if none is known
	LostTo   LSN      `json:"lost_to,omitempty"`   // last LSN given up as far as known
	// A person ended the history at CutAt, and Cut says how that was put. Carried is the number of records that follow this one and were written again,
	// because they stood between Previous, a frame's end, and CutAt.
	CutAt   LSN    `json:"cut_at,omitempty"`
	Cut     string `json:"cut,omitempty"`
	Carried uint64 `json:"carried,omitempty"`
}
