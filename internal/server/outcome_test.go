package server

import (
	"errors"
	"strings"
	"testing"
)

// pipeline sends the lines at once and returns their replies.
func (p *peer) pipeline(lines ...string) []string {
	p.t.Helper()
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(encode(strings.Fields(l)...))
	}
	p.send(b.String())
	var replies []string
	for range lines {
		replies = append(replies, p.reply())
	}
	return replies
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("reply %d: got %s, want %s (all: %s)", i, got[min(i, len(got)-1)], want[i], strings.Join(got, " | "))
		}
	}
}

func TestPipelineReadsItsWrites(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	expect(t, dial(t, path).pipeline("SET a 1", "INCR a", "GET a", "ECHO x", "MULTI", "INCR a", "GET a", "EXEC", "DEL a", "GET a", "NOSUCH"),
		"+OK", ":2", `"2"`, `"x"`, "+OK", "+QUEUED", "+QUEUED", `[:3 "3"]`, ":1", "nil", "-ERR unknown command 'NOSUCH', with args beginning with: ")
}

// TestUnknownOutcome: a write with an unknown outcome is never answered with success nor with "failed" (R13), and no code
// is used that clients retry by themselves.
func TestUnknownOutcome(t *testing.T) {
	fake := newFake(t)
	s, path := startServer(t, Options{Backend: fake})
	p := dial(t, path)
	p.do("SET a 1")
	fake.set(func(f *fakeBackend) { f.knobs.result = ErrUnknown })
	expect(t, p.pipeline("PING", "GET a", "SET a 2", "SETNX a 3", "CLIENT SETNAME me", "MULTI", "SET b 1", "EXEC", "PING"),
		"+PONG", "-"+unknownRead, "-"+unknownWrite, "-"+unknownRead, "+OK", "+OK", "+QUEUED", "-"+unknownWrite, "+PONG")
	for _, text := range []string{unknownRead, unknownWrite} {
		if !strings.HasPrefix(text, "UNKNOWN ") || !strings.Contains(text, "unknown") {
			t.Errorf("%q does not say so", text)
		}
	}
	fake.set(func(f *fakeBackend) { f.knobs.result = nil })
	expect(t, p.pipeline("CLIENT GETNAME", "GET a"), `"me"`, `"1"`)
	if n := s.Stats().UnknownOutcomes; n != 1 {
		t.Errorf("%d unknown outcomes counted, want 1", n)
	}
}

// TestRefusedWrites: on a standby each write names epoch and active, and the reads of its batch are served.
func TestRefusedWrites(t *testing.T) {
	const readOnly = "-READONLY You can't write against a read only replica. (epoch 7, active b)"
	for name, refuse := range map[string]func(f *fakeBackend, err error){
		"before evaluation": func(f *fakeBackend, err error) { f.knobs.refuse = err },
		"after evaluation":  func(f *fakeBackend, err error) { f.knobs.result = err },
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t)
			_, path := startServer(t, Options{Backend: fake})
			p := dial(t, path)
			p.do("SET a 1")
			fake.set(func(f *fakeBackend) { refuse(f, ReadOnly(7, "b")) })
			expect(t, p.pipeline("GET a", "SET a 2", "CLIENT SETNAME x", "GET a", "DEL a", "MULTI", "SET a 3", "EXEC", "GET a", "WATCH a", "CLIENT GETNAME"),
				`"1"`, readOnly, "+OK", `"1"`, readOnly, "+OK", "+QUEUED", readOnly, `"1"`, readOnly, `"x"`)
		})
	}
}

// TestRefusedBatchThatBeginsATransaction: a read that is answered anew is not taken into the transaction.
func TestRefusedBatchThatBeginsATransaction(t *testing.T) {
	fake := newFake(t)
	_, path := startServer(t, Options{Backend: fake})
	p := dial(t, path)
	p.do("SET a 1")
	fake.set(func(f *fakeBackend) { f.knobs.result = NoReplicas() })
	expect(t, p.pipeline("GET a", "SET a 2", "MULTI"), `"1"`, "-NOREPLICAS Not enough good replicas to write.", "+OK")
	expect(t, p.pipeline("GET a", "EXEC"), "+QUEUED", `["1"]`)
}

func TestRefusedWritesStaySilent(t *testing.T) {
	fake := newFake(t)
	_, path := startServer(t, Options{Backend: fake})
	fake.set(func(f *fakeBackend) { f.knobs.result = Loading() })
	p := dial(t, path)
	p.send(encode("CLIENT", "REPLY", "OFF") + encode("SET", "a", "1") + encode("GET", "a") + encode("CLIENT", "REPLY", "ON") +
		encode("CLIENT", "REPLY", "SKIP") + encode("SET", "a", "2") + encode("SET", "a", "3"))
	expect(t, []string{p.reply(), p.reply()}, "+OK", "-LOADING Redis is loading the dataset in memory")
}

func TestReadsRefused(t *testing.T) {
	fake := newFake(t)
	_, path := startServer(t, Options{Backend: fake})
	fake.set(func(f *fakeBackend) { f.knobs.viewErr = MasterDown() })
	expect(t, dial(t, path).pipeline("PING", "GET a", "MULTI", "GET a", "EXEC", "INFO keyspace"), "+PONG", "-"+MasterDown().Error(), "+OK", "+QUEUED",
		"-"+MasterDown().Error(), `"# Keyspace\r\n"`)
	fake.set(func(f *fakeBackend) { f.knobs.viewErr = errors.New("disk gone") })
	expect(t, dial(t, path).pipeline("GET a"), "-ERR disk gone")
}

func TestClientReply(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	p.send(encode("CLIENT", "REPLY", "SKIP") + encode("PING") + encode("ECHO", "a") + encode("CLIENT", "REPLY", "OFF") + encode("SET", "a", "1") +
		encode("NOSUCH") + encode("CLIENT", "REPLY", "ON") + encode("GET", "a"))
	expect(t, []string{p.reply(), p.reply(), p.reply()}, `"a"`, "+OK", `"1"`)
}

func TestWatch(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	a, b := dial(t, path), dial(t, path)
	for _, c := range []struct {
		name, other string
		want        string
	}{
		{"untouched", "SET other 1", "[+OK]"},
		{"written", "SET k 2", "nil"},
		{"deleted", "DEL k", "nil"},
		{"flushed", "FLUSHALL", "nil"},
		{"given an expiry", "EXPIRE k 100", "nil"},
		{"written with the same value", "SET k 1", "nil"},
		{"renamed onto", "RENAME other k", "nil"},
		{"not changed by a failed write", "SETNX k 5", "[+OK]"},
	} {
		a.do("MSET k 1 other 1")
		a.do("WATCH k")
		b.do(c.other)
		expect(t, a.pipeline("MULTI", "SET k 3", "EXEC"), "+OK", "+QUEUED", c.want)
		expect(t, a.pipeline("MULTI", "SET k 4", "EXEC")[2:], "[+OK]") // the watch is over
		if t.Failed() {
			t.Fatalf("after %q", c.name)
		}
	}
	a.do("DEL nokey")
	a.do("WATCH nokey")
	b.do("FLUSHALL")
	expect(t, a.pipeline("MULTI", "PING", "EXEC")[2:], "[+PONG]") // a key that was not there is not touched by deleting all
	a.do("WATCH k")
	b.do("SET k 1")
	expect(t, a.pipeline("UNWATCH", "MULTI", "GET k", "EXEC"), "+OK", "+OK", "+QUEUED", `["1"]`)
	a.do("WATCH k")
	b.do("SET k 2")
	expect(t, a.pipeline("MULTI", "GET k", "EXEC")[2:], "nil") // reads alone are aborted too
}

// TestExecIsOneRecord: one EXEC is one record, and a command that answers an error does not undo the others.
func TestExecIsOneRecord(t *testing.T) {
	fake := newFake(t)
	_, path := startServer(t, Options{Backend: fake})
	p := dial(t, path)
	p.do("SET text abc")
	before := fake.store.Applied().LSN
	expect(t, p.pipeline("MULTI", "SET a 1", "INCR text", "SET b 2", "EXEC")[4:], "[+OK -ERR value is not an integer or out of range +OK]")
	if n := fake.store.Applied().LSN - before; n != 1 {
		t.Errorf("EXEC made %d records, want 1", n)
	}
	expect(t, p.pipeline("MGET a b", "MULTI", "SET a", "SET a 2", "EXEC", "GET a"), `["1" "2"]`, "+OK",
		"-ERR wrong number of arguments for 'set' command", "+QUEUED", "-EXECABORT Transaction discarded because of previous errors.", `"1"`)
	before = fake.store.Applied().LSN
	p.pipeline("SET a 1", "SET b 1", "GET a", "SETNX a 2")
	if n := fake.store.Applied().LSN - before; n != 2 {
		t.Errorf("two effective writes of a pipeline made %d records, want 2", n)
	}
}
