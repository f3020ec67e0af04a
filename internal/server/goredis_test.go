package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestGoRedis uses the server as a service would, through a client of the wild.
func TestGoRedis(t *testing.T) {
	fake := newFake(t)
	_, path := startServer(t, Options{Backend: fake, Password: "pw"})
	for _, protocol := range []int{2, 3} {
		rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: path, Password: "pw", Protocol: protocol})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s in RESP%d: %v", what, protocol, err)
			}
		}
		must("flush", rdb.FlushAll(ctx).Err())
		must("set", rdb.Set(ctx, "a", "1", time.Hour).Err())
		if v, err := rdb.Get(ctx, "a").Result(); err != nil || v != "1" {
			t.Fatalf("get: %q, %v", v, err)
		}
		if _, err := rdb.Get(ctx, "nokey").Result(); !errors.Is(err, redis.Nil) {
			t.Fatalf("get of a missing key: %v", err)
		}
		if d, err := rdb.TTL(ctx, "a").Result(); err != nil || d < 59*time.Minute {
			t.Fatalf("ttl: %v, %v", d, err)
		}
		must("transaction", rdb.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "n")
				p.IncrByFloat(ctx, "f", 0.5)
				return nil
			})
			return err
		}, "n"))
		err := rdb.Watch(ctx, func(tx *redis.Tx) error {
			must("conflicting write", rdb.Set(ctx, "n", "7", 0).Err())
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			return err
		}, "n")
		if !errors.Is(err, redis.TxFailedErr) {
			t.Fatalf("a conflicting transaction: %v", err)
		}
		keys := map[string]bool{}
		for it := rdb.Scan(ctx, 0, "*", 1).Iterator(); it.Next(ctx); {
			keys[it.Val()] = true
		}
		if len(keys) != 3 {
			t.Fatalf("scanned %v", keys)
		}
		if cmds, err := rdb.Command(ctx).Result(); err != nil || cmds["mset"].StepCount != 2 || !cmds["get"].ReadOnly {
			t.Fatalf("command table: %v, %v", cmds["mset"], err)
		}
		if info, err := rdb.Info(ctx, "replication").Result(); err != nil || !strings.Contains(info, "role:master") {
			t.Fatalf("info: %q, %v", info, err)
		}
		must("client list", rdb.ClientList(ctx).Err())
		must("wait", rdb.Wait(ctx, 0, time.Millisecond).Err())
		must("close", rdb.Close())
	}
}

// TestGoRedisDoesNotRetryUnknown: the code of an unknown outcome makes the client give up, not repeat the write (R13).
func TestGoRedisDoesNotRetryUnknown(t *testing.T) {
	fake := newFake(t)
	s, path := startServer(t, Options{Backend: fake})
	dials := 0
	rdb := redis.NewClient(&redis.Options{Dialer: func(context.Context, string, string) (net.Conn, error) {
		dials++
		return net.Dial("unix", path)
	}, MaxRetries: 3})
	defer rdb.Close()
	ctx := context.Background()
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	fake.set(func(f *fakeBackend) { f.knobs.result = ErrUnknown })
	if err := rdb.Incr(ctx, "n").Err(); err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN ") {
		t.Errorf("got %v", err)
	}
	if calls := s.table.byName["incr"].stats.calls.Load(); calls != 1 || dials != 1 {
		t.Errorf("INCR executed %d times over %d connections, want once", calls, dials)
	}
}
