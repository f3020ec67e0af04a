package server

import (
	"strings"
	"testing"

	"repld/internal/kv"
)

// TestOnce: a command by id is executed once, and its repetitions are answered the first result, whatever happened in between.
//
// Faults: R6 (repetition by id, pipelined, over FLUSHALL, after -UNKNOWN)
func TestOnce(t *testing.T) {
	f := newFake(t)
	_, path := startServer(t, Options{Backend: f})
	p := dial(t, path)
	for _, x := range []struct{ send, want string }{
		{"REPLD.ONCE a 60000 INCR n", ":1"},
		{"REPLD.ONCE a 60000 INCR n", ":1"},
		{"REPLD.ONCE b 60000 INCR n", ":2"},
		{"REPLD.ONCE a 60000 INCR m", "-ERR this id belongs to another command"},
		{"FLUSHALL", "+OK"},
		{"REPLD.ONCE b 60000 INCR n", ":2"},
		{"EXISTS n", ":0"},
		{"REPLD.ONCE s 60000 SETNX k v", ":1"},
		{"SETNX k w", ":0"},
		{"REPLD.ONCE t 60000 SETNX k w", ":0"}, // no effects of its own: the answer is kept all the same
		{"DEL k", ":1"},
		{"REPLD.ONCE t 60000 SETNX k w", ":0"},
		{"SET word x", "+OK"},
		{"REPLD.ONCE e 60000 INCR word", "-ERR value is not an integer or out of range"}, // nothing happened: it may be tried again
		{"SET word 7", "+OK"},
		{"REPLD.ONCE e 60000 INCR word", ":8"},
		{"REPLD.ONCE x 60000 GET word", "-ERR REPLD.ONCE executes commands that write; 'get' is none that it may"},
		{"REPLD.ONCE x 60000 REPLD.ONCE y 1 INCR n", "-ERR REPLD.ONCE executes commands that write; 'repld.once' is none that it may"},
		{"REPLD.ONCE x 60000 NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with:"},
		{"REPLD.ONCE x 60000 INCR", "-ERR wrong number of arguments for 'incr' command"},
		{"REPLD.ONCE x 0 INCR n", "-ERR value is out of range, value must between 1 and 604800000"},
		{"DBSIZE", ":1"},
	} {
		if got := strings.TrimSpace(p.do(x.send)); got != x.want {
			t.Errorf("%s\n got %s\nwant %s", x.send, got, x.want)
		}
	}
	p.send(encode("REPLD.ONCE", "p", "60000", "APPEND", "l", "x") + encode("REPLD.ONCE", "p", "60000", "APPEND", "l", "x") + encode("GET", "l"))
	if a, b, c := p.reply(), p.reply(), p.reply(); a != ":1" || b != ":1" || c != `"x"` {
		t.Errorf("pipelined: %s %s %s", a, b, c)
	}
	if got := p.do("MULTI"); got != "+OK" {
		t.Fatal(got)
	}
	if got := p.do("REPLD.ONCE q 1 INCR n"); got != "-ERR Command not allowed inside a transaction" {
		t.Error(got)
	}
	p.do("DISCARD")
	id := strings.Repeat("i", kv.MaxIDBytes+1)
	if got := p.do("REPLD.ONCE " + id + " 1 INCR n"); got != "-ERR an id has 1 to 256 bytes" {
		t.Error(got)
	}
}

func TestEpochCommand(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)}) // epoch 7
	p := dial(t, path)
	if got := p.do("REPLD.EPOCH 7"); !strings.Contains(got, ":7") || !strings.Contains(got, "active") {
		t.Error(got)
	}
	if got := p.do("REPLD.EPOCH 8"); got != "-STALE node a knows epoch 7, the client has seen 8" {
		t.Error(got)
	}
	p.ended()
}
