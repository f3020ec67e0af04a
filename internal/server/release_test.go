package server

import (
	"strings"
	"testing"
)

// R2, R13: when the node stood still and was replaced between the commit and the reply, the client is told that the outcome is unknown.
func TestReleaseRefused(t *testing.T) {
	f := newFake(t)
	_, path := startServer(t, Options{Backend: f})
	p := dial(t, path)
	if got := p.do("SET k v"); got != "OK" && got != "+OK" {
		t.Fatalf("before: %q", got)
	}
	f.stale.Store(true)
	if got := p.do("SET k w"); !strings.HasPrefix(strings.TrimPrefix(got, "-"), "UNKNOWN ") {
		t.Fatalf("after another node was promoted: %q", got)
	}
}
