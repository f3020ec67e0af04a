package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"repld/replicate"
)

const patience = 20 * time.Second

// half is one node of the mesh, on the loopback interface. Node b listens, node a dials.
type half struct {
	*replicate.Mesh
	addr    string
	mu      sync.Mutex
	refused []string
}

func (h *half) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.refused, "\n")
}

// run starts a node; wrap nil is plain text.
func run(t *testing.T, name, peer, peerAddr string, id *Identity, tune func(*replicate.MeshOptions)) *half {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &half{addr: l.Addr().String()}
	o := replicate.MeshOptions{
		Cluster: "shop", Node: name, Incarnation: [16]byte{name[0]}, Peers: []replicate.Peer{{Name: peer, Addr: peerAddr}},
		Listen: func() (net.Listener, error) { return l, nil },
		OnRefused: func(peer, _ string, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.refused = append(h.refused, peer+": "+err.Error())
		},
	}
	if id != nil {
		o.WrapServer, o.WrapClient, o.Authenticate = id.WrapServer, id.WrapClient, Verify
	}
	if tune != nil {
		tune(&o)
	}
	h.Mesh, err = replicate.NewMesh(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = h.Close() // nil
		if err := <-done; err != nil && !errors.Is(err, replicate.ErrClosed) {
			t.Error(err)
		}
	})
	return h
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (h *half) connected() bool { return h.Peers()[0].Connected }

// Two nodes of one authority meet, with either algorithm.
func TestMeet(t *testing.T) {
	for _, algorithm := range []string{Ed25519, P256} {
		dir := authority(t, "shop", algorithm, "a", "b")
		b := run(t, "b", "a", "nowhere", load(t, dir, "b"), nil)
		a := run(t, "a", "b", b.addr, load(t, dir, "a"), nil)
		until(t, "a session over TLS", func() bool { return a.connected() && b.connected() })
	}
}

// Whoever cannot show by a certificate of the authority that he is the node that he says to be does not become a peer, and the side that refuses says why.
//
// Faults: W10 (certificate of another authority, expired, of another node, none, plain text, TLS 1.2)
func TestRefused(t *testing.T) {
	good, foreign := authority(t, "shop", Ed25519, "a", "b", "c"), authority(t, "shop", Ed25519, "a")
	if _, err := Issue(Request{Dir: good, Node: "old", Valid: time.Hour, Now: time.Now().Add(-2 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	expired := load(t, good, "a")
	old, err := read(Options{Files: files(good, "old"), Cluster: "shop", Node: "old"})
	if err != nil {
		t.Fatal(err)
	}
	expired.mu.now.cert, expired.mu.now.leaf = old.cert, old.leaf

	// The dialer's own checks are taken away: it is the acceptor that has to refuse.
	blind := func(id *Identity, change func(*tls.Config)) func(*replicate.MeshOptions) {
		return func(o *replicate.MeshOptions) {
			o.Authenticate = nil
			o.WrapClient = func(ctx context.Context, c net.Conn, _ string) (net.Conn, error) {
				cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
				if id != nil {
					cfg.Certificates = []tls.Certificate{id.current().cert}
				}
				if change != nil {
					change(cfg)
				}
				w := tls.Client(c, cfg)
				return w, w.HandshakeContext(ctx)
			}
		}
	}
	for _, tc := range []struct {
		name string
		tune func(*replicate.MeshOptions)
		says string
	}{
		{"wrong CA", blind(load(t, foreign, "a"), nil), "unknown authority"},
		{"expired", blind(expired, nil), "expired"},
		{"another node", blind(load(t, good, "c"), nil), "certificate is of another node"},
		{"no certificate", blind(nil, nil), "didn't provide a certificate"},
		{"TLS 1.2", blind(load(t, good, "a"), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), "unsupported versions"},
		{"plain text", func(o *replicate.MeshOptions) { o.WrapClient, o.Authenticate = nil, nil }, "does not look like a TLS handshake"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := run(t, "b", "a", "nowhere", load(t, good, "b"), nil)
			a := run(t, "a", "b", b.addr, nil, tc.tune)
			until(t, "b says: "+tc.says, func() bool { return strings.Contains(b.said(), tc.says) })
			if a.connected() || b.connected() {
				t.Error("they met")
			}
		})
	}
}

// The dialer refuses a node that has the right authority and another node's name, before it says a word of its own, and one of another authority.
//
// Faults: W10 (an impostor at a peer's address), H1 (certificate of another node)
func TestDialerRefuses(t *testing.T) {
	good, foreign := authority(t, "shop", Ed25519, "a", "b", "c"), authority(t, "shop", Ed25519, "b")
	for says, id := range map[string]*Identity{"certificate is of another node": load(t, good, "c"), "unknown authority": load(t, foreign, "b")} {
		b := run(t, "b", "a", "nowhere", id, nil)
		a := run(t, "a", "b", b.addr, load(t, good, "a"), nil)
		until(t, "a says: "+says, func() bool { return strings.Contains(a.Peers()[0].LastError, says) })
		if a.connected() || b.connected() {
			t.Error("they met")
		}
	}
}

// A node that talks TLS does not fall back to plain text with one that does not.
func TestPlainServer(t *testing.T) {
	dir := authority(t, "shop", Ed25519, "a")
	b := run(t, "b", "a", "nowhere", nil, nil)
	a := run(t, "a", "b", b.addr, load(t, dir, "a"), nil)
	until(t, "a gives up", func() bool { return a.Peers()[0].LastError != "" })
	if a.connected() || b.connected() {
		t.Error("they met")
	}
}

// While strangers open connections as fast as they can and say nothing, or half of a handshake, a good peer gets in.
//
// Faults: R5 (handshake flood at the peer port)
func TestFlood(t *testing.T) {
	dir := authority(t, "shop", Ed25519, "a", "b")
	b := run(t, "b", "a", "nowhere", load(t, dir, "b"), func(o *replicate.MeshOptions) { o.MaxHandshakes = 8 })
	ctx, cancel := context.WithCancel(t.Context())
	var strangers sync.WaitGroup
	defer strangers.Wait()
	defer cancel()
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	flooding := make(chan struct{}, 1)
	for i := range 4 {
		strangers.Go(func() {
			var open []net.Conn
			pace := time.NewTicker(time.Millisecond) // connections are what floods, not the CPU of the machine that tests
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				c, err := from.DialContext(ctx, "tcp", b.addr)
				if err != nil {
					continue
				}
				if i%2 == 0 {
					_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) // a ClientHello that does not go on
				}
				open = append(open, c)
				if len(open) > 20 {
					_ = open[0].Close()
					open = open[1:]
					select {
					case flooding <- struct{}{}:
					default:
					}
				}
			}
			for _, c := range open {
				_ = c.Close()
			}
		})
	}
	<-flooding
	until(t, "the flood is noticed", func() bool { return strings.Contains(b.said(), errFloodText) })
	a := run(t, "a", "b", b.addr, load(t, dir, "a"), nil)
	until(t, "a good peer gets in", func() bool { return a.connected() && b.connected() })
}

const errFloodText = "too many connections"

// A new authority is brought in without a stop: first believed beside the old one, then the certificates change, then the old one goes.
func TestNewAuthority(t *testing.T) {
	first, second := authority(t, "shop", Ed25519, "a", "b"), authority(t, "shop", Ed25519, "a", "b")
	both := authority(t, "shop", Ed25519) // a folder
	var bundle []byte
	for _, d := range []string{first, second} {
		b, _, err := readFile(filepath.Join(d, CACert))
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, b...)
	}
	ca := filepath.Join(both, "bundle.crt")
	if err := createFile(ca, bundle); err != nil {
		t.Fatal(err)
	}
	with := func(dir, node string) *Identity {
		f := files(dir, node)
		f.CA = ca
		id, err := Load(Options{Files: f, Cluster: "shop", Node: node})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	b := run(t, "b", "a", "nowhere", with(first, "b"), nil)
	a := run(t, "a", "b", b.addr, with(second, "a"), nil)
	until(t, "old and new meet", func() bool { return a.connected() && b.connected() })
}

// A wrapped connection names only whom its certificate names; what is not wrapped names nobody.
func TestVerify(t *testing.T) {
	dir := authority(t, "shop", Ed25519, "a", "b")
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	if err := Verify(x, "a"); err == nil {
		t.Error("a pipe is node a")
	}
	got := make(chan net.Conn, 1)
	go func() {
		c, err := load(t, dir, "b").WrapServer(context.Background(), y)
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	c, err := load(t, dir, "a").WrapClient(t.Context(), x, "b")
	if err != nil {
		t.Fatal(err)
	}
	s := <-got
	if err := errors.Join(Verify(c, "b"), Verify(s, "a")); err != nil {
		t.Error(err)
	}
	if err := Verify(s, "b"); !errors.Is(err, ErrWrongNode) {
		t.Errorf("a is b: %v", err)
	}
	go func() { _, _ = c.Write([]byte("hello")) }()
	b := make([]byte, 5)
	if _, err := io.ReadFull(s, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}
