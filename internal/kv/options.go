package kv

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

const (
	// MaxKeyBytes is the longest user key.
	MaxKeyBytes = 64 << 10
	// MaxValueBytes is the largest string value.
	MaxValueBytes = 512 << 20
)

// Options configure a Store.
type Options struct {
	// FS is the file system; default vfs.Default.
	FS vfs.FS
	// Dir is the state's directory, created if missing. Required.
	Dir string
	// CacheBytes is for blocks read from files; default 64 MiB. It gives way while more than two memtables exist, so that
	// together they take CacheBytes + 2 MemTableBytes. A Sequencer takes a quarter of it on top, at most 16 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one memtable. Default 32 MiB.
	MemTableBytes int64
	// MemTables is how many may exist, those that wait for their flush included, before commits wait too. Default 4.
	MemTables int
	// StallLimit is how long a commit, a flush or repeated background errors may last before OnFatal; default 5 s.
	// Checkpoint and Close get four times as much, because they wait for work whose size grows with the state.
	StallLimit time.Duration
	// OnFatal is called once, when the state can no longer be trusted to go on: the group must be given up (R10). The
	// error is ErrCorrupt if the files are damaged (they must be replaced), ErrStalled if Pebble did not answer. It must
	// not block and must not call into the Store, except Close from another goroutine.
	OnFatal func(error)
	// OnMark receives a snapshot at the end of each frame that holds a wal.KindMark record. It must not block; the
	// receiver closes the snapshot. Nil: marks are skipped.
	OnMark func(Mark)
	// Logger receives Pebble's messages too; default: discard.
	Logger *slog.Logger
}

// Mark is a request, made through the log, to take a digest of the state at one position.
type Mark struct {
	Position wal.Position // end of the frame that holds the mark
	ID       string       // the record's payload
	Snapshot *Snapshot    // the state at Position; the receiver must Close it
}

// EnsureDefaults fills in what was left zero.
func (o *Options) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 32 << 20
	}
	if o.MemTables == 0 {
		o.MemTables = 4
	}
	if o.StallLimit == 0 {
		o.StallLimit = 5 * time.Second
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot be.
func (o *Options) Validate() error {
	switch {
	case o.Dir == "":
		return errors.New("state options: dir is empty")
	case o.CacheBytes < 0:
		return fmt.Errorf("state options: cache of %d bytes is negative", o.CacheBytes)
	case o.MemTableBytes < 64<<10 || o.MemTableBytes > 1<<30:
		return fmt.Errorf("state options: memtable of %d bytes is not within 64 KiB and 1 GiB", o.MemTableBytes)
	case o.MemTables < 2:
		return fmt.Errorf("state options: %d memtables: one is written while another is flushed", o.MemTables)
	case o.StallLimit < 0:
		return fmt.Errorf("state options: stall limit %v is negative", o.StallLimit)
	}
	return nil
}
