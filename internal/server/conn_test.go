package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/internal/resp"
	"repld/wal"
)

// addCommand puts a command of the test into the table of a server that nobody has connected to yet.
func addCommand(s *Server, c *command) {
	s.mu.Lock() // so that sessions, which are made under it, see the command
	defer s.mu.Unlock()
	c.full = c.name
	s.table.byName[c.name] = c
}

// TestPanicClosesOneSession (P8): wherever a command panics, its record is aborted, the sequencer stays usable, and only
// that connection ends.
// Faults: P8 (a panic in a command)
func TestPanicClosesOneSession(t *testing.T) {
	panics := make(chan any, 3)
	s, path := startServer(t, Options{Backend: newFake(t), OnPanic: func(v any) { panics <- v }})
	addCommand(s, &command{name: "boom", arity: 1, do: func(*call) error { panic("local") }})
	addCommand(s, &command{name: "boomread", arity: 1, flags: fRead, do: func(*call) error { panic("read") }})
	addCommand(s, &command{name: "boomwrite", arity: 1, flags: fWrite, do: func(c *call) error {
		if err := c.txn.Set([]byte("half"), []byte("done"), 0); err != nil {
			return err
		}
		panic("write")
	}})
	other := dial(t, path)
	other.do("SET a 1")
	for _, name := range []string{"boom", "boomread", "boomwrite"} {
		p := dial(t, path)
		p.send(encode("SET", "b", name) + encode(name) + encode("SET", "b", "after"))
		_, _ = io.ReadAll(p.conn) // until the connection ends
		select {
		case v := <-panics:
			if v != strings.TrimPrefix(name, "boom") && v != "local" {
				t.Errorf("%s: panic %v", name, v)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s did not panic", name)
		}
		if got := other.do("INCR a"); !strings.HasPrefix(got, ":") {
			t.Errorf("after %s another connection gets %s", name, got)
		}
	}
	if got := other.do("EXISTS half"); got != ":0" {
		t.Errorf("a record of a panicked command was kept")
	}
	if n := s.Stats().Panics; n != 3 {
		t.Errorf("%d panics counted, want 3", n)
	}
}

// Faults: R5 (more connections than may be)
func TestMaxClients(t *testing.T) { // FAULTS R5
	s, path := startServer(t, Options{Backend: newFake(t), MaxClients: 2})
	a, b := dial(t, path), dial(t, path)
	a.do("PING")
	b.do("PING")
	c := dial(t, path)
	if got := c.reply(); got != "-ERR max number of clients reached" {
		t.Errorf("got %s", got)
	}
	c.ended()
	_ = a.conn.Close()
	eventually(t, "a place is free", func() bool { return s.Stats().Clients == 1 })
	if got := dial(t, path).do("PING"); got != "+PONG" {
		t.Errorf("got %s", got)
	}
	if n := s.Stats().Rejected; n != 1 {
		t.Errorf("%d rejected, want 1", n)
	}
}

func TestIdleTimeout(t *testing.T) {
	s, path := startServer(t, Options{Backend: newFake(t), IdleTimeout: 200 * time.Millisecond})
	p := dial(t, path)
	p.do("PING")
	p.ended()
	if n := s.Stats().IdleTimeouts; n != 1 {
		t.Errorf("%d idle timeouts counted, want 1", n)
	}
}

// Faults: R3 (half a request)
func TestPartialRequestTimeout(t *testing.T) { // FAULTS R3
	s, path := startServer(t, Options{Backend: newFake(t), PartialTimeout: 200 * time.Millisecond})
	p := dial(t, path)
	p.send(encode("PING") + "*1\r\n$4\r\nPI")
	if got := p.reply(); got != "+PONG" {
		t.Errorf("got %s", got)
	}
	p.ended()
	if n := s.Stats().PartialTimeouts; n != 1 {
		t.Errorf("%d partial timeouts counted, want 1", n)
	}
	q := dial(t, path) // a complete request in two pieces does not keep the deadline
	q.send("*1\r\n$4\r\nPI")
	q.send("NG\r\n")
	if got := q.reply(); got != "+PONG" {
		t.Errorf("got %s", got)
	}
	q.send(encode("DEBUG", "SLEEP", "0.25"))
	if got := q.reply(); got != "+OK" {
		t.Errorf("after the deadline of the former request: %s", got)
	}
	if got := q.do("PING"); got != "+PONG" {
		t.Errorf("got %s", got)
	}
}

// Faults: R4 (replies that are not read)
func TestOutputLimit(t *testing.T) { // FAULTS R4
	_, path := startServer(t, Options{Backend: newFake(t), MaxOutputBytes: 100 << 10})
	p := dial(t, path)
	p.args("SET", "big", strings.Repeat("x", 60<<10))
	p.send(strings.Repeat(encode("GET", "big"), 3))
	if b, err := io.ReadAll(p.conn); err != nil || len(b) > 100<<10 {
		t.Errorf("%d bytes and error %v; want the connection closed after at most 100 KiB", len(b), err)
	}
	if got := dial(t, path).do("STRLEN big"); got != ":61440" {
		t.Errorf("got %s", got)
	}
}

// Faults: R4 (a client that does not read)
func TestClientThatDoesNotRead(t *testing.T) { // FAULTS R4
	s, path := startServer(t, Options{Backend: newFake(t), WriteTimeout: 50 * time.Millisecond})
	p := dial(t, path)
	p.args("SET", "big", strings.Repeat("x", 1<<20))
	for range 8 {
		p.send(encode("GET", "big"))
	}
	eventually(t, "the connection is closed", func() bool { return s.Stats().WriteTimeouts == 1 && s.Stats().Clients == 0 })
}

// Faults: R1 (malformed requests)
func TestProtocolErrorEndsConnection(t *testing.T) { // FAULTS R1
	s, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	p.send(encode("SET", "a", "1") + encode("GET", "a") + "*x\r\n" + encode("PING"))
	expect(t, []string{p.reply(), p.reply(), p.reply()}, "+OK", `"1"`, "-ERR Protocol error: invalid multibulk length")
	p.ended()
	if n := s.Stats().ProtocolErrors; n != 1 {
		t.Errorf("%d protocol errors counted, want 1", n)
	}
}

func TestAuth(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t), Password: "secret"})
	p := dial(t, path)
	expect(t, p.pipeline("GET a", "NOSUCH", "MULTI", "AUTH wrong", "AUTH default wrong", "AUTH nobody secret", "HELLO 3", "HELLO 3 AUTH default wrong", "AUTH a b c"),
		"-NOAUTH Authentication required.", "-ERR unknown command 'NOSUCH', with args beginning with: ", "-NOAUTH Authentication required.", "-"+errWrongPass, "-"+errWrongPass, "-"+errWrongPass)
	expect(t, p.pipeline("AUTH secret", "SET a 1", "RESET", "GET a", "AUTH default secret", "GET a"),
		"+OK", "+OK", "+RESET", "-NOAUTH Authentication required.", "+OK", `"1"`)
	q := dial(t, path)
	if got := q.do("HELLO 3 AUTH default secret SETNAME me"); !strings.HasPrefix(got, "{") {
		t.Errorf("HELLO with the password: %s", got)
	}
	if got := q.do("CLIENT GETNAME"); got != `"me"` {
		t.Errorf("got %s", got)
	}
	r := dial(t, path)
	r.send("*11\r\n")
	if got := r.reply(); got != "-ERR Protocol error: unauthenticated multibulk length" {
		t.Errorf("got %s", got)
	}
	r.ended()
	u := dial(t, path)
	u.send(encode("AUTH", "secret") + encode("SET", "a", strings.Repeat("x", 20000)))
	expect(t, []string{u.reply(), u.reply()}, "+OK", "+OK") // the limits of the unauthenticated end with AUTH, in one pipeline too
}

func TestClientKillAndList(t *testing.T) {
	s, path := startServer(t, Options{Backend: newFake(t)})
	a, b, c := dial(t, path), dial(t, path), dial(t, path)
	a.do("CLIENT SETNAME a")
	id := strings.TrimPrefix(b.do("CLIENT ID"), ":")
	c.do("PING")
	list := a.do("CLIENT LIST")
	for _, want := range []string{"name=a", "id=" + id + " ", "cmd=client|list", "cmd=ping", "user=default", "flags=U", "resp=2"} {
		if !strings.Contains(list, want) {
			t.Errorf("CLIENT LIST lacks %q: %s", want, list)
		}
	}
	expect(t, []string{a.do("CLIENT KILL ID " + id), a.do("CLIENT KILL ID " + id + " TYPE pubsub")}, ":1", ":0")
	b.ended()
	expect(t, []string{a.do("CLIENT KILL TYPE normal SKIPME yes")}, ":1")
	c.ended()
	expect(t, []string{a.do("CLIENT KILL TYPE normal SKIPME no")}, ":1")
	a.ended()
	eventually(t, "all are gone", func() bool { return s.Stats().Clients == 0 })
}

// TestDisconnectClients: after a demotion every connection that was there ends, after its running batch.
func TestDisconnectClients(t *testing.T) {
	s, path := startServer(t, Options{Backend: newFake(t)})
	a, b := dial(t, path), dial(t, path)
	a.do("PING")
	b.send(encode("DEBUG", "SLEEP", "60")) // cut short
	eventually(t, "b is busy", func() bool { return strings.Contains(a.do("CLIENT LIST"), "cmd=debug") })
	if n := s.DisconnectClients("test"); n != 2 {
		t.Errorf("%d disconnected, want 2", n)
	}
	if got := b.reply(); got != "+OK" {
		t.Errorf("the running command was answered with %s", got)
	}
	a.ended()
	b.ended()
	if got := dial(t, path).do("PING"); got != "+PONG" {
		t.Errorf("a new connection gets %s", got)
	}
}

// heldBackend keeps results back until it is released.
type heldBackend struct {
	*fakeBackend
	release chan struct{}
	held    chan struct{}
}

func (h *heldBackend) Submit(ctx context.Context, fn func(Sequence) error, done func(wal.LSN, error)) {
	h.fakeBackend.Submit(ctx, fn, func(lsn wal.LSN, err error) {
		go func() {
			h.held <- struct{}{}
			<-h.release
			done(lsn, err)
		}()
	})
}

// TestShutdownDrains: a write that runs is answered before its connection is closed; new connections are refused.
func TestShutdownDrains(t *testing.T) {
	held := &heldBackend{newFake(t), make(chan struct{}), make(chan struct{}, 1)}
	s, err := New(Options{Backend: held})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := ListenUnix(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, false) }()
	idle, busy := dial(t, path), dial(t, path)
	idle.do("PING")
	busy.send(encode("SET", "a", "1"))
	<-held.held
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	idle.ended()
	if err := <-served; !errors.Is(err, ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket file is still there: %v", err)
	}
	close(held.release)
	if got := busy.reply(); got != "+OK" {
		t.Errorf("the running write was answered with %s", got)
	}
	busy.ended()
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.Serve(l, false); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// TestCloseDoesNotWaitForResults: a result that never comes holds nothing up (R12), and the client is told that it is
// unknown (R13).
func TestCloseDoesNotWaitForResults(t *testing.T) {
	held := &heldBackend{newFake(t), make(chan struct{}), make(chan struct{}, 1)}
	defer close(held.release)
	s, path := startServer(t, Options{Backend: held})
	p := dial(t, path)
	p.send(encode("SET", "a", "1"))
	<-held.held
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v, want its deadline", err)
	}
	if got := p.reply(); got != "-"+unknownWrite {
		t.Errorf("got %s", got)
	}
	p.ended()
}

func TestShutdownCommand(t *testing.T) {
	asked := make(chan struct{})
	_, path := startServer(t, Options{Backend: newFake(t), OnShutdown: func() { close(asked) }})
	p := dial(t, path)
	p.send(encode("SHUTDOWN", "NOSAVE"))
	p.ended()
	<-asked
}

// TestSessionWithoutSocket drives a session by hand: bytes in, replies out, one byte at a time.
func TestSessionWithoutSocket(t *testing.T) {
	s, err := New(Options{Backend: newFake(t)})
	if err != nil {
		t.Fatal(err)
	}
	session := newSession(s, 1, "here", "there", false)
	defer session.Close()
	in := encode("SET", "a", "1") + "GET a\r\n" + encode("WAIT", "0", "0") + encode("QUIT") + encode("PING")
	ctx := context.Background()
	for len(in) > 0 {
		session.Input().Feed([]byte(in[:1]))
		in = in[1:]
	step:
		for {
			switch session.Step(ctx) {
			case NeedInput:
				break step
			case Waiting:
				<-session.Done()
				session.Settle()
			case Blocking:
				session.Block(ctx)
			case Closing:
				if got, want := string(session.Output()), "+OK\r\n$1\r\n1\r\n:0\r\n+OK\r\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				return
			}
		}
	}
	t.Error("QUIT did not close the session")
}

func TestLimits(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t), Limits: resp.Limits{MaxBulk: 4096}, MaxTransactionBytes: 1100, MaxBatch: 3})
	p := dial(t, path)
	p.args("SET", "a", strings.Repeat("x", 4000))
	expect(t, []string{p.args("APPEND", "a", strings.Repeat("x", 100)), p.do("SETRANGE a 4090 abcdefgh")}, "-"+errTooLong, "-"+errTooLong)
	p.do("MULTI")
	expect(t, []string{p.args("SET", "b", strings.Repeat("x", 900)), p.args("SET", "b", "y"), p.args("SET", "b", strings.Repeat("x", 900)), p.do("EXEC")},
		"+QUEUED", "+QUEUED", "-ERR Transaction is larger than the server allows", "-EXECABORT Transaction discarded because of previous errors.")
	expect(t, p.pipeline("SET a 1", "INCR a", "MULTI", "INCR a", "INCR a", "WAIT 0 0", "EXEC", "GET a"), "+OK", ":2", "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "[:3 :4 :0]", `"4"`)
}

func TestListenUnix(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, "s.sock")
	l, err := ListenUnix(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	mode := func(path string) os.FileMode {
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode().Perm()
	}
	if mode(path) != 0o660 || mode(dir)&^0o750 != 0 {
		t.Errorf("socket %v, directory %v; want 0660 and at most 0750", mode(path), mode(dir))
	}
	if _, err := ListenUnix(path, 0o660); !errors.Is(err, ErrInUse) {
		t.Errorf("a second listener: %v, want ErrInUse", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file stays: %v", err)
	}

	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = ListenUnix(path, 0o600)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("Close removed a file that is not its own: %v", err)
	}
	if _, err := ListenUnix(path, 0o600); !errors.Is(err, ErrInUse) {
		t.Errorf("over a file that is no socket: %v, want ErrInUse", err)
	}
	if _, err := ListenUnix(filepath.Join(dir, strings.Repeat("x", 120)), 0o600); err == nil {
		t.Error("a path that the kernel would cut is taken")
	}
}
