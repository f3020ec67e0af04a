package admin

import (
	"context"
	"time"

	"repld/wal"
)

// PathBackup makes a backup: POST BackupRequest → Events; Result is a BackupResult.
const PathBackup = "/v1/backup"

// BackupRequest asks Node (empty: the node that is asked) to copy its state into its archive.
type BackupRequest struct {
	Node string `json:"node,omitempty"`
	Note string `json:"note,omitempty"`
}

// BackupResult is a backup that was made.
type BackupResult struct {
	ID       string       `json:"id"`
	Node     string       `json:"node"`
	URL      string       `json:"url"`
	Position wal.Position `json:"position"`
	Digest   wal.Hash     `json:"digest"`
	Keys     int64        `json:"keys"`
	Files    int          `json:"files"`
	Bytes    int64        `json:"bytes"`
	Sent     int64        `json:"sent"` // bytes that the archive did not have
	Seconds  float64      `json:"seconds"`
}

// ArchiveStatus is how far the log is archived.
type ArchiveStatus struct {
	URL        string       `json:"url"`
	Archives   bool         `json:"archives"` // this node does it now
	Archived   wal.Position `json:"archived"`
	LagRecords uint64       `json:"lag_records"`
	LagSeconds float64      `json:"lag_seconds"` // age of the oldest committed record that is not archived
	Gap        wal.LSN      `json:"gap,omitempty"`
	Error      string       `json:"error,omitempty"`
	Since      time.Time    `json:"since,omitzero"` // of the error
}

// Backup has a node copy its state into its archive.
func (c *Client) Backup(ctx context.Context, req BackupRequest, on func(Event)) (BackupResult, error) {
	end, err := c.stream(ctx, PathBackup, req, on)
	if end.Backup == nil {
		return BackupResult{}, noResult(c.name, err)
	}
	return *end.Backup, err
}
