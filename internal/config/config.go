package config

import (
	"io/fs"
	"time"
)

// Mode says when a standby applies what it has received.
type Mode string

// Modes of a node. Both fsync and acknowledge the log at once.
const (
	ModeHot    Mode = "hot"    // applies committed frames at once
	ModeLagged Mode = "lagged" // applies them apply_delay after they were written
)

// Role says whether a node holds data.
type Role string

// Roles of a node.
const (
	RoleData    Role = "data"    // holds the state; may become active
	RoleWitness Role = "witness" // votes on the token and answers heartbeats; holds no data
)

// Token stores.
const (
	StoreFile = "file" // in each node's folder, or a folder that all share
	StoreRaft = "raft" // in the nodes and witnesses themselves, by majority
	StoreEtcd = "etcd" // in an etcd cluster
)

// Policies for a sync set that cannot be met.
const (
	PolicyBlock  = "block"  // writes wait, then are answered with an unknown outcome
	PolicyShrink = "shrink" // after shrink_after the set is reduced, said loudly
)

// Config is everything that one repld process is told. Sizes are bytes; paths are absolute after Load.
type Config struct {
	Cluster  string `key:"cluster" doc:"name of the cluster, the same on every node (a-z, 0-9, -, at most 32)"`
	Node     string `key:"node" doc:"name of this node, unique in the cluster (a-z, 0-9, -, at most 32)"`
	Data     string `key:"data" kind:"path" doc:"folder of this node's log and state; one node a folder"`
	Listen   string `key:"listen" doc:"address that the other nodes connect to (default: this node's own address in peers, else 127.0.0.1:7600)"`
	Announce string `key:"announce" doc:"address shown to people when it differs from listen"`
	Peers    []Peer `key:"peers" doc:"every node of the cluster, this one too, so that the list is the same on all of them; as a flag: a=host:port,b=host:port"`
	Insecure bool   `key:"insecure" default:"false" doc:"consent to traffic between nodes in plain text; has to be written out when peers are set without tls"`

	Role Role `key:"role" default:"data" oneof:"data witness" doc:"witness: votes on the token and answers heartbeats, holds no data, serves no clients"`

	Mode       Mode          `key:"mode" default:"hot" oneof:"hot lagged" doc:"hot applies at once; lagged applies after apply_delay"`
	ApplyDelay time.Duration `key:"apply_delay" default:"0s" zero:"ok" doc:"how much later a lagged node applies"`

	TLS       TLS       `key:"tls"`
	Sync      Sync      `key:"sync"`
	Token     Token     `key:"token"`
	Client    Client    `key:"client"`
	Sentinel  Sentinel  `key:"sentinel"`
	Admin     Admin     `key:"admin"`
	Hooks     Hooks     `key:"hooks"`
	Log       Log       `key:"log"`
	WAL       WAL       `key:"wal"`
	State     State     `key:"state"`
	Limits    Limits    `key:"limits"`
	Heartbeat Heartbeat `key:"heartbeat"`
	Failover  Failover  `key:"failover"`
	Probe     Probe     `key:"probe"`
	Disk      Disk      `key:"disk"`
	Scrub     Scrub     `key:"scrub"`
	Verify    Verify    `key:"verify"`

	Objectives Objectives `key:"objectives"`
	Drill      Drill      `key:"drill"`

	Stop    Stop    `key:"stop"`
	Archive Archive `key:"archive"`

	Checkpoints Checkpoints `key:"checkpoints"`
	Ship        Ship        `key:"ship"`

	// Warnings are oddities that are not errors, for the log.
	Warnings []string `key:"-"`

	sources map[string]source // key → where its value came from
}

// Peer is one node of the cluster.
type Peer struct {
	Name   string // as its own `node` says
	Addr   string // host:port that the other nodes connect to
	Client string // host:port or socket path that its clients connect to, told to clients of other nodes; may be empty
	// Heartbeat is the host:port where it takes heartbeats, its heartbeat.listen; empty: Addr.
	Heartbeat string
	Mode      Mode // as its own `mode` says, for display before it was reached; may be empty
	Role      Role // as its own `role` says; empty means data
}

// TLS is how nodes show each other who they are: files of PEM, made by replctl certs or by an authority of your own.
type TLS struct {
	CA   string `key:"ca" kind:"path" doc:"certificates of the authority that nodes believe"`
	Cert string `key:"cert" kind:"path" doc:"certificate of this node, which has to name it"`
	Key  string `key:"key" kind:"path" doc:"private key of this node, mode 0600"`
}

// Set reports whether nodes talk TLS.
func (t TLS) Set() bool { return t != TLS{} }

// Sync is the sync set and what happens when it cannot be met.
type Sync struct {
	K           int           `key:"k" default:"auto" doc:"how many standbys must have a write on disk before it is answered (default: 1 with peers, 0 alone)"`
	Members     []string      `key:"members" doc:"nodes whose acknowledgements count; the active itself never does (default: all peers)"`
	Policy      string        `key:"policy" default:"block" oneof:"block shrink" doc:"when too few standbys answer: block writes, or shrink the set after shrink_after"`
	ShrinkAfter time.Duration `key:"shrink_after" default:"10s" doc:"how long a standby may be silent before policy shrink drops it"`
}

// Token is where the epoch token lives.
type Token struct {
	Store    string        `key:"store" default:"file" oneof:"file raft etcd" doc:"kind of token store: file, raft (in the nodes and witnesses themselves; at least three) or etcd"`
	Path     string        `key:"path" kind:"path" doc:"for file: an existing folder for the token's files (default: in DATA)"`
	Shared   bool          `key:"shared" default:"false" doc:"for file: path is on storage that all nodes share"`
	Election time.Duration `key:"election" default:"600ms" doc:"for raft: silence of the token log's leader before another voter asks to lead"`
	Etcd     Etcd          `key:"etcd"`
}

// Etcd is where the etcd cluster is that keeps the token.
type Etcd struct {
	Endpoints    []string `key:"endpoints" doc:"addresses of the etcd cluster, like https://192.0.2.21:2379"`
	Prefix       string   `key:"prefix" default:"/repld" doc:"the token is the key PREFIX/CLUSTER/default/token"`
	User         string   `key:"user" doc:"name to authenticate with (default: none)"`
	PasswordFile string   `key:"password_file" kind:"path" doc:"file with the user's password, mode 0600"`
	CA           string   `key:"ca" kind:"path" doc:"certificate authority of the etcd servers (default: that of the system)"`
	Cert         string   `key:"cert" kind:"path" doc:"certificate to show to the etcd servers (default: none)"`
	Key          string   `key:"key" kind:"path" doc:"key of cert"`

	// Password is the content of PasswordFile without the line end.
	Password string `key:"-"`
}

// EveryNodeSees reports whether all nodes see the same token, so that a changed sync set is known to whoever promotes.
func (t *Token) EveryNodeSees() bool { return t.Store != StoreFile || t.Shared }

// Client is the Redis protocol side.
type Client struct {
	Socket       string        `key:"socket" kind:"path" doc:"unix socket for clients (default: DATA/client.sock)"`
	SocketMode   fs.FileMode   `key:"socket_mode" default:"0660" doc:"permissions of the socket, octal"`
	TCP          string        `key:"tcp" doc:"host:port for clients over TCP (default: none)"`
	TLSCert      string        `key:"tls_cert" kind:"path" doc:"certificate that clients over TCP are shown; TLS 1.2 or newer"`
	TLSKey       string        `key:"tls_key" kind:"path" doc:"private key of tls_cert, mode 0600"`
	TLSCA        string        `key:"tls_ca" kind:"path" doc:"authority of the certificates that clients over TCP have to show (default: they show none)"`
	Insecure     bool          `key:"insecure" default:"false" doc:"consent to clients over TCP in plain text; has to be written out when other hosts can connect"`
	PasswordFile string        `key:"password_file" kind:"path" doc:"file with the password that clients must send, mode 0600"`
	ACLFile      string        `key:"acl_file" kind:"path" doc:"file with named users and what each may do, in the words of Redis' ACL files, mode 0600 (default: there is only the user default)"`
	Users        []string      `key:"users" doc:"users, by name or id, whose processes may connect to the socket (default: all whom its permissions let in)"`
	Groups       []string      `key:"groups" doc:"groups, by name or id, whose processes may connect to the socket by their primary group"`
	Shutdown     bool          `key:"allow_shutdown" default:"false" doc:"let clients stop the node with SHUTDOWN"`
	MaxClients   int           `key:"max_clients" default:"10000" doc:"connections at a time"`
	IdleTimeout  time.Duration `key:"idle_timeout" default:"0s" zero:"ok" doc:"close a connection that is idle for so long; 0s: never"`
	MaxBulk      Size          `key:"max_bulk" default:"512MiB" doc:"largest value a client may send"`
	OutputLimit  Size          `key:"output_limit" default:"auto" doc:"unread replies after which a client is disconnected (default: 64MiB more than max_bulk)"`
	Reads        string        `key:"reads" default:"linearizable" oneof:"linearizable local" doc:"on the active: linearizable needs a live lease from the other nodes, local answers from what is here"`
	Forward      string        `key:"forward" default:"off" oneof:"off on" doc:"on: while this node is a standby, the active executes what clients on the unix socket send"`
	ForwardWait  time.Duration `key:"forward_wait" default:"10s" doc:"how long a forwarded command waits for an active"`
	StandbyReads bool          `key:"standby_reads" default:"false" doc:"answer reads while this node is a standby (they may be stale)"`

	// Password is the content of PasswordFile without the line end, ACL that of ACLFile.
	Password Secret `key:"-"`
	ACL      Secret `key:"-"`
}

// Sentinel is the Sentinel API, by which Redis clients find the active.
type Sentinel struct {
	Listen       string `key:"listen" doc:"host:port of the Sentinel API (default: none; clients expect port 26379)"`
	Name         string `key:"name" doc:"what clients call the group (default: the cluster's name)"`
	Announce     string `key:"announce" doc:"host:port of this node's Sentinel API as clients reach it (default: listen)"`
	PasswordFile string `key:"password_file" kind:"path" doc:"file with the password that Sentinel clients must send, mode 0600 (default: none is asked for)"`

	TLSCert  string `key:"tls_cert" kind:"path" doc:"certificate that Sentinel clients are shown, which may be that of client.tls_cert: most clients use TLS for both or for neither (default: plain text)"`
	TLSKey   string `key:"tls_key" kind:"path" doc:"private key of tls_cert, mode 0600"`
	TLSCA    string `key:"tls_ca" kind:"path" doc:"authority of the certificates that Sentinel clients have to show (default: they show none)"`
	Failover bool   `key:"failover" doc:"whether SENTINEL FAILOVER hands the group over, for whoever may connect here; false: it is refused"`

	// Password is the content of PasswordFile without the line end.
	Password Secret `key:"-"`
}

// Admin is the operator's side.
type Admin struct {
	Socket string      `key:"socket" kind:"path" doc:"unix socket of the admin API (default: DATA/admin.sock)"`
	Mode   fs.FileMode `key:"socket_mode" default:"0600" doc:"permissions of the socket, octal; whoever may open it may administer the node"`
	Users  []string    `key:"users" doc:"users, by name or id, whose processes may connect to the socket (default: all whom its permissions let in)"`
	Groups []string    `key:"groups" doc:"groups, by name or id, whose processes may connect to the socket by their primary group"`
	HTTP   string      `key:"http" doc:"host:port for health checks and metrics (default: none)"`
}

// Hooks are programs that a node runs, each with its arguments; no shell is involved.
type Hooks struct {
	OnRoleChange []string      `key:"on_role_change" doc:"program to run after each change of this node's role"`
	OnAlarm      []string      `key:"on_alarm" doc:"program to run after each alarm that begins or ends on this node"`
	PrePromote   []string      `key:"pre_promote" doc:"program to run before this node is promoted; when it fails the promotion does not happen"`
	Timeout      time.Duration `key:"timeout" default:"10s" doc:"how long each may take before it is killed and has failed"`
}

// Log is about messages, not about the write-ahead log.
type Log struct {
	Level  string `key:"level" default:"info" oneof:"debug info warn error" doc:"least severe message that is written; SIGHUP re-reads it"`
	Format string `key:"format" default:"text" oneof:"text json" doc:"text or json, on standard error"`
}

// WAL is the write-ahead log.
type WAL struct {
	Codec       string `key:"codec" default:"s2" oneof:"s2 zstd none" doc:"compression of frames, on disk and on the wire"`
	SegmentSize Size   `key:"segment_size" default:"64MiB" doc:"size of one log file"`
	Retain      Size   `key:"retain" default:"1GiB" doc:"history kept in the log; a standby that is further behind is seeded anew"`
	MemoryTail  Size   `key:"memory_tail" default:"32MiB" doc:"newest log kept in memory for the standbys' streams"`
}

// State is the Pebble store.
type State struct {
	Cache    Size `key:"cache" default:"256MiB" doc:"block cache"`
	Memtable Size `key:"memtable" default:"32MiB" doc:"size of one memtable"`
}

// Limits bound waits, queues and bulk traffic.
type Limits struct {
	BulkRate      Size          `key:"bulk_rate" default:"0" zero:"ok" doc:"bytes a second of snapshots and catch-up to standbys; 0: unlimited"`
	DigestRate    Size          `key:"digest_rate" default:"0" zero:"ok" doc:"bytes a second that replctl verify reads on this node; 0: as fast as clients let it"`
	CommitTimeout time.Duration `key:"commit_timeout" default:"10s" doc:"how long a write waits for its acknowledgements before its client is told -UNKNOWN"`
	Stall         time.Duration `key:"stall" default:"5s" doc:"how long the log's or the state's disk may stand still before the node steps down"`
	Processors    int           `key:"processors" default:"0" zero:"ok" doc:"processors in use at a time, but for flushes and compactions, which may have all; 0: half of them, which answers clients on the same machine faster; GOMAXPROCS in the environment goes before it"`
	QueueBytes    Size          `key:"queue_bytes" default:"64MiB" doc:"writes waiting for the log before clients are slowed down"`
}

// Heartbeat is how nodes notice each other, and their own pauses.
type Heartbeat struct {
	Listen   string        `key:"listen" doc:"host:port where this node takes heartbeats, apart from bulk traffic (default: at listen)"`
	Interval time.Duration `key:"interval" default:"100ms" doc:"how often nodes, and idle log streams, say that they live"`
	Suspect  time.Duration `key:"suspect" default:"500ms" doc:"silence after which a node counts as gone"`
	Epochs   time.Duration `key:"epochs" default:"200ms" doc:"how often nodes tell each other their epochs"`
	Pause    time.Duration `key:"pause" default:"400ms" doc:"an active that stood still for longer asks its peers before it answers another write"`
}

// Failover is who takes over, and when.
type Failover struct {
	Mode           string        `key:"mode" default:"manual" oneof:"manual automatic" doc:"manual: a person promotes; automatic: the nodes do, by majority"`
	Lease          time.Duration `key:"lease" default:"500ms" doc:"for how long a node supports the active that it heard; at most heartbeat.suspect"`
	StepDown       time.Duration `key:"step_down" default:"5s" doc:"an active that no majority supports gives up after so long (automatic)"`
	Startup        time.Duration `key:"startup" default:"2s" doc:"how long a node that started waits for the others before it takes over without them (automatic)"`
	Backoff        time.Duration `key:"backoff" default:"30s" zero:"ok" doc:"most that follows between failovers when there were more than five in a minute; 0s: none"`
	Priority       int           `key:"priority" default:"0" doc:"among standbys that are as good otherwise the highest goes first"`
	Zone           string        `key:"zone" doc:"where this node is"`
	PreferZone     string        `key:"prefer_zone" doc:"standbys in this zone go first"`
	Preferred      string        `key:"preferred" doc:"node that should be the active when it can"`
	TakeBack       time.Duration `key:"take_back" default:"0s" zero:"ok" doc:"how long the preferred node must have been well before the active hands over to it; 0s: never by itself"`
	MaxLossRecords int           `key:"max_loss_records" default:"0" doc:"consent to lose so many records when no acknowledged write can be shown to be safe; 0: no limit by records"`
	MaxLossBytes   Size          `key:"max_loss_bytes" default:"0" zero:"ok" doc:"the same in bytes of log; 0: no limit by bytes"`
	MaxLossTime    time.Duration `key:"max_loss_time" default:"0s" zero:"ok" doc:"the same as the age of the newest moment at which nothing was missing; 0s: no limit by time. Without any of the three there is no consent"`
}

// Probe is how a node asks the application on its host whether it is well.
type Probe struct {
	RESP     string        `key:"resp" doc:"command, like PING, that the application at probe.addr must answer without an error"`
	Addr     string        `key:"addr" doc:"host:port or the path of a unix socket, for probe.resp"`
	Command  []string      `key:"command" doc:"program and arguments that must end with exit code 0"`
	HTTP     string        `key:"http" doc:"URL that must answer with a status of 2xx"`
	Interval time.Duration `key:"interval" default:"2s" doc:"how often"`
	Timeout  time.Duration `key:"timeout" default:"1s" doc:"of one question"`
	Failures int           `key:"failures" default:"3" doc:"failures in a row after which the active hands over (automatic)"`
}

// Disk is about the disk that data lies on.
type Disk struct {
	Reserve Size `key:"reserve" default:"64MiB" zero:"ok" doc:"held back on the disk: writes are refused before it is full, and what is held back lets the node stop cleanly; 0: none"`
}

// Scrub reads what is on the disk before it is needed.
type Scrub struct {
	Rate  Size          `key:"rate" default:"8MiB" zero:"ok" doc:"bytes a second that the scrub of log and state reads; 0: unlimited"`
	Every time.Duration `key:"every" default:"6h" doc:"time between two scrubs"`
}

// Verify has the active compare all copies by itself.
type Verify struct {
	Every time.Duration `key:"every" default:"24h" zero:"ok" doc:"time between two comparisons of all copies; 0s: only at a person's word"`
	Rate  Size          `key:"rate" default:"8MiB" zero:"ok" doc:"bytes a second that each node reads for it; 0: as fast as clients let it"`
}

// Objectives are what a failover may cost; drills are held against them.
type Objectives struct {
	RTO time.Duration `key:"rto" default:"2s" zero:"ok" doc:"longest time from the loss of the active to the first answer of the next one; 0s: none"`
	RPO time.Duration `key:"rpo" default:"0s" zero:"ok" doc:"how much time of writes may be missing then; 0s: nothing"`
}

// Drill has a standby promote a fork of itself in a sandbox.
type Drill struct {
	Every   time.Duration `key:"every" default:"0s" zero:"ok" doc:"time between two drills of a standby; 0s: only at a person's word"`
	Command []string      `key:"command" doc:"program that asks the fork more than SET and GET; it gets {\"socket\": ...} on standard input"`
	Timeout time.Duration `key:"timeout" default:"10s" doc:"how long it may take"`
}

// Stop is a clean stop.
type Stop struct {
	Timeout time.Duration `key:"timeout" default:"30s" doc:"how long SIGTERM may take to drain and flush before the process exits hard"`
}

// Ship makes a node without peers a standby of another cluster that lives from its archive alone.
type Ship struct {
	URL     string        `key:"url" doc:"archive that this log-shipping standby lives from; needs a cluster name of its own and no peers (default: none)"`
	Of      string        `key:"of" doc:"cluster that the archive is of"`
	KeyFile string        `key:"key_file" kind:"path" doc:"key of an encrypted archive"`
	Every   time.Duration `key:"every" default:"5s" doc:"time between two looks at the archive"`
	Rate    Size          `key:"rate" default:"0" zero:"ok" doc:"bytes a second read from the archive; 0: unlimited"`
}

// Checkpoints are copies of the state that a node keeps for itself, as links.
type Checkpoints struct {
	Every time.Duration `key:"every" default:"15m" zero:"ok" doc:"time between two checkpoints of the state, kept here for rewinding; 0s: only on request"`
	Count int           `key:"count" default:"3" doc:"how many are kept"`
	Age   time.Duration `key:"age" default:"24h" zero:"ok" doc:"older ones are dropped, but for the newest; 0s: none"`
	Bytes Size          `key:"bytes" default:"0" zero:"ok" doc:"what they may take beyond the state itself; 0: no bound, but they go first when the disk is short"`
}

// Archive is where copies are kept outside the cluster.
type Archive struct {
	URL      string        `key:"url" doc:"where backups and the log go: file:///path, or s3://bucket/prefix?endpoint=host:port&region=…&insecure=true with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (default: no archive)"`
	KeyFile  string        `key:"key_file" kind:"path" doc:"encrypt on this side with the key in this file, made by replctl backup keygen"`
	Interval time.Duration `key:"interval" default:"10s" doc:"how old a committed write may get before it is archived"`
	Role     string        `key:"role" default:"active" oneof:"active standby any" doc:"which nodes archive the log"`
	Rate     Size          `key:"rate" default:"0" zero:"ok" doc:"bytes a second of backups and of the archived log; 0: unlimited"`
	Seed     string        `key:"seed" default:"active" oneof:"active archive" doc:"where a standby with an empty data directory takes its first state from"`
}

// Others returns the peers without this node.
func (c *Config) Others() []Peer {
	var out []Peer
	for _, p := range c.Peers {
		if p.Name != c.Node {
			out = append(out, p)
		}
	}
	return out
}

// Voters returns the names of all nodes that vote on a token of store raft, and on who is alive: data nodes and witnesses, this one too. Alone it is this node.
func (c *Config) Voters() []string {
	if len(c.Peers) == 0 {
		return []string{c.Node}
	}
	var out []string
	for _, p := range c.Peers {
		out = append(out, p.Name)
	}
	return out
}

// DataNodes returns the entries of the nodes that hold data.
func (c *Config) DataNodes() []Peer {
	var out []Peer
	for _, p := range c.Peers {
		if p.Role != RoleWitness {
			out = append(out, p)
		}
	}
	return out
}

// Self returns this node's own entry in Peers, or one made of Node and Announce when there are no peers.
func (c *Config) Self() Peer {
	for _, p := range c.Peers {
		if p.Name == c.Node {
			return p
		}
	}
	return Peer{Name: c.Node, Addr: c.Announce, Mode: c.Mode}
}
