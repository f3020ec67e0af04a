package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// RingOptions configure a Ring.
type RingOptions struct {
	// FS is the file system; default vfs.Default.
	FS vfs.FS
	// Dir is the ring's directory, on the file system of the state. It belongs to the ring.
	Dir string
	// Live is the state's directory: what a checkpoint shares with it takes no space of its own. Required.
	Live string
	// Cluster and Group are written into the manifests.
	Cluster, Group string
	// Source makes the checkpoints.
	Source Source
	// Digest digests the rows of the state in a directory and counts its keys. Nil: manifests have no digest.
	Digest func(ctx context.Context, dir string) (digest wal.Hash, keys int64, err error)
	// Count is how many checkpoints are kept; default 3.
	Count int
	// Age is how old a checkpoint may get, the newest one excepted; 0 = any.
	Age time.Duration
	// Bytes bounds what the checkpoints take beyond what the state takes itself; 0 = no bound.
	Bytes int64
	// Rate is how many bytes a second are read to hash a new checkpoint's files; 0 = unlimited.
	Rate int64
	// Logger defaults to discard.
	Logger *slog.Logger
}

// EnsureDefaults fills in what was left zero.
func (o *RingOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Count == 0 {
		o.Count = 3
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot be.
func (o *RingOptions) Validate() error {
	switch {
	case o.Dir == "" || o.Live == "" || o.Source == nil:
		return errors.New("ring options: dir, live and source are required")
	case o.Cluster == "" || o.Group == "":
		return errors.New("ring options: cluster and group are required")
	case o.Count < 1 || o.Age < 0 || o.Bytes < 0 || o.Rate < 0:
		return fmt.Errorf("ring options: count %d, age %v, bytes %d, rate %d", o.Count, o.Age, o.Bytes, o.Rate)
	}
	return nil
}
