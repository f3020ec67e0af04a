package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
)

// Kinds of streams that Options.Dial is asked for and Store.Handle is given.
const (
	KindRaft = "raft"  // hashicorp/raft's own requests
	KindCall = "token" // one question to another voter, one answer
)

// Options configure a Store. The zero value of a field means its default.
type Options struct {
	FS     vfs.FS   // default vfs.Default
	Dir    string   // existing and itself durable; nothing else lies there. Required
	Node   string   // name of this voter, required
	Voters []string // names of all voters, this one too, the same list everywhere; required
	// Prefer are voters that should lead if they can: those without data of their own (witnesses). Default none.
	Prefer []string
	// Dial opens a stream of a kind to another voter, and fails at once when there is no connection to it. Required with other voters.
	Dial func(ctx context.Context, voter, kind string) (net.Conn, error)
	// Connected reports whether there is a connection to a voter, and no sign that it is gone: leadership is handed to such a one. Default: always.
	Connected func(voter string) bool
	// OnFatal is told, at most once, that the journal's disk failed: the node has to leave (R10). Default: nothing.
	OnFatal func(error)

	Election   time.Duration // silence of the leader before another voter asks to be elected, default 600 ms
	Timeout    time.Duration // longest that Load and CompareAndSet take, default 10 s
	MaxJournal int64         // bytes at which a journal is written anew, default 1 MiB
	Keep       uint64        // raft log entries kept behind a snapshot, default 64; a snapshot is taken each 2·Keep entries
	Logger     *slog.Logger  // default discards
}

// EnsureDefaults fills what is unset.
func (o *Options) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Election == 0 {
		o.Election = 600 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxJournal == 0 {
		o.MaxJournal = 1 << 20
	}
	if o.Keep == 0 {
		o.Keep = 64
	}
	if o.Connected == nil {
		o.Connected = func(string) bool { return true }
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot work.
func (o *Options) Validate() error {
	switch {
	case o.Dir == "" || o.Node == "":
		return fmt.Errorf("raft store: dir %q, node %q: %w", o.Dir, o.Node, failover.ErrInvalid)
	case !slices.Contains(o.Voters, o.Node):
		return fmt.Errorf("raft store: node %s is not among the voters %v: %w", o.Node, o.Voters, failover.ErrInvalid)
	case len(o.Voters) > 1 && o.Dial == nil:
		return fmt.Errorf("raft store: voters %v without a way to reach them: %w", o.Voters, failover.ErrInvalid)
	case o.Election < 10*time.Millisecond || o.Timeout <= 0 || o.MaxJournal <= 0:
		return fmt.Errorf("raft store: election %s, timeout %s, journal of %d bytes: %w", o.Election, o.Timeout, o.MaxJournal, failover.ErrInvalid)
	}
	for i, v := range o.Voters {
		if v == "" || len(v) > maxName || slices.Contains(o.Voters[:i], v) {
			return fmt.Errorf("raft store: voter %q of %v: %w", v, o.Voters, failover.ErrInvalid)
		}
	}
	return nil
}
