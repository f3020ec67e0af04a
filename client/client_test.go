package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"repld/internal/resp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode answers REPLD.EPOCH as a node with this role and epoch does, and commands by answer: "" closes the connection without one.
type fakeNode struct {
	addr string
	mu   sync.Mutex
	role string
	at   int64
	got  []string
	say  func(cmd string) string
}

func startFake(t *testing.T, role string, epoch int64, say func(cmd string) string) *fakeNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{addr: l.Addr().String(), role: role, at: epoch, say: say}
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			all.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return f
}

func (f *fakeNode) serve(c net.Conn) {
	defer c.Close()
	var limits resp.Limits
	limits.EnsureDefaults()
	in, out := resp.NewReader(limits), resp.NewWriter(1<<20)
	out.SetProto(3)
	for {
		args, err := in.Next()
		if err != nil {
			return
		}
		if args == nil {
			n, err := c.Read(in.Space())
			if err != nil {
				return
			}
			in.Advance(n)
			continue
		}
		if !f.answer(args, out) {
			return
		}
		if _, err := c.Write(out.Bytes()); err != nil {
			return
		}
		out.Reset(1 << 20)
	}
}

func (f *fakeNode) answer(args [][]byte, out *resp.Writer) bool {
	var line []string
	for _, a := range args {
		line = append(line, string(a))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch strings.ToUpper(line[0]) {
	case "HELLO":
		out.Map(1)
		out.BulkString("proto")
		out.Int(3)
	case "CLIENT":
		out.Error("ERR unknown subcommand")
	case "REPLD.EPOCH":
		if line[1] > fmt.Sprint(f.at) { // one digit each in these tests
			out.Error("STALE")
			return true
		}
		out.Map(3)
		out.BulkString("epoch")
		out.Int(f.at)
		out.BulkString("role")
		out.BulkString(f.role)
		out.BulkString("node")
		out.BulkString("x")
	default:
		f.got = append(f.got, strings.Join(line, " "))
		text := f.say(f.got[len(f.got)-1])
		if text == "" {
			return false
		}
		out.Raw([]byte(text + "\r\n"))
	}
	return true
}

func (f *fakeNode) set(role string, epoch int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.role, f.at = role, epoch
}

func (f *fakeNode) commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.got...)
}

func fine(string) string { return "+OK" }

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	o.Retention = time.Hour
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestStaleActiveIsRefused: of two nodes that both say that they are the active only the one with the higher epoch is written to, and once that epoch was seen
// the other one never again, also when nobody else is left.
//
// Faults: P3, W1 (as its clients see it)
func TestStaleActiveIsRefused(t *testing.T) {
	stale, fresh := startFake(t, "active", 1, fine), startFake(t, "active", 2, fine)
	c := newClient(t, Options{Addrs: []string{stale.addr, fresh.addr}, Timeout: 20 * time.Second})
	if _, err := c.Write(context.Background(), "SET", "a", "1"); err != nil {
		t.Fatal(err)
	}
	if len(stale.commands()) != 0 || c.Epoch() != 2 {
		t.Fatalf("the stale active got %q; epoch %d", stale.commands(), c.Epoch())
	}
	fresh.set("standby", 2)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	alone := newClient(t, Options{Addrs: []string{stale.addr}})
	alone.mu.epoch = 2
	_, err := alone.Write(ctx, "SET", "a", "2")
	if !errors.Is(err, ErrNoActive) || errors.Is(err, ErrUnknown) || len(stale.commands()) != 0 {
		t.Fatalf("error %v; the stale active got %q", err, stale.commands())
	}
}

// TestWriteIsNotRepeated: a write whose connection breaks is not sent again and is unknown; one that is refused is.
func TestWriteIsNotRepeated(t *testing.T) {
	left := 2
	f := startFake(t, "active", 1, func(cmd string) string {
		if strings.HasPrefix(cmd, "INCR") {
			return ""
		}
		if left--; left >= 0 {
			return "-READONLY You can't write against a read only replica."
		}
		return ":7"
	})
	c := newClient(t, Options{Addrs: []string{f.addr}, Timeout: 20 * time.Second})
	if v, err := c.Write(context.Background(), "APPEND", "a", "1"); err != nil || v != int64(7) {
		t.Errorf("refused twice: %v %v", v, err)
	}
	if _, err := c.Write(context.Background(), "INCR", "a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("broken: %v", err)
	}
	n := 0
	for _, g := range f.commands() {
		if strings.HasPrefix(g, "INCR") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// TestDoIsRepeated: with an id the same command is sent until it is answered, and an error of the command is not retried.
//
// Faults: R6 (connection broken, -UNKNOWN, refused, then answered)
func TestDoIsRepeated(t *testing.T) {
	answers := []string{"", "-UNKNOWN the outcome of this write is unknown", "-LOADING x", ":1"}
	f := startFake(t, "active", 1, func(string) string {
		a := answers[0]
		answers = answers[1:]
		return a
	})
	c := newClient(t, Options{Addrs: []string{f.addr}, Timeout: 20 * time.Second})
	if v, err := c.Do(context.Background(), "id", "INCR", "a"); err != nil || v != int64(1) {
		t.Fatalf("%v %v", v, err)
	}
	for _, g := range f.commands() {
		if g != "REPLD.ONCE id 3600000 INCR a" {
			t.Errorf("sent %q", g)
		}
	}
	answers = []string{"-WRONGTYPE Operation against a key"}
	var server *ServerError
	if _, err := c.Do(context.Background(), "id2", "INCR", "a"); !errors.As(err, &server) || server.Code != "WRONGTYPE" {
		t.Errorf("%v", err)
	}
}

func TestJudge(t *testing.T) {
	for text, want := range map[string]outcome{
		"READONLY x": refused, "LOADING x": refused, "MASTERDOWN x": refused, "TRYAGAIN x": refused, "NOREPLICAS x": refused, "STALE x": refused,
		"UNKNOWN x": unknown, "WRONGTYPE x": answered, "ERR x": answered, "ERR max number of clients reached": refused, "EXECABORT x": answered,
	} {
		if got := judge(fakeReply(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	for _, x := range []struct {
		err  error
		want outcome
	}{
		{nil, answered}, {redis.Nil, answered}, {&net.OpError{Op: "dial"}, refused}, {&net.OpError{Op: "read"}, unknown},
		{errNotSent, refused}, {context.DeadlineExceeded, unknown}, {errors.New("EOF"), unknown},
	} {
		if got := judge(x.err); got != x.want {
			t.Errorf("%v: %d, want %d", x.err, got, x.want)
		}
	}
}

type fakeReply string

func (e fakeReply) Error() string { return string(e) }
func (fakeReply) RedisError()     {}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Sentinels: []string{"x:1"}}, {Addrs: []string{"x:1"}, Retention: time.Second, Timeout: time.Minute},
		{Addrs: []string{"x:1"}, Retention: 30 * 24 * time.Hour}, {Addrs: []string{"x:1"}, MinRetry: time.Second, MaxRetry: time.Millisecond},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
	if a, b := NewID(), NewID(); a == b || len(a) != 32 {
		t.Errorf("ids %s %s", a, b)
	}
}

// TestReceipt: the prefix, what comes with it, and what a node says of it.
func TestReceipt(t *testing.T) {
	const receipt = "3/7/00000000000000ab"
	node := startFake(t, "active", 3, func(cmd string) string {
		switch {
		case strings.HasPrefix(cmd, "REPLD.RECEIPT SET"), strings.HasPrefix(cmd, "REPLD.RECEIPT REPLD.ONCE id "):
			return "*2\r\n+OK\r\n$20\r\n" + receipt + "\r\n"
		case cmd == "REPLD.HISTORY "+receipt:
			return "*2\r\n$6\r\nnot-in\r\n$3\r\nwhy\r\n"
		}
		return "-ERR " + cmd + "\r\n"
	})
	c := newClient(t, Options{Addrs: []string{node.addr}})
	for _, do := range []func() (any, Receipt, error){
		func() (any, Receipt, error) { return c.WriteReceipt(t.Context(), "SET", "k", "v") },
		func() (any, Receipt, error) { return c.DoReceipt(t.Context(), "id", "SET", "k", "v") },
	} {
		if v, r, err := do(); err != nil || v != "OK" || r != receipt {
			t.Errorf("%v, %q, %v", v, r, err)
		}
	}
	if v, why, err := c.CheckReceipt(t.Context(), receipt); err != nil || v != NotIn || why != "why" {
		t.Errorf("%s, %s, %v", v, why, err)
	}
	if _, _, err := c.WriteReceipt(t.Context(), "GET", "k"); err == nil {
		t.Error("an error became a receipt")
	}
}
