package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// ProtocolVersion is the version of preface and messages that this package speaks. 2: connections without TLS are sealed (see sealedConn).
const ProtocolVersion = 2

// Peer is another node of the cluster.
type Peer struct {
	Name string
	Addr string // host:port, as Dial understands it
	// LinkAddr is where the peer takes links; "" means Addr.
	LinkAddr string
}

// PeerInfo says who is at the other end of a session; the preface exchange established it.
type PeerInfo struct {
	Node        string
	Incarnation string // 32 hex digits
	Version     int    // of the protocol as agreed
	Remote      string // network address, for logs
	Link        string // kind of link that the connection is, "" for a session
}

// MeshOptions configures a Mesh.
type MeshOptions struct {
	// Cluster must be the same on all nodes.
	Cluster string
	// Node is our own name.
	Node string
	// Incarnation was drawn when our data directory was made.
	Incarnation [16]byte
	// Version is the protocol version that we speak (default ProtocolVersion).
	Version int
	// MinVersion is the oldest version that we still speak (default Version).
	MinVersion int
	// Peers are all other nodes. We dial those whose name sorts after ours.
	Peers []Peer
	// Listen opens the listener; it is called once, by Run. nil: inbound sessions are not accepted.
	Listen func() (net.Listener, error)
	// LinkListen opens another listener, meant for links; called once, by Run. nil: links come in by Listen's.
	LinkListen func() (net.Listener, error)
	// Dial connects to a peer's address (default: TCP).
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// WrapServer and WrapClient may put TLS around a connection before the preface. peer is the name that we want to
	// reach. They must honour ctx.
	WrapServer func(ctx context.Context, c net.Conn) (net.Conn, error)
	WrapClient func(ctx context.Context, c net.Conn, peer string) (net.Conn, error)
	// Authenticate reports whether the other end of a connection that was wrapped may call itself node, on both sides,
	// before anything else is believed of its preface. nil: the preface is believed.
	Authenticate func(c net.Conn, node string) error
	// OnPeer is told of each session that comes up or goes away. It must not block.
	OnPeer func(name string, up bool)
	// OnRefused is told of connections that were refused, by either side, once for each change of the reason: peer is
	// the node that was dialed or what a stranger calls itself, "" if it said nothing. It must not block.
	OnRefused func(peer, addr string, err error)

	// HandshakeTimeout bounds dialing, wrapping and the preface, each (default 3 s).
	HandshakeTimeout time.Duration
	// IdleTimeout is how long nothing at all may arrive before a session counts as dead (default 4.5 s).
	IdleTimeout time.Duration
	// PingInterval is how often each side sends a ping (default 1 s).
	PingInterval time.Duration
	// WriteTimeout bounds each write of up to 256 KiB to the connection (default 10 s).
	WriteTimeout time.Duration
	// MinBackoff and MaxBackoff bound the wait between attempts to connect; the first retry comes at once, then
	// MinBackoff doubles up to MaxBackoff with jitter (defaults 50 ms, 2 s).
	MinBackoff, MaxBackoff time.Duration
	// MaxStreams bounds the inbound streams of one session that are open at a time (default 256).
	MaxStreams int
	// MaxHandshakes bounds the inbound connections that have not finished their preface (default 32). One more turns the
	// oldest of the host with the most out.
	MaxHandshakes int
	// WindowBytes is the receive window of each stream (default 4 MiB, at least 256 KiB).
	WindowBytes uint32
	// Logger (default: discard).
	Logger *slog.Logger
}

// EnsureDefaults fills what was left out.
func (o *MeshOptions) EnsureDefaults() {
	def(&o.Version, ProtocolVersion)
	def(&o.MinVersion, o.Version)
	def(&o.HandshakeTimeout, 3*time.Second)
	def(&o.IdleTimeout, 4500*time.Millisecond)
	def(&o.PingInterval, time.Second)
	def(&o.WriteTimeout, 10*time.Second)
	def(&o.MinBackoff, 50*time.Millisecond)
	def(&o.MaxBackoff, 2*time.Second)
	def(&o.MaxStreams, 256)
	def(&o.MaxHandshakes, 32)
	def(&o.WindowBytes, 4<<20)
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if o.OnRefused == nil {
		o.OnRefused = func(string, string, error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate names the first option that cannot be.
func (o *MeshOptions) Validate() error {
	if err := checkNames(o.Cluster, o.Node); err != nil {
		return err
	}
	if o.WindowBytes < 256<<10 {
		return fmt.Errorf("window of %d bytes is below the least of %d", o.WindowBytes, 256<<10)
	}
	if o.PingInterval*2 > o.IdleTimeout {
		return fmt.Errorf("ping interval %v is more than half of the idle timeout %v", o.PingInterval, o.IdleTimeout)
	}
	if o.MinVersion > o.Version || o.MinVersion < 1 {
		return fmt.Errorf("protocol versions %d to %d make no range", o.MinVersion, o.Version)
	}
	seen := map[string]bool{o.Node: true}
	for _, p := range o.Peers {
		if err := checkNames(p.Name); err != nil {
			return err
		}
		if seen[p.Name] {
			return fmt.Errorf("peer %q is named twice or is this node itself", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// maxName bounds names of clusters, nodes, groups and stream kinds, in bytes.
const maxName = 255

func checkNames(names ...string) error {
	for _, n := range names {
		if n == "" {
			return errors.New("a name is empty")
		}
		if len(n) > maxName {
			return fmt.Errorf("name of %d bytes is above the limit of %d", len(n), maxName)
		}
		if strings.ContainsFunc(n, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("name %q holds control characters", n)
		}
	}
	return nil
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
