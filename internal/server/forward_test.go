package server

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeForwarder is how a standby of these tests reaches the active.
type fakeForwarder struct {
	mu      sync.Mutex
	active  bool
	changed chan struct{}
	open    func() (net.Conn, error)
}

func (f *fakeForwarder) Active() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active
}

func (f *fakeForwarder) Open(context.Context) (net.Conn, error) {
	f.mu.Lock()
	open := f.open
	f.mu.Unlock()
	return open()
}

func (f *fakeForwarder) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeForwarder) set(active bool, open func() (net.Conn, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active, f.open = active, open
	close(f.changed)
	f.changed = make(chan struct{})
}

func nobody() (net.Conn, error) { return nil, errors.New("no active") }

// standby starts a server that forwards, and the node that it belongs to refuses writes.
func standby(t *testing.T, wait time.Duration) (*fakeForwarder, *fakeBackend, string) {
	t.Helper()
	f := &fakeForwarder{changed: make(chan struct{}), open: nobody}
	b := newFake(t)
	away(b)
	_, path := startServer(t, Options{Backend: b, Forward: f, ForwardWait: wait})
	return f, b, path
}

// away makes a node a standby; back makes it the active.
func away(b *fakeBackend) {
	b.knobs.Lock()
	defer b.knobs.Unlock()
	b.knobs.refuse, b.knobs.viewErr = ReadOnly(8, "b"), MasterDown()
	b.knobs.status.Role, b.knobs.status.Epoch, b.knobs.status.Active = RoleStandby, 8, "b"
}

func back(b *fakeBackend) {
	b.knobs.Lock()
	defer b.knobs.Unlock()
	b.knobs.refuse, b.knobs.viewErr = nil, nil
	b.knobs.status.Role = RoleActive
}

// activeNode is a server that executes forwarded commands.
func activeNode(t *testing.T) (*fakeBackend, func() (net.Conn, error)) {
	t.Helper()
	b := newFake(t)
	s, _ := startServer(t, Options{Backend: b})
	var all sync.WaitGroup
	t.Cleanup(func() { _ = s.Close(); all.Wait() })
	return b, func() (net.Conn, error) {
		near, far := net.Pipe()
		all.Go(func() {
			defer far.Close()
			if err := s.ServeForwarded(far, "a"); err != nil && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, ErrClosed) {
				t.Errorf("link ended: %v", err)
			}
		})
		return near, nil
	}
}

// broken is an active that takes a request and dies.
func broken() (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		_, _ = io.ReadFull(far, make([]byte, requestHead+4))
		_ = far.Close()
	}()
	return near, nil
}

// TestForward goes through what a client on a standby's socket may send.
func TestForward(t *testing.T) {
	f, own, path := standby(t, 30*time.Second)
	_, open := activeNode(t)
	f.set(false, open)
	p := dial(t, path)
	for _, x := range []struct{ send, want string }{
		{"SET k 1", "+OK"}, {"INCR k", ":2"}, {"GET k", `"2"`}, {"PING", "+PONG"}, {"MULTI", "+OK"}, {"INCR k", "+QUEUED"}, {"GET k", "+QUEUED"},
		{"EXEC", `[:3 "3"]`}, {"EXEC", "-ERR EXEC without MULTI"}, {"WATCH k", "+OK"}, {"MULTI", "+OK"}, {"INCR k", "+QUEUED"}, {"EXEC", "[:4]"},
		{"WATCH k", "+OK"}, {"SET k 9", "+OK"}, {"MULTI", "+OK"}, {"INCR k", "+QUEUED"}, {"EXEC", "[nil]"}, {"GET k", `"9"`},
		{"WATCH k", "+OK"}, {"SET k 9", "+OK"}, {"UNWATCH", "+OK"}, {"MULTI", "+OK"}, {"INCR k", "+QUEUED"}, {"EXEC", "[:10]"},
		{"MULTI", "+OK"}, {"NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with:"}, {"EXEC", "-EXECABORT Transaction discarded because of previous errors."},
		{"LPUSH", "-ERR unknown command 'LPUSH', with args beginning with:"}, {"GET", "-ERR wrong number of arguments for 'get' command"},
		{"DBSIZE", ":1"}, {"REPLD.ONCE id 60000 INCR k", ":11"}, {"REPLD.ONCE id 60000 INCR k", ":11"},
	} {
		if got := strings.TrimSpace(p.do(x.send)); got != x.want && !(x.want == "[nil]" && strings.Contains(got, "nil")) {
			t.Errorf("%s: got %s, want %s", x.send, got, x.want)
		}
	}
	p.send(encode("SET", "a", "1") + encode("PING") + encode("CLIENT", "REPLY", "SKIP") + encode("INCR", "a") + encode("GET", "a") + encode("MULTI") + encode("INCR", "a") + encode("EXEC"))
	var got []string
	for range 6 {
		got = append(got, p.reply())
	}
	if s := strings.Join(got, " "); s != `+OK +PONG "2" +OK +QUEUED [:3]` {
		t.Errorf("pipeline: %s", s)
	}
	// This node becomes the active: the connection goes on, and a watch on the other node counts as broken.
	p.do("WATCH k")
	back(own)
	f.set(true, nobody)
	if got := p.do("SET here 1") + p.do("MULTI") + p.do("SET here 2"); got != "+OK+OK+QUEUED" {
		t.Error(got)
	}
	if got := p.do("EXEC"); !strings.Contains(got, "nil") {
		t.Errorf("EXEC of a watch on another node: %s", got)
	}
	if got := p.do("GET here"); got != `"1"` {
		t.Error(got)
	}
}

// TestForwardOutcomes: commands wait for an active; what was sent and not answered is unknown if it writes and asked again if it reads; what was refused is sent
// again; and at the end of forward_wait nothing was executed.
//
// Faults: P1 (the active dies after it took a forwarded request)
func TestForwardOutcomes(t *testing.T) {
	_, _, path := standby(t, 300*time.Millisecond)
	p := dial(t, path)
	if got := p.do("SET k 1"); got != "-READONLY You can't write against a read only replica. (epoch 8, active b)" {
		t.Error(got)
	}
	if got := p.do("GET k"); got != "-"+MasterDown().Error() {
		t.Error(got)
	}

	f, own, path := standby(t, 30*time.Second)
	theirs, open := activeNode(t)
	p = dial(t, path)
	p.send(encode("SET", "k", "1")) // parked
	f.set(false, open)
	if got := p.reply(); got != "+OK" {
		t.Errorf("parked: %s", got)
	}
	tries := 0
	once := func() (net.Conn, error) {
		if tries++; tries == 1 {
			return broken()
		}
		return open()
	}
	q := dial(t, path)
	drop := func() { // links that are idle lead to the old active
		away(theirs)
		f.set(false, nobody)
		p.send(encode("GET", "k"))
		back(theirs)
		tries = 0
		f.set(false, once)
		if got := p.reply(); got != `"1"` {
			t.Errorf("read over a refusal and a broken link: %s", got)
		}
	}
	drop()
	tries = 0
	away(theirs)
	q.send(encode("SET", "k", "2") + encode("GET", "k"))
	f.set(false, once)
	back(theirs)
	a, b := q.reply(), q.reply()
	unknown := a == "-"+unknownWrite && b == "-"+unknownRead
	if !unknown && !(a == "+OK" && b == `"2"`) {
		t.Errorf("got %s %s", a, b)
	}
	// A request whose link breaks after it was sent: unknown, and the connection goes on.
	f2, _, path2 := standby(t, 30*time.Second)
	f2.set(false, broken)
	r := dial(t, path2)
	if got := r.do("SET k 3"); got != "-"+unknownWrite {
		t.Errorf("broken link: %s", got)
	}
	f2.set(false, open)
	if got := r.do("SET k 1"); got != "+OK" {
		t.Errorf("after it: %s", got)
	}
	// The node itself becomes the active while commands wait.
	f.set(false, nobody)
	away(theirs)
	q.send(encode("SET", "mine", "1") + encode("GET", "mine"))
	back(own)
	f.set(true, nobody)
	if a, b := q.reply(), q.reply(); a != "+OK" || b != `"1"` {
		t.Errorf("executed here: %s %s", a, b)
	}
	back(theirs)
}

// TestForwardedRequestLimits: what comes over a link is checked before anything is executed.
func TestForwardedRequestLimits(t *testing.T) {
	s, _ := startServer(t, Options{Backend: newFake(t)})
	for name, head := range map[string][]byte{
		"version":  append([]byte{9, 2}, make([]byte, requestHead-2)...),
		"protocol": append([]byte{1, 7}, make([]byte, requestHead-2)...),
		"none":     append([]byte{1, 2}, make([]byte, requestHead-2)...),
		"many":     {1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1},
	} {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.ServeForwarded(far, "a") }()
		if _, err := near.Write(head); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err == nil {
			t.Errorf("%s: accepted", name)
		}
		_, _ = near.Close(), far.Close()
	}
}
