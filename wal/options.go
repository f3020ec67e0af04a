package wal

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Limits and defaults. Sizes are in bytes.
const (
	// MaxFrameBytes is the format's own limit for the stored and for the raw payload of a frame.
	MaxFrameBytes = 1 << 30
	// DefaultMaxFrameBytes bounds the stored and the raw payload of a frame unless Options say otherwise.
	DefaultMaxFrameBytes = 512<<20 + 1<<20
	// DefaultSegmentBytes is the size of a segment file.
	DefaultSegmentBytes = 64 << 20
	// DefaultMemoryBytes is what the log keeps in memory for readers that follow it.
	DefaultMemoryBytes = 32 << 20
	// DefaultQueueBytes is how much may wait for a Writer before Admit blocks.
	DefaultQueueBytes = 64 << 20
	// DefaultFrameBytes is the raw size at which a Writer closes a frame.
	DefaultFrameBytes = 1 << 20

	minSegmentBytes = 4 << 10
	maxNameBytes    = 72
	defaultSpares   = 2
)

// Identity names the log: a segment of another identity is refused (ErrForeign).
type Identity struct {
	Cluster     string   // 1 to 72 bytes
	Group       string   // 1 to 72 bytes
	Incarnation [16]byte // of the node that owns the directory
}

func (id Identity) validate() error {
	for name, v := range map[string]string{"cluster": id.Cluster, "group": id.Group} {
		if v == "" || len(v) > maxNameBytes {
			return fmt.Errorf("%s name of %d bytes: want 1 to %d", name, len(v), maxNameBytes)
		}
	}
	return nil
}

// Options configure a Log.
type Options struct {
	FS       vfs.FS   // all I/O goes through it; default vfs.Default
	Dir      string   // directory of this log alone; created if missing
	Identity Identity // must be the one that the directory was created with

	// SegmentBytes is the size of segment files; default 64 MiB. Use 64 KiB or so on vfs.MemFS, whose sync copies whole files.
	SegmentBytes int64
	// MaxFrameBytes bounds the stored and the raw payload of a frame; default 513 MiB, at most 1 GiB.
	MaxFrameBytes uint32
	// MemoryBytes bounds the newest frames (with their decompressed payloads) kept for readers; default 32 MiB.
	MemoryBytes int64
	// Spares is how many trimmed segments are kept for reuse; default 2, negative for none.
	Spares int
	// KnownDurable is the highest LSN that other records (state, peers) prove durable here. Recovery never ends below it (R8).
	KnownDurable LSN
	// Logger gets what recovery and background work have to say; default: nothing is logged.
	Logger *slog.Logger
}

// EnsureDefaults fills what is unset.
func (o *Options) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.MaxFrameBytes == 0 {
		o.MaxFrameBytes = DefaultMaxFrameBytes
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = DefaultMemoryBytes
	}
	if o.Spares == 0 {
		o.Spares = defaultSpares
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first setting that cannot work.
func (o *Options) Validate() error {
	if o.Dir == "" {
		return fmt.Errorf("log directory is not set")
	}
	if err := o.Identity.validate(); err != nil {
		return err
	}
	if o.SegmentBytes < minSegmentBytes {
		return fmt.Errorf("segment size %d: want at least %d bytes", o.SegmentBytes, minSegmentBytes)
	}
	if o.MaxFrameBytes > MaxFrameBytes {
		return fmt.Errorf("frame limit %d: want at most %d bytes", o.MaxFrameBytes, MaxFrameBytes)
	}
	if o.MemoryBytes < 0 {
		return fmt.Errorf("memory for readers %d: want 0 or more bytes", o.MemoryBytes)
	}
	return nil
}

// FrameTimes is what a frame of a Writer took until it was durable here.
type FrameTimes struct {
	Last    LSN
	Queued  time.Duration // from its first record to the frame being made
	Encoded time.Duration // checksum and compression
	Synced  time.Duration // write and sync
}

// WriterOptions configure a Writer.
type WriterOptions struct {
	// Epoch goes into every frame; it must not be below the epoch of the log's end.
	Epoch Epoch
	// Codec compresses frames; default CodecS2. What does not shrink is stored raw.
	Codec Codec
	// Committed returns the committed LSN known now; it goes into the frame header. Default: always 0 (unknown).
	Committed func() LSN
	// OnDurable is called after each sync, from the writer goroutine, with the position that is durable now. It must not block.
	OnDurable func(Position)
	// OnFrame is called before OnDurable, from the writer goroutine, with what took how long. It must not block.
	OnFrame func(FrameTimes)
	// OnError is called once, from the writer goroutine, when a write or sync failed (R10). It must not block.
	OnError func(error)
	// QueueBytes is how much may wait before Admit blocks; default 64 MiB.
	QueueBytes int
	// Pace is how long after a frame was begun the next one waits for that frame's records to be through (Writer.Progress), unless
	// a whole frame has gathered. It makes few large frames out of many small ones while standbys sync; 0, the default, never waits.
	Pace time.Duration
	// Gather is how long a frame waits, at most, until as many records are there as the frame before had: callers that were told together come again
	// together, and without it the first of them makes a frame alone that all others wait behind. While that does not pay, it is done seldom; 0, the
	// default, never waits.
	Gather time.Duration
	// FrameBytes is the raw size at which a frame is closed; default 1 MiB. A larger record is a frame of its own.
	FrameBytes int
	// Now is the wall clock for frame headers; default time.Now.
	Now func() time.Time
}
