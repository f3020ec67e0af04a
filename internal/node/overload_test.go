package node

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"repld/internal/server"
)

// TestOverload offers far more than can be committed: many clients write without pause, and the standby takes nothing. What waits is bounded by QueueBytes, not by what is offered; clients are slowed,
// or refused with an error that says why; nothing that was acknowledged is lost; and when the standby is back, everything goes on. It must not run beside other tests, whose memory would count.
//
// R1, R12, R13.
func TestOverload(t *testing.T) {
	for _, x := range []struct {
		name  string
		limit time.Duration
	}{
		{"slowed", time.Minute},
		{"refused", 200 * time.Millisecond},
	} {
		t.Run(x.name, func(t *testing.T) { overloaded(t, x.limit) })
	}
}

const (
	overloadClients = 64
	overloadWrites  = 400 // of each
	overloadValue   = 1 << 10
	overloadQueue   = 32 << 10 // less than a first read of each client
)

func overloaded(t *testing.T, limit time.Duration) {
	f := newFabric()
	c := newCluster(t, 1, func(name string, o *Options) {
		o.QueueBytes, o.CommitTimeout = overloadQueue, limit
		o.Listen, o.Dial = f.listen(name), f.dialer(name)
	}, "a", "b")
	c.start()
	c.promote("a")
	c.settled("a")
	a := c.nodes["a"]
	clients := pushClients(t, a)
	before := liveHeap()
	end := f.stall()
	defer end()
	for _, p := range clients {
		p.wg.Go(p.send)
	}
	held := func() int64 {
		a.group.seq.mu.Lock()
		defer a.group.seq.mu.Unlock()
		return a.group.seq.mu.bytes
	}
	until(t, func() error {
		if held() <= overloadQueue || a.group.seq.ready() {
			return fmt.Errorf("%d bytes are in flight: not full", held())
		}
		return nil
	})
	refused := limit < patience
	if refused {
		readAll(clients)
		until(t, func() error {
			for _, code := range []string{"NOREPLICAS", "UNKNOWN"} {
				if !clients.seen(code) {
					return fmt.Errorf("nobody was answered %s", code)
				}
			}
			return nil
		})
	} else {
		clients.settle(t)
	}
	// One batch is let in while there is room; it is no larger than what is read at once.
	const batch = 64 << 10
	if n := held(); n > overloadQueue+batch+4<<10 {
		t.Errorf("%d bytes of writes are in flight, the limit is %d", n, overloadQueue)
	}
	const offered = overloadClients * overloadWrites * overloadValue
	if !refused {
		if n := clients.written(); n > offered/2 {
			t.Errorf("%d of %d bytes were taken from clients though nothing can be committed", n, offered)
		}
	}
	if grown := liveHeap() - before; grown > offered/2 {
		t.Errorf("%d MiB more memory in use with %d MiB offered", grown>>20, offered>>20)
	}
	end()
	if !refused {
		readAll(clients)
	}
	for i, p := range clients {
		p.wg.Wait()
		if p.err != nil {
			t.Fatalf("client %d: %v", i, p.err)
		}
		if !refused && p.accepted != overloadWrites {
			t.Errorf("client %d: %d of %d writes were accepted, errors %v", i, p.accepted, overloadWrites, p.codes)
		}
		for code := range p.codes {
			if code != "NOREPLICAS" && code != "UNKNOWN" {
				t.Errorf("client %d was answered %s", i, code)
			}
		}
	}
	until(t, func() error { return a.set("after", "1") })
	for i, p := range clients {
		if got, _ := strconv.Atoi(strings.TrimRight(a.get(fmt.Sprintf("key%02d", i)), ".")); p.last > 0 && got < p.last {
			t.Errorf("client %d: write %d was acknowledged, %d is there", i, p.last, got)
		}
	}
}

func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// pusher is a client that writes whether or not it is answered, and reads when it is told to.
type pusher struct {
	conn net.Conn
	key  string
	sent atomic.Int64
	wg   sync.WaitGroup

	// Of the reader.
	mu       sync.Mutex
	codes    map[string]int
	accepted int
	last     int // the newest accepted write, from 1
	err      error
}

type pushers []*pusher

func pushClients(t *testing.T, a *member) pushers {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := server.ListenUnix(socket, 0o600)
	errorless(t, err)
	go func() { _ = a.server.Serve(l, false) }() // until the node stops
	var out pushers
	for i := range overloadClients {
		conn, err := net.Dial("unix", socket)
		errorless(t, err)
		p := &pusher{conn: conn, key: fmt.Sprintf("key%02d", i), codes: map[string]int{}}
		out = append(out, p)
		t.Cleanup(func() { conn.Close(); p.wg.Wait() })
	}
	return out
}

func (p *pusher) send() {
	for i := 1; i <= overloadWrites; i++ {
		value := strconv.Itoa(i)
		value += strings.Repeat(".", overloadValue-len(value))
		n, err := fmt.Fprintf(p.conn, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(p.key), p.key, len(value), value)
		p.sent.Add(int64(n))
		if err != nil {
			return // the reader says so
		}
	}
}

func readAll(all pushers) {
	for _, p := range all {
		p.wg.Go(p.read)
	}
}

func (p *pusher) read() {
	in := bufio.NewReader(p.conn)
	for i := 1; i <= overloadWrites; i++ {
		line, err := in.ReadString('\n')
		p.mu.Lock()
		switch {
		case err != nil:
			p.err = fmt.Errorf("answer %d: %w", i, err)
		case line == "+OK\r\n":
			p.accepted++
			p.last = i
		case line[0] == '-':
			code, _, _ := strings.Cut(line[1:], " ")
			p.codes[code]++
		default:
			p.err = fmt.Errorf("answer %d: %q", i, line)
		}
		stop := p.err != nil
		p.mu.Unlock()
		if stop {
			return
		}
	}
}

func (all pushers) written() (n int64) {
	for _, p := range all {
		n += p.sent.Load()
	}
	return n
}

// settle waits until the clients cannot write any more.
func (all pushers) settle(t *testing.T) {
	last, same := int64(-1), 0
	until(t, func() error {
		if n := all.written(); n != last {
			last, same = n, 0
		} else {
			same++
		}
		if same < 20 {
			return errors.New("clients still write")
		}
		return nil
	})
}

func (all pushers) seen(code string) bool {
	for _, p := range all {
		p.mu.Lock()
		n := p.codes[code]
		p.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}
