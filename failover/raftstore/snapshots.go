package raftstore

import (
	"bytes"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"repld/failover"
)

// snapshots is the journal as raft's snapshot store: it keeps the newest one.
type snapshots struct{ *journal }

var _ raft.SnapshotStore = snapshots{}

// maxSnapshot bounds a snapshot that a leader sends: one record of the token, and little more.
const maxSnapshot = 1 << 20

// Create implements raft.SnapshotStore.
func (s snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	if version != raft.SnapshotVersionMax {
		return nil, fmt.Errorf("snapshot version %d: %w", version, failover.ErrVersion)
	}
	return &sink{journal: s.journal, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term, Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

// List implements raft.SnapshotStore.
func (s snapshots) List() (all []*raft.SnapshotMeta, err error) {
	s.view(func(st *state) {
		if st.Snapshot != nil {
			meta := st.Snapshot.Meta
			all = append(all, &meta)
		}
	})
	return all, nil
}

// Open implements raft.SnapshotStore.
func (s snapshots) Open(id string) (meta *raft.SnapshotMeta, r io.ReadCloser, err error) {
	err = fmt.Errorf("snapshot %s is gone", id)
	s.view(func(st *state) {
		if st.Snapshot != nil && st.Snapshot.Meta.ID == id {
			m := st.Snapshot.Meta
			meta, r, err = &m, io.NopCloser(bytes.NewReader(st.Snapshot.Data)), nil
		}
	})
	return meta, r, err
}

// sink collects a snapshot; Close makes it durable.
type sink struct {
	journal *journal
	meta    raft.SnapshotMeta
	data    bytes.Buffer
	done    bool
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.meta.ID }

// Write implements raft.SnapshotSink.
func (s *sink) Write(b []byte) (int, error) {
	if s.data.Len()+len(b) > maxSnapshot {
		return 0, fmt.Errorf("snapshot of more than %d bytes: %w", maxSnapshot, failover.ErrInvalid)
	}
	return s.data.Write(b)
}

// Close implements raft.SnapshotSink.
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.meta.Size = int64(s.data.Len())
	return s.journal.do(change{Snapshot: &snapshot{Meta: s.meta, Data: s.data.Bytes()}})
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	s.done = true
	return nil
}
