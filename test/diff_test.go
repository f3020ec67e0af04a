package test

import (
	"net"
	"os/exec"
	"testing"

	"repld/internal/server/difftest"
	"repld/test/cluster"
)

// TestDifferential compares a whole replicated node with a real redis-server, command by command: same replies.
func TestDifferential(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		needTool(t, "redis-server", "apt-get install redis-server")
	}
	c := cluster.InProcess(t, cluster.Spec{Nodes: cluster.Hot("a", "b"), K: 1})
	a := c.Node("a")
	a.MustPromote()
	difftest.Run(t, func() (net.Conn, error) { return net.Dial("unix", a.Socket) }, difftest.Redis(t), difftest.Options{})
	c.Node("b").WaitCaughtUp(a, waitLong)
	a.Verify()
}
