package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/server"
)

// serve has the node serve clients on a unix socket, and returns how to connect to it until the test ends.
func (m *member) serve(t *testing.T) (dial func() net.Conn) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "client.sock")
	l, err := server.ListenUnix(socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = m.server.Serve(l, false) }() // until the node stops
	return func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

// TestAllocations guards the way of a command from socket to socket on an active, with a log and a state on disk: memory that it leaves to the collector
// is counted, because time cannot be asserted. It must not run beside other tests, whose allocations would count.
func TestAllocations(t *testing.T) {
	const clients, warm, counted, most = 16, 500, 2000, 3
	dir := t.TempDir()
	c := newCluster(t, 0, func(_ string, o *Options) { o.FS, o.Dir = vfs.Default, filepath.Join(dir, "data") }, "a")
	c.start()
	c.promote("a")
	dial := c.nodes["a"].serve(t)
	conns := make([]net.Conn, clients)
	for i := range conns {
		conns[i] = dial()
	}
	for _, k := range []struct{ name, request, reply string }{
		{"SET", "*3\r\n$3\r\nSET\r\n$5\r\nkey%02d\r\n$10\r\n0123456789\r\n", "+OK\r\n"},
		{"GET", "*2\r\n$3\r\nGET\r\n$5\r\nkey%02d\r\n", "$10\r\n0123456789\r\n"},
	} {
		// ask has each client repeat its command so many times.
		ask := func(times int) error {
			var wg sync.WaitGroup
			errs := make([]error, clients)
			for i, conn := range conns {
				wg.Go(func() {
					request, reply := fmt.Appendf(nil, k.request, i), make([]byte, len(k.reply))
					for range times {
						_, err := conn.Write(request)
						if err == nil {
							_, err = io.ReadFull(conn, reply)
						}
						if err == nil && string(reply) != k.reply {
							err = fmt.Errorf("%q was answered %q", request, reply)
						}
						if err != nil {
							errs[i] = err
							return
						}
					}
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		}
		if err := ask(warm); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := ask(counted); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		each := float64(after.Mallocs-before.Mallocs) / (clients * counted)
		t.Logf("%s: %.2f allocations of %.0f bytes in all", k.name, each, float64(after.TotalAlloc-before.TotalAlloc)/(clients*counted))
		if each > most {
			t.Errorf("%s: %.2f allocations each, want at most %d", k.name, each, most)
		}
	}
}
