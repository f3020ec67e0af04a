package test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/test/cluster"
)

// TestGoRedis uses the real go-redis client, RESP3 handshake and all, on a replicated node.
func TestGoRedis(t *testing.T) {
	c := cluster.InProcess(t, cluster.Spec{Nodes: cluster.Hot("a", "b"), K: 1, StandbyReads: true})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: a.Socket})
	defer rdb.Close()
	for _, proto := range []int{2, 3} {
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: a.Socket, Protocol: proto})
		if got, err := client.Ping(ctx).Result(); err != nil || got != "PONG" {
			t.Fatalf("RESP%d ping: %q, %v", proto, got, err)
		}
		client.Close()
	}
	if err := rdb.Set(ctx, "k", "v", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.Incr(ctx, "n").Result(); err != nil || n != 1 {
		t.Fatalf("incr: %d, %v", n, err)
	}
	if d, err := rdb.TTL(ctx, "k").Result(); err != nil || d <= 0 || d > time.Hour {
		t.Fatalf("ttl: %s, %v", d, err)
	}
	// An optimistic transaction sees a change in between and fails.
	err := rdb.Watch(ctx, func(tx *redis.Tx) error {
		if err := rdb.Set(ctx, "k", "changed", 0).Err(); err != nil {
			return err
		}
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "k", "mine", 0).Err() })
		return err
	}, "k")
	if !errors.Is(err, redis.TxFailedErr) {
		t.Fatalf("watched transaction: %v, want TxFailedErr", err)
	}
	// A pipeline reads its own writes.
	var get *redis.StringCmd
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "p", "1", 0)
		p.Append(ctx, "p", "2")
		get = p.Get(ctx, "p")
		return nil
	}); err != nil || get.Val() != "12" {
		t.Fatalf("pipeline: %q, %v", get.Val(), err)
	}
	if n, err := rdb.Wait(ctx, 1, 5*time.Second).Result(); err != nil || n != 1 {
		t.Fatalf("wait: %d, %v", n, err)
	}
	// The standby serves reads because it is told to, and refuses writes with the active's name.
	b.WaitCaughtUp(a, 20*time.Second)
	if got, err := b.Redis().Get(ctx, "p").Result(); err != nil || got != "12" {
		t.Fatalf("read on the standby: %q, %v", got, err)
	}
	if err := b.Redis().Set(ctx, "p", "x", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "READONLY") || !strings.Contains(err.Error(), "active a") {
		t.Fatalf("write on the standby: %v", err)
	}
	a.Verify()
}

// TestRedisCLI uses the real redis-cli, if it is installed.
func TestRedisCLI(t *testing.T) {
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		needTool(t, "redis-cli", "apt-get install redis-tools")
	}
	c := cluster.InProcess(t, cluster.Spec{Nodes: cluster.Hot("a")})
	a := c.Node("a")
	run := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(cli, append([]string{"-s", a.Socket}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	cluster.Until(t, 10*time.Second, func() error {
		if got := run("", "SET", "greeting", "hello"); got != "OK" {
			return fmt.Errorf("SET answers %q", got)
		}
		return nil
	})
	if got := run("", "GET", "greeting"); got != "hello" {
		t.Errorf("GET answers %q", got)
	}
	if got := run("SET a 1\nINCR a\nSTRLEN a\n"); got != "OK\n2\n1" {
		t.Errorf("commands from standard input answer %q", got)
	}
	if got := run("", "--scan", "--pattern", "gr*"); got != "greeting" {
		t.Errorf("--scan answers %q", got)
	}
	if got := run("", "INFO", "replication"); !strings.Contains(got, "role:master") {
		t.Errorf("INFO replication answers %q", got)
	}
	if got := run("", "-3", "HELLO", "3"); !strings.Contains(got, "version") {
		t.Errorf("HELLO 3 answers %q", got)
	}
}

// TestRestart holds R1 for a node alone: what was acked is there after SIGKILL and after SIGTERM, expiry times included.
func TestRestart(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a")})
	a := c.Node("a")
	ctx := context.Background()
	waitWritable(t, a)
	for round, end := range []func(){a.Kill, a.Stop, a.Kill} {
		for i := range 100 {
			if err := a.Redis().Set(ctx, fmt.Sprintf("r%d:%d", round, i), i, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
		}
		end()
		a.Start()
		waitWritable(t, a)
		for i := range 100 {
			key := fmt.Sprintf("r%d:%d", round, i)
			if v, err := a.Redis().Get(ctx, key).Int(); err != nil || v != i {
				t.Fatalf("round %d: %s is %d, %v", round, key, v, err)
			}
		}
		if d, err := a.Redis().TTL(ctx, fmt.Sprintf("r%d:0", round)).Result(); err != nil || d <= 0 {
			t.Fatalf("ttl after restart: %s, %v", d, err)
		}
	}
}

func waitWritable(t *testing.T, n *cluster.Node) {
	t.Helper()
	cluster.Until(t, 20*time.Second, func() error { return n.Redis().Set(context.Background(), "ready", "1", 0).Err() })
}
