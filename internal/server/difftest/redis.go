package difftest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Dial opens a connection to a server.
type Dial func() (net.Conn, error)

// Redis starts a redis-server without persistence, on a unix socket, for the time of the test. Without the program it
// fails the test where CI is set, and skips it elsewhere.
func Redis(t testing.TB) Dial {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		const how = "redis-server is needed to compare with: apt-get install redis-server (7.0)"
		if os.Getenv("CI") != "" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	dir, err := os.MkdirTemp("", "difftest") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "redis.sock")
	cmd := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--databases", "1", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it holds nothing worth keeping
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	dial := func() (net.Conn, error) { return net.DialTimeout("unix", socket, time.Second) }
	if err := waitFor(dial); err != nil {
		t.Fatalf("redis-server does not answer: %v", err)
	}
	return dial
}

func waitFor(dial Dial) error {
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := dial()
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after 10 s: %w", err)
		}
		<-tick.C
	}
}
