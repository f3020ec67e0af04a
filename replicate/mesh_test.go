package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits for a condition, with a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func meshOptions(node string, peers ...string) MeshOptions {
	o := MeshOptions{
		Cluster: "test", Node: node, Incarnation: [16]byte{node[0]}, MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
	}
	for _, p := range peers {
		o.Peers = append(o.Peers, Peer{Name: p})
	}
	return o
}

func newMesh(t testing.TB, o MeshOptions) *Mesh {
	t.Helper()
	m, err := NewMesh(o)
	must(t, err)
	return m
}

// W10, H1, H3: who may not talk is refused, with the same words on both sides.
// Faults: W10, H1, H3 (prefaces of another cluster, name, incarnation)
func TestHandshake(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(a, b *MeshOptions) // a dials b
		to     string
		code   string // "" when the session comes about
		words  string
	}{
		{name: "good", change: func(a, b *MeshOptions) {}},
		{name: "newer dialer", change: func(a, b *MeshOptions) { a.Version, a.MinVersion = 3, 1 }},
		{name: "version", change: func(a, b *MeshOptions) { a.Version = 3 }, code: RefuseVersion, words: "versions 3 to 3"},
		{name: "version of acceptor", change: func(a, b *MeshOptions) { b.Version = 3 }, code: RefuseVersion, words: "versions 2 to 2, node b 3 to 3"},
		{name: "cluster", change: func(a, b *MeshOptions) { a.Cluster = "other" }, code: RefuseCluster, words: `"other"`},
		{name: "not a peer", change: func(a, b *MeshOptions) { b.Peers = nil }, code: RefuseNode, words: "not in the peer list"},
		{name: "own name", change: func(a, b *MeshOptions) { a.Node, a.Peers = "b", []Peer{{Name: "c"}} }, code: RefuseNode, words: "both nodes are named b"},
		{name: "address of another node", change: func(a, b *MeshOptions) { a.Peers = append(a.Peers, Peer{Name: "c"}) }, to: "c", code: RefuseNode, words: "wanted node c"},
		{name: "copied directory", change: func(a, b *MeshOptions) { a.Incarnation = b.Incarnation }, code: RefuseIncarnation, words: "was copied"},
	} {
		for network, connect := range map[string]func(testing.TB) (net.Conn, net.Conn){"pipe": pipePair, "tcp": tcpPair} {
			t.Run(c.name+"/"+network, func(t *testing.T) {
				ao, bo := meshOptions("a", "b"), meshOptions("b", "a")
				c.change(&ao, &bo)
				a, b := newMesh(t, ao), newMesh(t, bo)
				to := c.to
				if to == "" {
					to = "b"
				}
				ca, cb := connect(t)
				accepted := make(chan error, 1)
				go func() {
					info, err := b.acceptorHandshake(cb)
					if err == nil && (info.Node != "a" || info.Version != ProtocolVersion) {
						err = fmt.Errorf("peer is %+v", info)
					}
					accepted <- err
				}()
				info, err := a.dialerHandshake(ca, to, "")
				checkRefusal(t, err, c.code, c.words)
				checkRefusal(t, <-accepted, c.code, c.words)
				if c.code == "" && info.Node != "b" {
					t.Fatalf("peer is %+v", info)
				}
			})
		}
	}
}

func checkRefusal(t *testing.T, err error, code, words string) {
	t.Helper()
	if code == "" {
		must(t, err)
		return
	}
	var h *HandshakeError
	if !errors.As(err, &h) || h.Code != code || !strings.Contains(h.Message, words) || !errors.Is(err, ErrRefused) {
		t.Fatalf("got %v, want code %s with %q", err, code, words)
	}
}

func pipePair(t testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	b, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// W12: what is not a preface, or claims to be a long one, is refused without being read.
// Faults: W12 (junk and long prefaces)
func TestHandshakeMalformed(t *testing.T) {
	for _, bytes := range []string{"GET / HTTP/1.1\r\n", prefaceMagic + "\xff\xff", prefaceMagic + "\x02\x00{}", prefaceMagic + "\x01\x00{"} {
		m := newMesh(t, meshOptions("b", "a"))
		ca, cb := tcpPair(t)
		_, err := io.WriteString(ca, bytes)
		must(t, err)
		_, err = m.acceptorHandshake(cb)
		checkRefusal(t, err, RefuseMalformed, "")
		p, err := readPreface(ca)
		if err != nil || p.Code != RefuseMalformed {
			t.Fatalf("%q was answered by %+v, %v", bytes, p, err)
		}
	}
}

// A peer that says nothing holds a place for a bounded time only.
func TestHandshakeDeadline(t *testing.T) {
	o := meshOptions("b", "a")
	o.HandshakeTimeout = 20 * time.Millisecond
	_, cb := pipePair(t)
	_, err := newMesh(t, o).acceptorHandshake(cb)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("got %v", err)
	}
}

// testNet is a set of meshes on loopback TCP.
type testNet struct {
	t      testing.TB
	mu     sync.Mutex
	addrs  map[string]string
	conns  map[string][]net.Conn // dialed by a node
	change func(*MeshOptions)
}

func newTestNet(t testing.TB) *testNet {
	return &testNet{t: t, addrs: map[string]string{}, conns: map[string][]net.Conn{}}
}

// start runs a mesh until the test ends; all names are peers of each other.
func (n *testNet) start(node string, all ...string) *Mesh {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(n.t, err)
	n.mu.Lock()
	n.addrs[node] = l.Addr().String()
	n.mu.Unlock()
	var peers []string
	for _, p := range all {
		if p != node {
			peers = append(peers, p)
		}
	}
	o := meshOptions(node, peers...)
	for i := range o.Peers {
		o.Peers[i].Addr = o.Peers[i].Name
	}
	o.Listen = func() (net.Listener, error) { return l, nil }
	o.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return n.dial(ctx, node, addr) }
	if n.change != nil {
		n.change(&o)
	}
	m := newMesh(n.t, o)
	done := make(chan error, 1)
	go func() { done <- m.Run(context.Background()) }()
	n.t.Cleanup(func() {
		must(n.t, m.Close())
		must(n.t, <-done)
	})
	return m
}

func (n *testNet) dial(ctx context.Context, from, to string) (net.Conn, error) {
	n.mu.Lock()
	addr := n.addrs[to]
	n.mu.Unlock()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		n.mu.Lock()
		n.conns[from] = append(n.conns[from], c)
		n.mu.Unlock()
	}
	return c, err
}

// kill closes all connections that a node dialed.
func (n *testNet) kill(from string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns[from] {
		_ = c.Close()
	}
	n.conns[from] = nil
}

func connected(m *Mesh, peer string) bool {
	for _, p := range m.Peers() {
		if p.Name == peer {
			return p.Connected
		}
	}
	return false
}

func waitConnected(t testing.TB, m *Mesh, peers ...string) {
	t.Helper()
	for _, p := range peers {
		eventually(t, "connection to "+p, func() bool { return connected(m, p) })
	}
}

func TestMeshStreams(t *testing.T) {
	n := newTestNet(t)
	a, b, c := n.start("a", "a", "b", "c"), n.start("b", "a", "b", "c"), n.start("c", "a", "b", "c")
	for _, m := range []*Mesh{a, b, c} {
		m.Handle("echo", func(peer PeerInfo, group string, s net.Conn) {
			_, _ = fmt.Fprintf(s, "%s/%s\n", peer.Node, group)
			_, _ = io.Copy(s, s)
		})
	}
	waitConnected(t, a, "b", "c")
	waitConnected(t, b, "a", "c")
	waitConnected(t, c, "a", "b")
	for _, from := range []*Mesh{a, b, c} {
		for _, to := range from.o.Peers {
			s, err := from.Open(context.Background(), to.Name, "echo", "g1")
			must(t, err)
			if got := readN(t, s, 5); got != from.o.Node+"/g1\n" {
				t.Fatalf("handler saw %q", got)
			}
			_, err = s.Write([]byte("hello"))
			must(t, err)
			if got := readN(t, s, 5); got != "hello" {
				t.Fatalf("echo %q", got)
			}
			must(t, s.Close())
		}
	}
	if _, err := a.Open(context.Background(), "nobody", "echo", ""); !errors.Is(err, ErrUnknownPeer) {
		t.Fatalf("unknown peer: %v", err)
	}
	s, err := a.Open(context.Background(), "b", "nothing", "")
	must(t, err)
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("unknown kind: %v", err)
	}
	must(t, s.Close())
}

func readN(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	must(t, err)
	return string(b)
}

func TestMeshServesHTTP(t *testing.T) {
	n := newTestNet(t)
	a, b := n.start("a", "a", "b"), n.start("b", "a", "b")
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "to ", r.Context().Value(http.LocalAddrContextKey) != nil)
		}),
	}
	l := b.Listener(KindAPI)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	waitConnected(t, a, "b")
	tr := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return a.Open(ctx, strings.TrimSuffix(addr, ":80"), KindAPI, "")
	}}
	for range 3 {
		resp, err := (&http.Client{Transport: tr}).Get("http://b/status")
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		if string(body) != "to true" {
			t.Fatalf("got %q", body)
		}
	}
	tr.CloseIdleConnections()
	must(t, srv.Close())
	<-served
}

// W4: sessions come back by themselves; OnPeer tells each change in order.
// Faults: W4 (sessions cut again and again)
func TestMeshReconnects(t *testing.T) {
	n := newTestNet(t)
	var mu sync.Mutex
	var events []bool
	n.change = func(o *MeshOptions) {
		if o.Node == "b" {
			o.OnPeer = func(_ string, up bool) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, up)
			}
		}
	}
	a, b := n.start("a", "a", "b"), n.start("b", "a", "b")
	for range 5 {
		waitConnected(t, a, "b")
		waitConnected(t, b, "a")
		n.kill("a")
		eventually(t, "b to notice", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(events) > 1
		})
		mu.Lock()
		events = events[:0]
		mu.Unlock()
	}
}

// W10: a refusal is logged on both sides, once for each change and not for each attempt.
func TestRefusalIsLoggedOnce(t *testing.T) {
	n := newTestNet(t)
	logs := map[string]*logBuffer{"a": {}, "b": {}}
	var mu sync.Mutex
	attempts := 0
	n.change = func(o *MeshOptions) {
		o.Logger = logs[o.Node].logger()
		if o.Node == "a" {
			o.Cluster = "elsewhere"
			dial := o.Dial
			o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				mu.Lock()
				attempts++
				mu.Unlock()
				return dial(ctx, addr)
			}
		}
	}
	a, _ := n.start("a", "a", "b"), n.start("b", "a", "b")
	eventually(t, "several attempts", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return attempts > 5
	})
	for node, l := range logs {
		if got := l.count("elsewhere"); got != 1 {
			t.Errorf("node %s logged it %d times", node, got)
		}
	}
	if st := a.Peers()[0]; !strings.Contains(st.LastError, "elsewhere") {
		t.Errorf("status says %q", st.LastError)
	}
}

// session makes a session from node "a" to m by hand, with the given incarnation.
func dialByHand(t testing.TB, n *testNet, to string, incarnation byte) (*Mesh, *session, error) {
	t.Helper()
	o := meshOptions("a", to)
	o.Incarnation = [16]byte{incarnation}
	o.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return n.dial(ctx, "a", to) }
	m := newMesh(t, o)
	s, err := m.dial(context.Background(), m.peers[to])
	if err == nil {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.adopt(context.Background(), s)
			m.running.Wait()
		}()
		t.Cleanup(func() {
			s.close(ErrClosed)
			<-done
		})
	}
	return m, s, err
}

// W9: of two sessions of the same incarnation the newest wins. H1: another incarnation is refused while the first lives.
// Faults: W9, H1 (second sessions)
func TestDuplicateSessions(t *testing.T) {
	n := newTestNet(t)
	b := n.start("b", "a", "b")
	_, first, err := dialByHand(t, n, "b", 1)
	must(t, err)
	waitConnected(t, b, "a")
	_, _, err = dialByHand(t, n, "b", 2)
	checkRefusal(t, err, RefuseIncarnation, "already")
	if first.mux.IsClosed() {
		t.Fatal("the refused one closed the one that lives")
	}
	_, second, err := dialByHand(t, n, "b", 1)
	must(t, err)
	<-first.mux.CloseChan()
	if !connected(b, "a") || second.mux.IsClosed() {
		t.Fatal("the newest session did not win")
	}
	second.close(ErrClosed)
	eventually(t, "the end of the session", func() bool { return !connected(b, "a") })
	_, _, err = dialByHand(t, n, "b", 2)
	must(t, err) // nobody is in its way now
	eventually(t, "the new incarnation", func() bool { return connected(b, "a") })
}

// W13: a reader that is stuck makes the write deadline close the session.
// Faults: W13 (a reader that is stuck)
func TestStuckReaderLosesSession(t *testing.T) {
	n := newTestNet(t)
	n.change = func(o *MeshOptions) { o.WindowBytes = 256 << 10 }
	a, b := n.start("a", "a", "b"), n.start("b", "a", "b")
	release := make(chan struct{})
	b.Handle("stuck", func(PeerInfo, string, net.Conn) { <-release })
	defer close(release)
	waitConnected(t, a, "b")
	s, err := a.Open(context.Background(), "b", "stuck", "")
	must(t, err)
	session := s.(*Stream).session
	l := &link{Conn: s, write: 30 * time.Millisecond}
	if _, err := l.Write(make([]byte, 4<<20)); err == nil {
		t.Fatal("4 MiB were written to a reader that does not read")
	}
	select {
	case <-session.mux.CloseChan():
	default:
		t.Fatal("the session is still open after a failed write")
	}
}

// W12, FAULTS section 4: a peer opens no more streams at a time than it may, those beyond are closed at once, those that do not say what they are after a while, and the session outlives both.
// Faults: W12 (a flood of streams, streams without a preface)
func TestStreamFlood(t *testing.T) {
	const most = 8
	n := newTestNet(t)
	n.change = func(o *MeshOptions) { o.MaxStreams, o.HandshakeTimeout = most, 2*time.Second }
	a, b := n.start("a", "a", "b"), n.start("b", "a", "b")
	served := make(chan net.Conn, 100)
	b.Handle("hold", func(_ PeerInfo, _ string, s net.Conn) {
		served <- s
		_, _ = io.Copy(io.Discard, s) // until the other end closes it
		_ = s.Close()
	})
	waitConnected(t, a, "b")
	open := func() net.Conn {
		t.Helper()
		s, err := a.Open(context.Background(), "b", "hold", "")
		must(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	first := open()
	session := first.(*Stream).session
	<-served
	for range most - 1 { // they hold a place each without saying a word
		c, err := session.mux.OpenStream()
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	over := open()
	must(t, over.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("a stream beyond %d: %v, want it closed", most, err)
	}
	eventually(t, "a place again, when the silent ones are closed", func() bool {
		s := open()
		defer s.Close()
		select {
		case <-served:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	if _, err := first.Write([]byte("x")); err != nil || session.mux.IsClosed() {
		t.Fatalf("the flood ended the session: %v", err)
	}
}
