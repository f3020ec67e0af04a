package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// Source makes checkpoints: a directory with the state at one exact position. internal/kv implements it.
type Source interface {
	// Checkpoint writes into dir, which does not exist yet, and returns the position of what it wrote.
	Checkpoint(dir string) (wal.Position, error)
}

// Progress tells how far the hashing of a new snapshot is.
type Progress struct {
	ID          string
	Done, Total int64 // bytes
}

// ManagerOptions configure a Manager.
type ManagerOptions struct {
	// FS is the file system; default vfs.Default.
	FS vfs.FS
	// Dir is the staging directory, on the file system of the state. It belongs to the Manager, which empties it.
	Dir string
	// Cluster and Group are written into the manifests.
	Cluster, Group string
	// Source makes the checkpoints.
	Source Source
	// LogStart is the LSN just before the first record of the log. A snapshot below it is of no use to a receiver, because streaming
	// could not go on from there; it is not handed out again. Nil: all are of use.
	LogStart func() wal.LSN
	// Keep is for how long an unused snapshot stays, for a receiver to resume; default 10 min.
	Keep time.Duration
	// MaxKept bounds the snapshots on disk; when all of them are in use, Acquire of another waits. Default 2.
	MaxKept int
	// Fresh is up to which age a snapshot is handed out to a receiver that did not ask for it; default 2 min.
	Fresh time.Duration
	// OnProgress, if set, is called while a snapshot is made, about once a MiB, from its goroutine.
	OnProgress func(Progress)
	// Logger defaults to discard.
	Logger *slog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *ManagerOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.LogStart == nil {
		o.LogStart = func() wal.LSN { return 0 }
	}
	if o.Keep == 0 {
		o.Keep = 10 * time.Minute
	}
	if o.MaxKept == 0 {
		o.MaxKept = 2
	}
	if o.Fresh == 0 {
		o.Fresh = 2 * time.Minute
	}
	if o.OnProgress == nil {
		o.OnProgress = func(Progress) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot be.
func (o *ManagerOptions) Validate() error {
	switch {
	case o.Dir == "" || o.Source == nil:
		return errors.New("snapshot options: dir and source are required")
	case o.Cluster == "" || o.Group == "":
		return errors.New("snapshot options: cluster and group are required")
	case o.Keep < 0 || o.MaxKept < 1 || o.Fresh < 0:
		return fmt.Errorf("snapshot options: keep %v, at most %d, fresh %v", o.Keep, o.MaxKept, o.Fresh)
	}
	return nil
}
