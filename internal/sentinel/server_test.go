package sentinel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeView is a picture that tests change.
type fakeView struct {
	mu      sync.Mutex
	p       Picture
	changed chan struct{}
}

func (v *fakeView) Picture() Picture {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.p
}

func (v *fakeView) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

func (v *fakeView) set(p Picture) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.p = p
	close(v.changed)
	v.changed = make(chan struct{})
}

func healthy() Picture {
	return Picture{
		Live: true, Voters: 3, Heard: 3, Epoch: 7, Open: true,
		Active: Instance{Node: "a", Addr: "10.0.0.1:6379", RunID: "aa"},
		Reads:  []Instance{{Node: "b", Addr: "10.0.0.2:6379", RunID: "bb", LSN: 42}},
		Peers:  []Instance{{Node: "a", Addr: "10.0.0.1:26379", RunID: "aa"}, {Node: "b", Addr: "10.0.0.2:26379", RunID: "bb", Down: true}},
		Self:   Instance{Node: "c", Addr: "10.0.0.3:26379", RunID: "cc"},
	}
}

// serve starts a server on a loopback port; it ends with the test.
func serve(t *testing.T, o Options) (*fakeView, string) {
	t.Helper()
	v := &fakeView{p: healthy(), changed: make(chan struct{})}
	o.Name, o.View = "shop", v
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil && err != ErrClosed {
				t.Error(err)
			}
		}
	})
	return v, l.Addr().String()
}

// talker is one connection that prints replies on one line.
type talker struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, addr string) *talker {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &talker{t, c, bufio.NewReader(c)}
}

func (k *talker) do(line string) string {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, line+"\r\n"); err != nil { // an inline command
		k.t.Fatal(err)
	}
	return k.reply()
}

func (k *talker) reply() string {
	k.t.Helper()
	line, err := k.r.ReadString('\n')
	if err != nil {
		k.t.Fatal(err)
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$', '=':
		if n < 0 {
			return "nil"
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(k.r, b); err != nil {
			k.t.Fatal(err)
		}
		return string(b[:n])
	case '*', '>', '~':
		if n < 0 {
			return "*nil"
		}
		return k.items(string(line[0]), n)
	case '%':
		return k.items("%", 2*n)
	}
	return line
}

func (k *talker) items(kind string, n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = k.reply()
	}
	return kind + "[" + strings.Join(parts, " ") + "]"
}

// TestFailover holds ECOSYSTEM section 2b: who may ask for a fail-over, and what is said when there is nobody to take over.
func TestFailover(t *testing.T) {
	refused := errors.New("no standby follows the log and counts: see replctl status")
	asked, why := 0, refused
	v, addr := serve(t, Options{Failover: func(context.Context) error { asked++; return why }})
	k := dial(t, addr)
	for i, step := range []struct {
		picture func(*Picture)
		why     error
		want    string
		asked   int
	}{
		{func(*Picture) {}, refused, "-NOGOODSLAVE " + refused.Error(), 1},
		{func(*Picture) {}, nil, "+OK", 2},
		{func(p *Picture) { p.Open = false }, nil, "-INPROG Failover already in progress", 2},
		{func(p *Picture) { p.Live = false }, nil, "-" + errCutOff, 2},
	} {
		p := healthy()
		step.picture(&p)
		v.set(p)
		why = step.why
		if got := k.do("SENTINEL failover shop"); got != step.want || asked != step.asked {
			t.Errorf("%d: %q, asked %d times; want %q, %d", i, got, asked, step.want, step.asked)
		}
	}
	if got := k.do("SENTINEL failover other"); got != "-"+errNoSuchMaster {
		t.Error(got)
	}
	_, addr = serve(t, Options{})
	if got := dial(t, addr).do("SENTINEL failover shop"); !strings.HasPrefix(got, "-NOPERM ") {
		t.Errorf("where it is not allowed: %q", got)
	}
}

// TestContract goes through the wire contract of ECOSYSTEM section 2b.
func TestContract(t *testing.T) {
	v, addr := serve(t, Options{})
	k := dial(t, addr)
	for _, x := range []struct{ send, want string }{
		{"SENTINEL get-master-addr-by-name shop", "*[10.0.0.1 6379]"},
		{"SENTINEL get-master-addr-by-name other", "*nil"},
		{"SENTINEL master other", "-ERR No such master with that name"},
		{"SENTINEL replicas other", "-ERR No such master with that name"},
		{"SENTINEL ckquorum shop", "+OK 3 usable Sentinels. Quorum and failover authorization can be reached"},
		{"SENTINEL myid", "cc" + strings.Repeat("0", 38)},
		{"SENTINEL remove shop", "-NOPERM nothing is changed through the Sentinel port: see replctl on the node's admin socket"},
		{"SENTINEL set shop quorum 1", "-NOPERM nothing is changed through the Sentinel port: see replctl on the node's admin socket"},
		{"SENTINEL master", "-ERR wrong number of arguments for 'sentinel|master' command"},
		{"SENTINEL dance", "-ERR Unknown sentinel subcommand 'dance'"},
		{"ROLE", "*[sentinel *[shop]]"},
		{"PING", "+PONG"},
		{"CLIENT SETNAME x", "+OK"},
		{"CLIENT SETINFO lib-name x", "+OK"},
		{"CLIENT MAINT_NOTIFICATIONS on", "-ERR unknown subcommand or wrong number of arguments for 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."},
		{"AUTH x", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"},
		{"GET x", "-ERR unknown command 'GET'. This is the Sentinel port of repld: no data is served here."},
		{"COMMAND", "*[]"},
		{"HELLO 4", "-NOPROTO unsupported protocol version"},
	} {
		if got := k.do(x.send); got != x.want {
			t.Errorf("%s\n got %s\nwant %s", x.send, got, x.want)
		}
	}
	has := func(send, kind string, want ...string) {
		t.Helper()
		got := k.do(send)
		for _, w := range append(want, kind) {
			if !strings.Contains(got, w) {
				t.Errorf("%s has no %q:\n%s", send, w, got)
			}
		}
	}
	master := []string{"name shop", "ip 10.0.0.1", "port 6379", "runid aa0", "flags master link", "num-slaves 1", "num-other-sentinels 2", "quorum 2",
		"config-epoch 7", "role-reported master", "down-after-milliseconds 1000"}
	has("SENTINEL masters", "*[*[", master...)
	has("SENTINEL master shop", "*[", master...)
	has("SENTINEL slaves shop", "*[*[", "name 10.0.0.2:6379", "flags slave link", "master-link-status ok", "master-host 10.0.0.1", "master-port 6379",
		"slave-priority 100", "slave-repl-offset 42", "replica-announced 1")
	has("SENTINEL sentinels shop", "*[*[", "ip 10.0.0.1 port 26379", "flags sentinel link", "flags sentinel,s_down,disconnected")
	has("INFO", "redis_mode:sentinel", "master0:name=shop,status=ok,address=10.0.0.1:6379,slaves=1,sentinels=3")
	has("HELLO 3", "%[", "mode sentinel", "proto :3")
	has("SENTINEL masters", "*[%[", master...)
	has("SENTINEL master shop", "%[", master...)
	if got := k.do("SENTINEL get-master-addr-by-name other"); got != "_" {
		t.Errorf("RESP3 null: %s", got)
	}

	// A node that is cut off names nobody, whatever it believes.
	p := healthy()
	p.Live, p.Heard = false, 1
	v.set(p)
	for _, x := range []struct{ send, want string }{
		{"SENTINEL get-master-addr-by-name shop", "_"},
		{"SENTINEL master shop", "-" + errCutOff},
		{"SENTINEL replicas shop", "-" + errCutOff},
		{"SENTINEL masters", "*[]"},
		{"SENTINEL ckquorum shop", "-NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority (2 of 3)"},
	} {
		if got := k.do(x.send); got != x.want {
			t.Errorf("cut off: %s\n got %s\nwant %s", x.send, got, x.want)
		}
	}
	// A majority that has no active shows a master that clients pass over.
	p = healthy()
	p.Open = false
	v.set(p)
	if got := k.do("SENTINEL get-master-addr-by-name shop"); got != "_" {
		t.Errorf("no active: %s", got)
	}
	has("SENTINEL masters", "*[%[", "flags master,s_down,o_down")
}

// TestPublications follows one change of the active, as subscribers with RESP2 and RESP3 see it.
func TestPublications(t *testing.T) {
	v, addr := serve(t, Options{})
	two, three := dial(t, addr), dial(t, addr)
	if got := two.do("SUBSCRIBE +switch-master -sdown"); got != "*[subscribe +switch-master :1]" {
		t.Fatal(got)
	}
	if got := two.reply(); got != "*[subscribe -sdown :2]" {
		t.Fatal(got)
	}
	if got := two.do("SENTINEL masters"); !strings.HasPrefix(got, "-ERR Can't execute 'sentinel'") {
		t.Errorf("a RESP2 subscriber may ask: %s", got)
	}
	if got := two.do("PING"); got != "*[pong ]" {
		t.Error(got)
	}
	three.do("HELLO 3")
	if got := three.do("PSUBSCRIBE *switch-m?ster"); got != ">[psubscribe *switch-m?ster :1]" {
		t.Fatal(got)
	}
	if got := three.do("SENTINEL get-master-addr-by-name shop"); got != "*[10.0.0.1 6379]" {
		t.Errorf("a RESP3 subscriber may not ask: %s", got)
	}
	p := healthy()
	p.Epoch, p.Active = 8, Instance{Node: "b", Addr: "10.0.0.2:6379"}
	p.Reads, p.Peers[1].Down = nil, false
	v.set(p)
	if got := two.reply(); got != "*[message +switch-master shop 10.0.0.1 6379 10.0.0.2 6379]" {
		t.Error(got)
	}
	if got := two.reply(); got != "*[message -sdown sentinel 10.0.0.2:26379 10.0.0.2 26379 @ shop 10.0.0.2 6379]" {
		t.Error(got)
	}
	if got := three.reply(); got != ">[pmessage *switch-m?ster +switch-master shop 10.0.0.1 6379 10.0.0.2 6379]" {
		t.Error(got)
	}
	if got := three.do("PUNSUBSCRIBE"); got != ">[punsubscribe *switch-m?ster :0]" {
		t.Error(got)
	}
}

// TestPublisher: nothing is published while the new active does not accept writes or the node is cut off, and once when it does.
func TestPublisher(t *testing.T) {
	p := newPublisher("shop")
	said := func(now Picture) string {
		var s []string
		for _, m := range p.next(now) {
			s = append(s, m.channel)
		}
		return strings.Join(s, " ")
	}
	before := healthy()
	before.Peers = nil
	during, cut, after := before, before, before
	during.Open, during.Active.Down = false, true
	after.Epoch, after.Active = 8, Instance{Node: "b", Addr: "10.0.0.2:6379"}
	after.Reads = []Instance{{Node: "a", Addr: "10.0.0.1:6379"}}
	cut = after
	cut.Live = false
	for i, x := range []struct {
		p    Picture
		want string
	}{
		{before, ""}, {during, "+odown +sdown"}, {during, ""}, {cut, ""}, {after, "+switch-master +slave +slave-reconf-done"}, {after, ""},
	} {
		if got := said(x.p); got != x.want {
			t.Errorf("step %d: said %q, want %q", i, got, x.want)
		}
	}
}

// TestBounds: a subscriber that does not read is closed, and so is a client over the limit.
//
// Faults: R4 (subscriber that reads nothing), R5 (more connections than allowed)
func TestBounds(t *testing.T) {
	_, addr := serve(t, Options{MaxClients: 2, MaxOutputBytes: 4 << 10})
	flood, other := dial(t, addr), dial(t, addr)
	other.do("PING")
	third := dial(t, addr)
	if got := third.reply(); got != "-ERR max number of clients reached" {
		t.Error(got)
	}
	request := fmt.Sprintf("ECHO %s\r\n", strings.Repeat("x", 1000))
	for { // unread echoes fill the socket, then the queue
		if _, err := io.WriteString(flood.conn, strings.Repeat(request, 100)); err != nil {
			break
		}
	}
	if got := other.do("PING"); got != "+PONG" {
		t.Error(got)
	}
}

func TestPassword(t *testing.T) {
	_, addr := serve(t, Options{Password: "secret"})
	k := dial(t, addr)
	for _, x := range []struct{ send, want string }{
		{"SENTINEL masters", "-NOAUTH Authentication required."},
		{"AUTH wrong", "-" + errWrongPass},
		{"AUTH default secret", "+OK"},
		{"ROLE", "*[sentinel *[shop]]"},
	} {
		if got := k.do(x.send); got != x.want {
			t.Errorf("%s: got %s", x.send, got)
		}
	}
}
