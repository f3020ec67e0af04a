package raftstore

import (
	"encoding/binary"
	"errors"
	"runtime"

	"github.com/hashicorp/raft"
)

// raftLog is the journal as hashicorp/raft sees it: its log and its stable values.
type raftLog struct{ *journal }

var (
	_ raft.LogStore    = raftLog{}
	_ raft.StableStore = raftLog{}
)

// errNotFound: raft compares the text.
var errNotFound = errors.New("not found")

// FirstIndex implements raft.LogStore.
func (l raftLog) FirstIndex() (index uint64, err error) {
	l.view(func(s *state) {
		if len(s.Logs) > 0 {
			index = s.Logs[0].Index
		}
	})
	return index, nil
}

// LastIndex implements raft.LogStore.
func (l raftLog) LastIndex() (index uint64, err error) {
	l.view(func(s *state) {
		if n := len(s.Logs); n > 0 {
			index = s.Logs[n-1].Index
		}
	})
	return index, nil
}

// GetLog implements raft.LogStore.
func (l raftLog) GetLog(index uint64, log *raft.Log) error {
	err := raft.ErrLogNotFound
	l.view(func(s *state) {
		if at, found := s.find(index); found {
			e := s.Logs[at]
			*log = raft.Log{Index: e.Index, Term: e.Term, Type: e.Type, Data: e.Data, Extensions: e.Extra, AppendedAt: e.Appended}
			err = nil
		}
	})
	return err
}

// StoreLog implements raft.LogStore.
func (l raftLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l raftLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	var es []entry
	for _, g := range logs {
		es = append(es, entry{Index: g.Index, Term: g.Term, Type: g.Type, Data: g.Data, Extra: g.Extensions, Appended: g.AppendedAt.Round(0)})
	}
	return l.do(change{Logs: es})
}

// DeleteRange implements raft.LogStore.
func (l raftLog) DeleteRange(low, high uint64) error { return l.do(change{Cut: &[2]uint64{low, high}}) }

// Set implements raft.StableStore.
func (l raftLog) Set(key, val []byte) error {
	return l.do(change{Values: map[string][]byte{string(key): val}})
}

// Get implements raft.StableStore.
func (l raftLog) Get(key []byte) (val []byte, err error) {
	err = errNotFound
	l.view(func(s *state) {
		if v, ok := s.Values[string(key)]; ok {
			val, err = v, nil
		}
	})
	return val, err
}

// SetUint64 implements raft.StableStore. Raft panics when its term cannot be stored. The node is leaving by itself then, with the reason (do has
// told it), and has data to close: so only raft's goroutine ends here, as if it never came back from a disk that hangs.
func (l raftLog) SetUint64(key []byte, val uint64) error {
	if err := l.Set(key, binary.LittleEndian.AppendUint64(nil, val)); err != nil {
		runtime.Goexit()
	}
	return nil
}

// GetUint64 implements raft.StableStore.
func (l raftLog) GetUint64(key []byte) (uint64, error) {
	v, err := l.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, errors.New("not a number")
	}
	return binary.LittleEndian.Uint64(v), nil
}
