package server

import (
	"errors"
	"strings"
	"testing"

	"repld/wal"
)

// historian is a fake that gives receipts.
type historian struct {
	*fakeBackend
	err error
}

func (h historian) Receipt(lsn wal.LSN) (wal.Position, error) {
	return wal.Position{Epoch: 7, LSN: lsn, Hash: 0xabc}, h.err
}

func (h historian) InHistory(p wal.Position) (Verdict, string) {
	if p.Hash == 0xabc {
		return VerdictIn, "here"
	}
	return VerdictNotIn, "another one"
}

// A write that asks for a receipt is answered [reply, receipt]; errors, reads, and connections that did not ask are answered as ever, in pipelines, transactions and with REPLD.ONCE too.
func TestReceipt(t *testing.T) {
	_, path := startServer(t, Options{Backend: historian{fakeBackend: newFake(t)}})
	p := dial(t, path)
	for _, x := range []struct{ send, want string }{
		{"SET k v", "+OK"},
		{"REPLD.RECEIPT SET k v", `[+OK "7/2/0000000000000abc"]`},
		{"REPLD.RECEIPT INCR n", `[:1 "7/3/0000000000000abc"]`},
		{"REPLD.RECEIPT INCR k", "-ERR value is not an integer or out of range"},
		{"REPLD.RECEIPT GET k", "-ERR REPLD.RECEIPT executes commands that write; 'get' is none that it may"},
		{"REPLD.RECEIPT REPLD.RECEIPT INCR n", "-ERR REPLD.RECEIPT executes commands that write; 'repld.receipt' is none that it may"},
		{"REPLD.RECEIPT EXEC", "-ERR REPLD.RECEIPT executes commands that write; 'exec' is none that it may"},
		{"REPLD.RECEIPT INCR", "-ERR wrong number of arguments for 'incr' command"},
		{"REPLD.RECEIPT NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with:"},
		{"REPLD.RECEIPT REPLD.ONCE id 60000 INCR n", `[:2 "7/4/0000000000000abc"]`},
		{"GET k", `"v"`},
		{"REPLD.RECEIPTS MAYBE", "-ERR syntax error: REPLD.RECEIPTS ON or OFF"},
		{"REPLD.RECEIPTS ON", "+OK"},
		{"INCR n", `[:3 "7/5/0000000000000abc"]`},
		{"GET n", `"3"`},
		{"MULTI", "+OK"},
		{"INCR n", "+QUEUED"},
		{"GET n", "+QUEUED"},
		{"EXEC", `[[:4 "4"] "7/6/0000000000000abc"]`},
		{"REPLD.RECEIPTS OFF", "+OK"},
		{"INCR n", ":5"},
		{"REPLD.HISTORY 7/2/0000000000000abc", `["in" "here"]`},
		{"REPLD.HISTORY 7/2/0000000000000abd", `["not-in" "another one"]`},
		{"REPLD.HISTORY 7/2", `-ERR "7/2" is not a position: want EPOCH/LSN/HASH, like 3/1042/9f86d081884c7d65`},
	} {
		if got := strings.TrimSpace(p.do(x.send)); got != x.want {
			t.Errorf("%s\n got %s\nwant %s", x.send, got, x.want)
		}
	}
	p.send(encode("REPLD.RECEIPT", "SET", "a", "1") + encode("SET", "b", "2") + encode("REPLD.RECEIPT", "INCR", "a") + encode("GET", "a"))
	a, b, c, d := p.reply(), p.reply(), p.reply(), p.reply()
	if !strings.HasPrefix(a, `[+OK "7/`) || b != "+OK" || !strings.HasPrefix(c, `[:2 "7/`) || d != `"2"` {
		t.Errorf("pipelined: %s %s %s %s", a, b, c, d)
	}
}

// A log that cannot be asked makes the receipt null, never the write an error.
func TestReceiptFails(t *testing.T) {
	_, path := startServer(t, Options{Backend: historian{newFake(t), errors.New("no log")}})
	p := dial(t, path)
	if got := p.do("REPLD.RECEIPT SET k v"); !strings.HasPrefix(got, "[+OK ") || strings.Contains(got, "7/") {
		t.Error(got)
	}
	if got := p.do("GET k"); got != `"v"` {
		t.Error(got)
	}
}

// Without a backend that knows receipts nothing is written and nothing pretended.
func TestNoReceipts(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	for _, cmd := range []string{"REPLD.RECEIPT SET k v", "REPLD.RECEIPTS ON", "REPLD.HISTORY 1/1/0000000000000001"} {
		if got := p.do(cmd); !strings.HasPrefix(got, "-ERR this server") {
			t.Errorf("%s: %s", cmd, got)
		}
	}
	if got := p.do("EXISTS k"); got != ":0" {
		t.Error(got)
	}
}
