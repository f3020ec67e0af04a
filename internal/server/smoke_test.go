package server

import "testing"

func TestSmoke(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	for _, l := range []string{"PING", "SET a 1", "GET a", "INCR a", "GET a", "MULTI", "SET b 2", "GET b", "EXEC", "KEYS *", "SCAN 0", "KV.RANGE - +", "HELLO 3", "COMMAND COUNT", "INFO", "CLIENT LIST", "ROLE", "MEMORY HELP"} {
		t.Log(l, p.do(l))
	}
}
