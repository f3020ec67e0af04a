package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"repld/wal"
)

// TestReplies holds answers that the comparison with Redis cannot: commands that Redis lacks, and answers that differ by
// design. Each row is a command line and its reply; rows of a block share one connection.
func TestReplies(t *testing.T) {
	fake := newFake(t)
	fake.set(func(f *fakeBackend) {
		f.knobs.status.Committed, f.knobs.status.Durable = 41, 42
		f.knobs.status.Standbys = []StandbyStatus{
			{Name: "b", Host: "10.0.0.2", Port: 7001, State: LinkConnected, Durable: 40, LastAck: time.Now()},
			{Name: "c", Host: "10.0.0.3", Port: 7001, State: LinkSync},
		}
		f.knobs.acked = func(_ context.Context, _ wal.LSN, n int) int { return min(n, 1) }
	})
	_, path := startServer(t, Options{Backend: fake})
	for _, block := range []struct{ name, rows string }{
		{"range", `
MSET a 1 b 2 ba 3 c 4         => +OK
KV.RANGE - +                  => ["a" "1" "b" "2" "ba" "3" "c" "4"]
KV.RANGE b c                  => ["b" "2" "ba" "3"]
KV.RANGE b c REV              => ["ba" "3" "b" "2"]
KV.RANGE - + LIMIT 1 REV      => ["c" "4"]
KV.RANGE b + LIMIT 2          => ["b" "2" "ba" "3"]
KV.RANGE - + LIMIT 0          => []
KV.RANGE c b                  => []
KV.RANGE - + LIMIT -1         => -ERR LIMIT can't be negative
KV.RANGE - + LIMIT x          => -ERR value is not an integer or out of range
KV.RANGE - + LIMIT            => -ERR syntax error
KV.RANGE -                    => -ERR wrong number of arguments for 'kv.range' command
HELLO 3 FOO                   => -ERR Syntax error in HELLO option 'FOO'
HELLO 3                       => {"server" "redis" "version" "7.0.15" "proto" :3 "id" ID "mode" "standalone" "role" "master" "modules" []}
KV.RANGE b c                  => [["b" "2"] ["ba" "3"]]`},
		{"expiry", `
SET k v PX 100000             => +OK
SET k w EXAT 1                => +OK
GET k                         => nil
SET k v                       => +OK
GETEX k PXAT 1                => "v"
EXISTS k                      => :0
SET k v                       => +OK
PEXPIRE k -5                  => :1
EXISTS k                      => :0
DBSIZE                        => :4`},
		{"group", `
ROLE                          => ["master" :41 [["10.0.0.2" "7001" "40"] ["10.0.0.3" "7001" "0"]]]
WAIT 0 0                      => :2
WAIT 5 0                      => :1
WAIT x 0                      => -ERR value is not an integer or out of range
WAITAOF 1 5 10                => [:1 :1]
WAITAOF 2 0 0                 => -ERR value is out of range, value must between 0 and 1
WAITAOF 1 0 -1                => -ERR timeout is negative
FAILOVER TO 10.0.0.2 7001     => +OK
FAILOVER TO c 0 TIMEOUT 100   => +OK
FAILOVER                      => +OK
FAILOVER TO 10.0.0.9 7001     => -ERR FAILOVER target HOST and PORT is not a replica.
FAILOVER TO 10.0.0.2 7001 FORCE => -ERR FAILOVER FORCE could lose writes and is not done here: see replctl promote
FAILOVER ABORT                => -ERR No failover in progress.
FAILOVER TIMEOUT 0            => -ERR FAILOVER timeout must be greater than 0
CLUSTER INFO                  => -ERR This instance has cluster support disabled
MULTI                         => +OK
WAIT 2 0                      => +QUEUED
ROLE                          => +QUEUED
FAILOVER                      => -ERR Command not allowed inside a transaction
EXEC                          => -EXECABORT Transaction discarded because of previous errors.
MULTI                         => +OK
SET x 1                       => +QUEUED
WAIT 3 0                      => +QUEUED
EXEC                          => [+OK :2]`},
		{"server", `
SHUTDOWN                      => -ERR SHUTDOWN is disabled here: stop the service instead
SHUTDOWN ABORT                => -ERR No shutdown in progress.
DEBUG SLEEP 0.001             => +OK
DEBUG SLEEP x                 => -ERR value is not a valid float
DEBUG LOG hi                  => +OK
DEBUG RELOAD                  => -ERR DEBUG command not allowed. Only DEBUG SLEEP, DEBUG LOG and DEBUG LASTLSN are known here.
FUNCTION FLUSH                => +OK
LATENCY RESET                 => :0
LATENCY HISTOGRAM             => []
MEMORY USAGE a                => :58
OBJECT ENCODING a             => "int"
CONFIG SET databases 2        => -ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config
CONFIG SET maxmemory 1kb hz 3 => +OK
CONFIG GET maxmemory hz       => ["hz" "3" "maxmemory" "1024"]
CONFIG SET appendonly maybe   => -ERR CONFIG SET failed (possibly related to argument 'appendonly') - argument must be 'yes' or 'no'
CONFIG RESETSTAT              => +OK
SLOWLOG RESET                 => +OK
CONFIG SET slowlog-log-slower-than 0 => +OK
AUTH a b                      => -WRONGPASS invalid username-password pair or user is disabled.
CONFIG SET slowlog-log-slower-than -1 => +OK
SLOWLOG LEN                   => :2
CLIENT SETINFO lib-name me    => +OK
CLIENT SETINFO lib-foo me     => -ERR Unrecognized option 'lib-foo'
CLIENT NO-EVICT on            => +OK
CLIENT NO-TOUCH maybe         => -ERR syntax error
COMMAND GETKEYS MSET a 1 b 2  => ["a" "b"]
COMMAND GETKEYS PING x        => -ERR The command has no key arguments
COMMAND LIST FILTERBY ACLCAT transaction => ["multi" "exec" "discard" "watch" "unwatch"]
COMMAND LIST FILTERBY PATTERN *set => ["reset" "set" "getset" "mset" "config|set" "slowlog|reset" "latency|reset"]
COMMAND INFO nosuch           => [nil]
QUIT                          => +OK`},
	} {
		t.Run(block.name, func(t *testing.T) {
			p := dial(t, path)
			for _, row := range strings.Split(strings.TrimSpace(block.rows), "\n") {
				line, want, _ := strings.Cut(row, "=>")
				want = strings.TrimSpace(want)
				got := p.do(line)
				if i := strings.Index(want, "ID"); i > 0 {
					got = got[:i] + "ID" + got[i+strings.IndexByte(got[i:], ' '):]
				}
				if got != want {
					t.Errorf("%s: got %s, want %s", strings.TrimSpace(line), got, want)
				}
			}
		})
	}
	if got := fmt.Sprint(fake.knobs.handed); got != "[b c ]" {
		t.Errorf("handed over to %s, want b, c and any", got)
	}
}

func TestKeysExpire(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	p.do("SET k v PX 20")
	p.do("WATCH k")
	eventually(t, "k expires", func() bool { return dial(t, path).do("GET k") == "nil" })
	p.do("MULTI")
	p.do("SET k w")
	if got := p.do("EXEC"); got != "nil" {
		t.Errorf("EXEC after a watched key expired: %s, want nil", got)
	}
	if got := p.do("SET k w NX"); got != "+OK" {
		t.Errorf("SET NX of an expired key: %s", got)
	}
	if got := p.do("TTL k"); got != ":-1" {
		t.Errorf("the new key inherits an expiry: TTL %s", got)
	}
}

func TestInfo(t *testing.T) {
	fake := newFake(t)
	_, path := startServer(t, Options{Backend: fake})
	p := dial(t, path)
	p.do("SET a 1")
	has := func(line string, want ...string) {
		t.Helper()
		got := p.do(line)
		for _, w := range want {
			if !strings.Contains(got, w+`\r\n`) && !strings.Contains(got, w) {
				t.Errorf("%s lacks %q", line, w)
			}
		}
	}
	has("INFO", "# Server", "redis_version:7.0.15", "connected_clients:1", "used_memory:", "loading:0", "aof_enabled:1", "total_commands_processed:",
		"keyspace_hits:", "role:master", "connected_slaves:0", "master_replid:", "master_repl_offset:", "# CPU", "cluster_enabled:0", "db0:keys=1,", "epoch:7")
	has("INFO commandstats", "cmdstat_set:calls=1,")
	if got := p.do("INFO keyspace"); strings.Contains(got, "# Server") {
		t.Errorf("INFO keyspace has other sections: %s", got)
	}
	fake.set(func(f *fakeBackend) {
		f.knobs.status.Role, f.knobs.status.ActiveHost, f.knobs.status.ActivePort = RoleStandby, "10.0.0.1", 7001
		f.knobs.status.Link, f.knobs.status.Durable, f.knobs.status.Applied = LinkConnected, 9, 8
	})
	has("INFO replication", "role:slave", "master_host:10.0.0.1", "master_port:7001", "master_link_status:up", "slave_repl_offset:8", "slave_read_only:1", "master_last_io_seconds_ago:-1")
	if got, want := p.do("ROLE"), `["slave" "10.0.0.1" :7001 "connected" :9]`; got != want {
		t.Errorf("ROLE: %s, want %s", got, want)
	}
	if got := p.do("WAIT 1 1"); !strings.HasPrefix(got, "-ERR WAIT cannot be used with replica instances.") {
		t.Errorf("WAIT on a standby: %s", got)
	}
	if got := p.do("FAILOVER"); got != "-ERR FAILOVER is not valid when server is a replica." {
		t.Errorf("FAILOVER on a standby: %s", got)
	}
}

// TestScanSeesEveryKeyThatStays walks with small steps while other keys come and go, over cursors that were forgotten.
func TestScanSeesEveryKeyThatStays(t *testing.T) {
	s, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	want := map[string]bool{}
	for i := range 500 {
		key := fmt.Sprintf("common-prefix-%04d", i)
		want[key] = true
		p.args("SET", key, "v")
	}
	cursor, calls := "0", 0
	for {
		got := p.args("SCAN", cursor, "COUNT", "7", "MATCH", "common*")
		calls++
		fields := strings.Fields(strings.Trim(got, "[]"))
		cursor = strings.Trim(fields[0], `"`)
		for _, f := range fields[1:] {
			delete(want, strings.Trim(f, `[]"`))
		}
		if cursor == "0" {
			break
		}
		if len(cursor) > 16 || parseMust(cursor) >= 1<<53 {
			t.Fatalf("cursor %s does not fit a floating-point number", cursor)
		}
		p.args("SET", fmt.Sprintf("common-%04d", calls), "v")
		p.args("DEL", fmt.Sprintf("common-%04d", calls-3))
		if calls == 20 { // as after a restart or a failover
			s.cursors.mu.Lock()
			s.cursors.mu.slots = nil
			s.cursors.mu.Unlock()
		}
		if calls > 1000 {
			t.Fatal("the scan does not end")
		}
	}
	if len(want) > 0 {
		t.Fatalf("%d keys were there all the time and not seen", len(want))
	}
	if got := p.do("SCAN 0 MATCH nosuch* COUNT 100"); got != `["0" []]` {
		t.Errorf("scan of a prefix that is not there: %s", got)
	}
}

func parseMust(s string) uint64 {
	v, ok := parseCursor([]byte(s))
	if !ok {
		panic(s)
	}
	return v
}

func TestRandomKeyReachesAll(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	for _, n := range []int{3, 60} {
		p := dial(t, path)
		p.do("FLUSHALL")
		missing := map[string]bool{}
		for i := range n {
			p.args("SET", fmt.Sprintf("key:%03d", i), "v")
			missing[fmt.Sprintf("%q", fmt.Sprintf("key:%03d", i))] = true
		}
		for range 20000 {
			delete(missing, p.do("RANDOMKEY"))
			if len(missing) == 0 {
				break
			}
		}
		if len(missing) > 0 {
			t.Errorf("of %d keys, never came: %v", n, missing)
		}
	}
}
