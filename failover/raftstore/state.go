package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// state is everything that a voter promised: what the changes of a journal add up to.
type state struct {
	ID       string            `json:"id"`                 // of this voter: drawn when its journal was made
	Values   map[string][]byte `json:"values,omitempty"`   // raft's term and vote
	Logs     []entry           `json:"logs,omitempty"`     // rising index, gaps allowed
	Snapshot *snapshot         `json:"snapshot,omitempty"` // the newest

	seq uint64 // number of the newest change
}

// entry is a raft.Log as it is stored.
type entry struct {
	Index    uint64       `json:"index"`
	Term     uint64       `json:"term"`
	Type     raft.LogType `json:"type"`
	Data     []byte       `json:"data,omitempty"`
	Extra    []byte       `json:"extra,omitempty"`
	Appended time.Time    `json:"appended,omitzero"`
}

// snapshot is a raft snapshot as it is stored.
type snapshot struct {
	Meta raft.SnapshotMeta `json:"meta"`
	Data []byte            `json:"data"`
}

// change is one record of a journal; exactly one field is set.
type change struct {
	State    *state            `json:"state,omitempty"` // the first record of each file: everything so far
	Values   map[string][]byte `json:"values,omitempty"`
	Logs     []entry           `json:"logs,omitempty"`
	Cut      *[2]uint64        `json:"cut,omitempty"` // indexes, both included
	Snapshot *snapshot         `json:"snapshot,omitempty"`
}

func newState() state { return state{seq: 1} }

var errChange = errors.New("impossible change")

// apply makes change number seq. The state must not share what it changes with another one: see clone.
func (s *state) apply(c change, seq uint64) error {
	switch {
	case c.State != nil:
		if c.State.ID == "" {
			return fmt.Errorf("%w: a state without a voter id", errChange)
		}
		*s = *c.State
	case s.ID == "":
		return fmt.Errorf("%w: the first record holds no state", errChange)
	case c.Values != nil:
		if s.Values == nil {
			s.Values = map[string][]byte{}
		}
		maps.Copy(s.Values, c.Values)
	case c.Logs != nil:
		s.store(c.Logs)
	case c.Cut != nil:
		s.Logs = slices.DeleteFunc(s.Logs, func(e entry) bool { return e.Index >= c.Cut[0] && e.Index <= c.Cut[1] })
	case c.Snapshot != nil:
		s.Snapshot = c.Snapshot
	default:
		return fmt.Errorf("%w: it is empty", errChange)
	}
	s.seq = seq
	return nil
}

func (s *state) store(logs []entry) {
	for _, e := range logs {
		at, found := s.find(e.Index)
		if found {
			s.Logs[at] = e
			continue
		}
		s.Logs = slices.Insert(s.Logs, at, e)
	}
}

func (s *state) find(index uint64) (int, bool) {
	return slices.BinarySearchFunc(s.Logs, index, func(e entry, index uint64) int {
		switch {
		case e.Index < index:
			return -1
		case e.Index > index:
			return 1
		}
		return 0
	})
}

// clone copies what apply changes.
func (s *state) clone() state {
	c := *s
	c.Values, c.Logs = maps.Clone(s.Values), slices.Clone(s.Logs)
	return c
}

// equal compares what is stored.
func (s *state) equal(t state) bool {
	a, errA := json.Marshal(s)
	b, errB := json.Marshal(&t)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// command returns the highest index of a command at or below index; 0 when the log has none left there.
func (s *state) command(index uint64) uint64 {
	for _, e := range slices.Backward(s.Logs) {
		if e.Index <= index && e.Type == raft.LogCommand {
			return e.Index
		}
	}
	return 0
}
