package replicate

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/snapshot"
	"repld/wal"
)

// ReceiverOptions configures a Receiver.
type ReceiverOptions struct {
	Group string
	Node  string
	Log   *wal.Log
	Fence Fence
	// Applied returns the position of the state. Required; must be cheap.
	Applied func() wal.Position
	// Voter tells whether this node counts for data; SetVoter persists it before it returns (R11). Required.
	Voter    func() bool
	SetVoter func(bool) error
	// OnCommitted is told the committed LSN, never above what is durable here, never falling on one stream, only when
	// our log is a part of the source's. at is the source's wall clock when it said so. It must not block.
	OnCommitted func(lsn wal.LSN, at time.Time)
	// OnAppended is told the end of our log after each append, durable. It must not block.
	OnAppended func(end wal.Position)
	// OnDiverged is told of each suffix that was saved aside and cut (R9).
	OnDiverged func(d wal.Diverged)
	// DivergedDir is where suffixes are saved.
	DivergedDir string

	// FS, IncomingDir and StagedDir are where a snapshot is received, and where it is renamed to once complete.
	FS          vfs.FS
	IncomingDir string
	StagedDir   string
	// Install makes the snapshot that lies in dir the state of this node and resets the log to m.Position, saving what
	// the new history may not contain: records up to known are in it (wal.SaveOptions.Known, R9). On return Log.End()
	// is m.Position. nil: snapshots are refused.
	Install func(ctx context.Context, m snapshot.Manifest, dir string, known wal.LSN) error
	// Rewind is called before the log's tail is cut: the node is to apply nothing above to from now on, whatever
	// OnCommitted said earlier, and returns what is applied once nothing is being applied any more. nil: Applied is used.
	Rewind func(to wal.Position) (applied wal.Position, err error)

	// Rebuild says why this node needs a snapshot although its log is whole (its state is damaged), "" if it does not. nil: never.
	Rebuild func() string

	// IdleTimeout is how long the source may say nothing, in the middle of a message too (default 10 s).
	IdleTimeout time.Duration
	// WriteTimeout bounds each write (default 10 s).
	WriteTimeout time.Duration
	// BatchBytes bounds the frames that are appended with one fsync (default 8 MiB).
	BatchBytes int
	// MaxFrameBytes bounds a frame (default wal.DefaultMaxFrameBytes).
	MaxFrameBytes uint32
	// Logger (default: discard).
	Logger *slog.Logger
}

// EnsureDefaults fills what was left out.
func (o *ReceiverOptions) EnsureDefaults() {
	def(&o.IdleTimeout, 10*time.Second)
	def(&o.WriteTimeout, 10*time.Second)
	def(&o.BatchBytes, 8<<20)
	def(&o.MaxFrameBytes, wal.DefaultMaxFrameBytes)
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.OnCommitted == nil {
		o.OnCommitted = func(wal.LSN, time.Time) {}
	}
	if o.OnAppended == nil {
		o.OnAppended = func(wal.Position) {}
	}
	if o.Rebuild == nil {
		o.Rebuild = func() string { return "" }
	}
	if o.OnDiverged == nil {
		o.OnDiverged = func(wal.Diverged) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate names the first option that is missing.
func (o *ReceiverOptions) Validate() error {
	if err := checkNames(o.Group, o.Node); err != nil {
		return err
	}
	if o.Log == nil || o.Fence == nil || o.Applied == nil || o.Voter == nil || o.SetVoter == nil {
		return errors.New("receiver needs Log, Fence, Applied, Voter and SetVoter")
	}
	if o.DivergedDir == "" {
		return errors.New("receiver needs DivergedDir: a suffix is never cut without being saved")
	}
	if o.Install != nil && (o.IncomingDir == "" || o.StagedDir == "") {
		return errors.New("receiver needs IncomingDir and StagedDir to install snapshots")
	}
	return nil
}
