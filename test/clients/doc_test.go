// Package clients runs unmodified Redis clients of several languages, and our own, against real nodes: they follow a SIGKILL with a promotion and a
// switchover through the Sentinel API (ECOSYSTEM section 2), and clients on a local socket see neither.
package clients

import (
	"os"
	"testing"

	"repld/test/cluster"
)

func TestMain(m *testing.M) {
	code := m.Run()
	cluster.Cleanup()
	os.Exit(code)
}
