package replicate

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lossyConn is a connection whose outgoing bytes can be made to vanish.
type lossyConn struct {
	net.Conn
	cut atomic.Bool
}

func (c *lossyConn) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// alone runs the test in a process of its own: pools of yamux hand timers from one synctest bubble to goroutines of other
// tests, which is fatal.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv("REPLD_TEST_ALONE") != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "REPLD_TEST_ALONE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// bubble runs fn on a fake clock. The collections keep channels of one bubble from reaching the next through those pools.
func bubble(t *testing.T, fn func(t *testing.T)) {
	runtime.GC()
	runtime.GC()
	synctest.Test(t, fn)
	runtime.GC()
	runtime.GC()
}

// W2, W8: a link that loses both directions, or one, is noticed within 5 s on both sides; an idle one lives on.
// Faults: W2, W8 (a link that loses one direction, or both)
func TestHalfOpenIsNoticed(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, cut := range map[string]func(a, b *lossyConn){
		"both":   func(a, b *lossyConn) { a.cut.Store(true); b.cut.Store(true) },
		"a to b": func(a, b *lossyConn) { a.cut.Store(true) },
		"b to a": func(a, b *lossyConn) { b.cut.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				pa, pb := net.Pipe()
				ca, cb := &lossyConn{Conn: pa}, &lossyConn{Conn: pb}
				ma, mb := newMesh(t, meshOptions("a", "b")), newMesh(t, meshOptions("b", "a"))
				sa, err := ma.newSession(ca, PeerInfo{Node: "b"}, true)
				must(t, err)
				sb, err := mb.newSession(cb, PeerInfo{Node: "a"}, false)
				must(t, err)
				ended := make(chan time.Time, 2)
				run := func(m *Mesh, s *session) {
					_ = m.adopt(context.Background(), s)
					ended <- time.Now()
					m.running.Wait()
				}
				go run(ma, sa)
				go run(mb, sb)

				time.Sleep(time.Hour) // fake: an idle link
				if sa.mux.IsClosed() || sb.mux.IsClosed() {
					t.Fatalf("the idle session ended: %v, %v", sa.reason(), sb.reason())
				}
				began := time.Now()
				cut(ca, cb)
				for range 2 {
					if d := (<-ended).Sub(began); d > 5*time.Second {
						t.Errorf("noticed after %v", d)
					}
				}
				synctest.Wait()
			})
		})
	}
}
