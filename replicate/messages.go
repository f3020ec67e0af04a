package replicate

import (
	"encoding/json"
	"fmt"

	"repld/internal/strict"
	"repld/wal"
)

// hello opens a log stream: who asks, for what, and where its log stands.
type hello struct {
	Group   string       `json:"group"`
	Node    string       `json:"node"`
	Epoch   wal.Epoch    `json:"epoch"` // highest epoch that the standby has seen
	Start   wal.Position `json:"start"`
	End     wal.Position `json:"end"`
	Applied wal.Position `json:"applied"`
	Voter   bool         `json:"voter"`
	Purpose Purpose      `json:"purpose"`
	Until   wal.Position `json:"until,omitzero"` // of a fast-forward, for the log only
}

// welcome says under which epoch the stream runs.
type welcome struct {
	Node      string      `json:"node"`
	Epoch     wal.Epoch   `json:"epoch"`
	Holder    string      `json:"holder"`
	Sync      wal.SyncSet `json:"sync"` // only meant for Follow
	Committed wal.LSN     `json:"committed"`
	End       wal.LSN     `json:"end"` // a follower that reaches it becomes a voter
}

// reject ends a stream.
type reject struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Epoch   wal.Epoch `json:"epoch"` // highest epoch that the rejecting side has seen
	Holder  string    `json:"holder"`
}

type probe struct {
	LSN wal.LSN `json:"lsn"`
}

type probed struct {
	At wal.Position `json:"at"`
	OK bool         `json:"ok"` // false: the log does not reach back that far any more
}

// begin says after which position frames will follow. Revoke says that the standby lost records that it had acked: it
// must not count as a voter until it has Target (R11, H2).
type begin struct {
	From   wal.Position `json:"from"`
	Revoke bool         `json:"revoke"`
	Target wal.LSN      `json:"target"`
}

type ready struct {
	At wal.Position `json:"at"`
}

type rebuild struct {
	Reason string `json:"reason"`
}

type syncNotice struct {
	Epoch wal.Epoch   `json:"epoch"`
	Sync  wal.SyncSet `json:"sync"`
}

type want struct {
	Files []string `json:"files"`
}

type file struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

type resumed struct {
	Start   wal.Position `json:"start"`
	End     wal.Position `json:"end"`
	Applied wal.Position `json:"applied"`
}

func encodeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// decodeJSON is strict: one object, no unknown fields, nothing behind it. Sizes were limited before b was read.
func decodeJSON[T any](b []byte) (T, error) {
	var v T
	if err := strict.Decode(b, &v); err != nil {
		return v, fmt.Errorf("%w: %T: %w", ErrProtocol, v, err)
	}
	return v, nil
}

func (h hello) check() error {
	if err := checkNames(h.Group, h.Node); err != nil {
		return fmt.Errorf("%w: hello: %w", ErrProtocol, err)
	}
	if h.Purpose != Follow && h.Purpose != FastForward {
		return fmt.Errorf("%w: hello: purpose %q", ErrProtocol, h.Purpose)
	}
	if h.Start.LSN > h.End.LSN || (h.Start.LSN == h.End.LSN && h.Start != h.End) {
		return fmt.Errorf("%w: hello: log from %v to %v", ErrProtocol, h.Start, h.End)
	}
	return nil
}

func (w welcome) check() error {
	if err := checkNames(w.Node); err != nil {
		return fmt.Errorf("%w: welcome: %w", ErrProtocol, err)
	}
	if w.Committed > w.End {
		return fmt.Errorf("%w: welcome: committed %d above end %d", ErrProtocol, w.Committed, w.End)
	}
	return nil
}
