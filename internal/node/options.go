package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/certs"
	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// Mode says how a standby applies the log.
type Mode string

// Modes of a standby.
const (
	ModeHot    Mode = "hot"    // applies what is committed at once
	ModeLagged Mode = "lagged" // receives and fsyncs at once, applies after ApplyDelay
)

// SyncPolicy says what the active does when fewer standbys ack than SyncOptions.K demands.
type SyncPolicy string

// Policies of a degraded sync set.
const (
	PolicyBlock  SyncPolicy = "block"  // writes wait: nothing is acked that was not promised
	PolicyShrink SyncPolicy = "shrink" // after ShrinkAfter the sync set is made smaller, recorded in the token store first
)

// SyncOptions are what a commit needs besides the active.
type SyncOptions struct {
	K           int           // acks that a commit needs; 0 = asynchronous. Default 0
	Members     []string      // standbys whose acks count. Default: all peers
	Policy      SyncPolicy    // default block
	ShrinkAfter time.Duration // how long to wait before shrinking. Default 10 s
}

// Peer is another node of the cluster.
type Peer struct {
	Name   string
	Addr   string // host:port of its peer listener
	Client string // host:port where its clients reach it, for ROLE, INFO and the Sentinel API; may be empty: then it is what the peer says
	// Heartbeat is where it takes heartbeats, "" for Addr.
	Heartbeat string
	// Witness: it votes and holds no data.
	Witness bool
}

// Options configure a Node. The zero value of a field means its default.
type Options struct {
	Cluster string // required; the same on all nodes
	Name    string // required
	Group   string // default "default"
	Dir     string // data directory, required
	FS      vfs.FS // default vfs.Default
	Version string // of the program, for status

	Peers  []Peer                                                   // all other nodes
	TLS    *certs.Identity                                          // of the connections between nodes; nil: plain text
	Listen func() (net.Listener, error)                             // for peers; required with peers
	Dial   func(ctx context.Context, addr string) (net.Conn, error) // default TCP

	// ListenHeartbeat, if set, is a listener of its own for heartbeats.
	ListenHeartbeat func() (net.Listener, error)
	Failover        FailoverOptions
	Probe           ProbeOptions
	Clock           func() failover.Mono // of leases. Default CLOCK_BOOTTIME

	Mode         Mode          // default hot
	ApplyDelay   time.Duration // lagged only
	StandbyReads bool          // serve reads, possibly stale, as a standby
	Sync         SyncOptions
	Token        failover.Store // default: see Raft
	CloseToken   func() error   // closes Token; may be nil
	Raft         *RaftOptions   // without Token: the token is in a raft log that all nodes and witnesses vote on. Default nil: a file store in Dir

	Archive ArchiveOptions
	// Ship makes a node without peers a standby that lives from an archive alone.
	Ship ShipOptions
	// Checkpoints that this node keeps of its state, for rewinding.
	Checkpoints CheckpointOptions
	Hooks       HookOptions
	Client      server.Options // Backend and Logger are filled in
	Reach       string         // host:port where clients reach this node over TCP, told to clients of all nodes; "" if they cannot
	Sentinel    SentinelOptions
	Forward     bool // as a standby, have the active execute what clients on unix sockets send

	Codec         wal.Codec     // of new frames; default S2
	SegmentBytes  int64         // default: wal's
	MaxFrameBytes uint32        // default: wal's
	MemoryTail    int64         // bytes of log kept in memory for standbys; default: wal's
	QueueBytes    int           // bytes of records that may wait for the log writer, and that may be in the log uncommitted; default 64 MiB
	LogBudget     int64         // bytes of log kept on disk; default 1 GiB
	CacheBytes    int64         // block cache of the state; default: kv's
	MemTableBytes int64         // default: kv's
	StallLimit    time.Duration // longest that the state or the log may stand still before the node stops. Default 5 s
	BulkRate      int64         // bytes/s for snapshots and catch-up, 0 = unlimited
	DigestRate    int64         // bytes/s for state digests; 0 = as fast as clients let it (kv.Snapshot.YieldTo)

	Heartbeat     time.Duration // on log streams. Default 100 ms
	Gossip        time.Duration // exchange of epochs between nodes. Default 200 ms
	PauseLimit    time.Duration // standing still for longer makes an active ask its peers before it acks. Default 400 ms
	CommitTimeout time.Duration // how long a write waits for its acks before its client is told -UNKNOWN. Default 10 s
	Trim          time.Duration // interval of log trimming. Default 5 s

	// DiskReserve is how many bytes of the disk are held in reserve: writes are refused before the disk is full, and the reserve lets the node stop cleanly. Default 0: none.
	DiskReserve int64
	ScrubRate   int64         // bytes/s that the scrub of log and state reads; negative: unlimited. Default 8 MiB/s
	ScrubEvery  time.Duration // between two scrubs. Default 6 h
	Verify      VerifyOptions
	Drill       DrillOptions
	RepairWait  time.Duration // how long a node whose log is damaged looks for a peer that can repair it before it refuses to start. Default 30 s

	Logger   *slog.Logger // default: discard
	Observer Observer     // for tests; default: none

	repairMesh func() (*replicate.Mesh, error) // of a node that is not open yet
}

// EnsureDefaults fills in the fields that are zero.
func (o *Options) EnsureDefaults() {
	def(&o.Group, "default")
	def(&o.Mode, ModeHot)
	def(&o.Sync.Policy, PolicyBlock)
	def(&o.Sync.ShrinkAfter, 10*time.Second)
	def(&o.Codec, wal.CodecS2)
	def(&o.LogBudget, 1<<30)
	def(&o.QueueBytes, wal.DefaultQueueBytes)
	def(&o.StallLimit, 5*time.Second)
	def(&o.Heartbeat, 100*time.Millisecond)
	def(&o.Gossip, 200*time.Millisecond)
	def(&o.PauseLimit, 400*time.Millisecond)
	def(&o.CommitTimeout, 10*time.Second)
	def(&o.Trim, 5*time.Second)
	o.Failover.ensureDefaults()
	o.Probe.ensureDefaults()
	if o.Clock == nil {
		o.Clock = bootTime
	}
	def(&o.RepairWait, 30*time.Second)
	def(&o.ScrubRate, 8<<20)
	def(&o.ScrubEvery, 6*time.Hour)
	o.Archive.EnsureDefaults()
	def(&o.Ship.Every, 5*time.Second)
	o.Verify.ensureDefaults()
	def(&o.Drill.Timeout, 10*time.Second)
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	if o.Sync.Members == nil {
		for _, p := range o.Peers {
			if !p.Witness {
				o.Sync.Members = append(o.Sync.Members, p.Name)
			}
		}
	}
}

// Validate reports everything that cannot be worked with.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Cluster == "" || o.Name == "" || o.Dir == "" {
		bad("node options: cluster, name and dir are required")
	}
	if len(o.Peers) > 0 && o.Listen == nil {
		bad("node options: peers without a listener for them")
	}
	names, data := map[string]bool{o.Name: true}, map[string]bool{o.Name: true}
	for _, p := range o.Peers {
		if names[p.Name] {
			bad("node options: peer %q is named twice or is this node itself", p.Name)
		}
		names[p.Name], data[p.Name] = true, !p.Witness
	}
	for _, m := range o.Sync.Members {
		if !data[m] {
			bad("node options: sync member %q is not a node with data", m)
		}
	}
	if n := len(o.syncMembers()); o.Sync.K < 0 || o.Sync.K > n {
		bad("node options: sync k=%d of %d members besides this node", o.Sync.K, n)
	}
	if o.Ship.on() && (len(o.Peers) > 0 || o.Ship.Of == "" || o.Ship.Of == o.Cluster) {
		bad("node options: a log-shipping standby has no peers, and a cluster name other than that of its archive, %q", o.Ship.Of)
	}
	o.validateFailover(bad)
	if (o.Mode == ModeLagged) != (o.ApplyDelay > 0) {
		bad("node options: mode %q with apply delay %s", o.Mode, o.ApplyDelay)
	}
	return errors.Join(errs...)
}

// syncMembers are the members of the sync set while this node is active: the list may be the same on all nodes, and the active itself never counts.
func (o *Options) syncMembers() []string {
	return slices.DeleteFunc(slices.Clone(o.Sync.Members), func(m string) bool { return m == o.Name })
}

func (o *Options) meshPeers() []replicate.Peer {
	var ps []replicate.Peer
	for _, p := range o.Peers {
		ps = append(ps, replicate.Peer{Name: p.Name, Addr: p.Addr, LinkAddr: p.Heartbeat})
	}
	return ps
}

// peerNames lists all other nodes.
func (o *Options) peerNames() []string {
	names := []string{}
	for _, p := range o.Peers {
		names = append(names, p.Name)
	}
	return names
}

// dataPeers lists the other nodes that hold data.
func (o *Options) dataPeers() []string {
	names := []string{}
	for _, p := range o.Peers {
		if !p.Witness {
			names = append(names, p.Name)
		}
	}
	return names
}

// client returns where clients reach a node, "" if it is not configured.
func (o *Options) client(node string) string {
	for _, p := range o.Peers {
		if p.Name == node {
			return p.Client
		}
	}
	return ""
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
