package server

import (
	"net"
	"testing"

	"repld/internal/server/difftest"
)

// TestDifferential compares every reply with those of a real redis-server, byte for byte.
func TestDifferential(t *testing.T) {
	redis := difftest.Redis(t)
	_, path := startServer(t, Options{Backend: newFake(t)})
	difftest.Run(t, func() (net.Conn, error) { return net.Dial("unix", path) }, redis, difftest.Options{})
}
