package admin

import (
	"context"
	"time"

	"repld/wal"
)

// PathCheckpoints lists the checkpoints that a node keeps: POST CheckpointsRequest → Events; Result is a CheckpointsResult.
const PathCheckpoints = "/v1/checkpoints"

// CheckpointsRequest asks Node (empty: the node that is asked) for its checkpoints, after making one if Create is set.
type CheckpointsRequest struct {
	Node   string `json:"node,omitempty"`
	Create bool   `json:"create,omitempty"`
}

// CheckpointsResult lists checkpoints, the newest first.
type CheckpointsResult struct {
	Node        string       `json:"node"`
	Extra       int64        `json:"extra_bytes"` // that they take beyond the state itself
	Checkpoints []Checkpoint `json:"checkpoints"`
}

// Checkpoint is one that a node keeps.
type Checkpoint struct {
	ID       string       `json:"id"`
	Position wal.Position `json:"position"`
	Created  time.Time    `json:"created"`
	Files    int          `json:"files"`
	Bytes    int64        `json:"bytes"`
	Digest   wal.Hash     `json:"digest,omitempty"` // absent while it is being computed
	Keys     int64        `json:"keys,omitempty"`
	Dir      string       `json:"dir"`
	Rewind   bool         `json:"rewind"` // the log reaches back to it: the node can be rewound to it
}

// CheckpointStatus sums them up.
type CheckpointStatus struct {
	Count   int           `json:"count"`
	Every   time.Duration `json:"every_ns"` // 0: only on request
	Newest  wal.Position  `json:"newest"`
	Created time.Time     `json:"created,omitzero"` // of the newest
	Extra   int64         `json:"extra_bytes"`
}

// Checkpoints lists the checkpoints of a node.
func (c *Client) Checkpoints(ctx context.Context, req CheckpointsRequest, on func(Event)) (CheckpointsResult, error) {
	end, err := c.stream(ctx, PathCheckpoints, req, on)
	if end.Checkpoints == nil {
		return CheckpointsResult{}, noResult(c.name, err)
	}
	return *end.Checkpoints, err
}
