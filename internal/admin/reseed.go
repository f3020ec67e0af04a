package admin

import (
	"context"
	"time"

	"repld/wal"
)

// PathReseed gives a standby another state: POST ReseedRequest → Events; Result is a ReseedResult.
const PathReseed = "/v1/reseed"

// ReseedRequest asks Node (empty: the node that is asked), a standby, to replace its state: by the active's, or by one that is made from its archive.
type ReseedRequest struct {
	Node    string `json:"node,omitempty"`
	Archive bool   `json:"archive,omitempty"` // take it from the archive; from the active if that does not work
	Only    bool   `json:"only,omitempty"`    // with Archive: if that does not work, change nothing
	Reason  string `json:"reason,omitempty"`
}

// ReseedResult is a state that was replaced.
type ReseedResult struct {
	Node     string       `json:"node"`
	From     string       `json:"from"` // "archive", or the active's name
	Backup   string       `json:"backup,omitempty"`
	Position wal.Position `json:"position"` // where the new state began; what is behind was applied from the log
	Applied  wal.Position `json:"applied"`
	Note     string       `json:"note,omitempty"` // why it did not come from the archive
	Seconds  float64      `json:"seconds"`
}

// SeedStatus is where a node's state came from in this life of its process, or is coming from.
type SeedStatus struct {
	From     string       `json:"from"`               // "archive", or the name of the node that sent it
	Snapshot string       `json:"snapshot,omitempty"` // id of the backup or snapshot
	Position wal.Position `json:"position"`           // of the state
	Archived wal.LSN      `json:"archived,omitempty"` // up to here the log came from the archive too
	At       time.Time    `json:"at,omitzero"`
	Running  bool         `json:"running,omitempty"`
	Bytes    int64        `json:"bytes,omitempty"` // while running: that are here, of Total
	Total    int64        `json:"total,omitempty"`
	Note     string       `json:"note,omitempty"` // why it does not come, or not all of it, from the archive
}

// Reseed has a standby replace its state.
func (c *Client) Reseed(ctx context.Context, req ReseedRequest, on func(Event)) (ReseedResult, error) {
	end, err := c.stream(ctx, PathReseed, req, on)
	if end.Reseed == nil {
		return ReseedResult{}, noResult(c.name, err)
	}
	return *end.Reseed, err
}
