package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"repld/failover"
	"repld/internal/strict"
)

// command is what the raft log says: a CompareAndSet. The nonce makes it the same command when its sender, not knowing what became of it, sends it
// again.
type command struct {
	Nonce string          `json:"nonce"`
	Rev   uint64          `json:"rev"`
	Next  failover.Record `json:"next"`
}

// outcome is what the FSM answers to a command.
type outcome struct {
	Record failover.Record // as it is now
	Err    error           // failover.ErrConflict, ErrInvalid, or ErrVersion
}

// token is the state machine: one Record. Advance decides here, in the order of the log, so a CompareAndSet is one on all voters.
type token struct {
	fatal func(error)

	mu struct {
		sync.Mutex
		tokenState
		failed  error         // a command that this program does not understand
		changed chan struct{} // closed and replaced on each change
	}
}

// tokenState is what a snapshot holds.
type tokenState struct {
	Record failover.Record `json:"record"`
	Nonce  string          `json:"nonce,omitempty"` // of the command that made it
	Index  uint64          `json:"index"`           // of the last command applied
}

var _ raft.FSM = (*token)(nil)

func newToken(fatal func(error)) *token {
	t := &token{fatal: fatal}
	t.mu.changed = make(chan struct{})
	return t
}

// Apply implements raft.FSM; it returns an outcome.
func (t *token) Apply(l *raft.Log) any {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.failed != nil {
		return outcome{Err: t.mu.failed}
	}
	var c command
	if err := strict.Decode(l.Data, &c); err != nil {
		// Written by a newer program: going on without it would leave this voter with another token than the others.
		t.mu.failed = fmt.Errorf("token log entry %d: %w: %w", l.Index, failover.ErrVersion, err)
		t.fatal(t.mu.failed)
		return outcome{Err: t.mu.failed}
	}
	t.mu.Index = l.Index
	defer t.wakeLocked()
	if c.Nonce != "" && c.Nonce == t.mu.Nonce {
		return outcome{Record: t.mu.Record} // the same command once more
	}
	next, err := failover.Advance(t.mu.Record, c.Rev, c.Next)
	if err == nil {
		t.mu.Record, t.mu.Nonce = next, c.Nonce
	}
	return outcome{Record: t.mu.Record, Err: err}
}

func (t *token) wakeLocked() {
	close(t.mu.changed)
	t.mu.changed = make(chan struct{})
}

// now returns the state, and a channel that is closed at its next change.
func (t *token) now() (tokenState, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.tokenState, t.mu.changed, t.mu.failed
}

// wake lets those who wait look again: the store closes.
func (t *token) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wakeLocked()
}

// Snapshot implements raft.FSM.
func (t *token) Snapshot() (raft.FSMSnapshot, error) {
	st, _, err := t.now()
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(st)
	return tokenSnapshot(doc), err
}

// Restore implements raft.FSM.
func (t *token) Restore(r io.ReadCloser) error {
	doc, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	var st tokenState
	if err := strict.Decode(doc, &st); err != nil {
		return fmt.Errorf("token snapshot: %w: %w", failover.ErrVersion, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.tokenState = st
	t.wakeLocked()
	return nil
}

// tokenSnapshot is a tokenState in JSON.
type tokenSnapshot []byte

// Persist implements raft.FSMSnapshot.
func (s tokenSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (tokenSnapshot) Release() {}

// maxCommand bounds a record, bytes of its JSON.
const maxCommand = 256 << 10

func encodeCommand(c command) ([]byte, error) {
	doc, err := json.Marshal(c)
	if err != nil || len(doc) > maxCommand {
		return nil, fmt.Errorf("token: %w: record of %d bytes: %w", failover.ErrInvalid, len(doc), err)
	}
	return doc, nil
}
