package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"repld/internal/admin"
	"repld/internal/config"
	"repld/wal"
)

func run(args ...string) (out, errOut string, code int) {
	var o, e bytes.Buffer
	code = execute(args, &o, &e)
	return o.String(), e.String(), code
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "repld.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVerbs(t *testing.T) {
	good := file(t, "cluster: shop\nnode: a\ndata: d\n")
	bad := file(t, "cluster: shop\nnode: a\ndata: d\nsync: {k: 3}\nnodes: []\n")
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"check-config --config " + good, 0, "ok: node a of cluster shop"},
		{"check-config --config " + good + " --log-level loud", 2, "--log-level: log.level: \"loud\" is not one of"},
		{"check-config --config " + bad, 2, "unknown key"},
		{"check-config --config " + bad, 2, "sync.k: 3 standbys can never answer"},
		{"--config " + bad, 2, "2 problems"},
		{"check-config --config /nonexistent.yml", 2, "no such file"},
		{"print-config --wal-codec zstd --config " + good, 0, "codec: zstd # --wal-codec"},
		{"version", 0, "repld devel"},
		{"frobnicate", 2, "unknown command"},
		{"--help", 0, "Exit codes"},
		{"completion bash", 0, "bash completion"},
	} {
		out, errOut, code := run(strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(out+errOut, tc.says) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", tc.args, code, tc.code, tc.says, out, errOut)
		}
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	newNotifier(slog.New(slog.DiscardHandler)).send("READY=1", "STATUS=x")
	if got := receive(t, l); got != "READY=1\nSTATUS=x" {
		t.Fatalf("got %q", got)
	}
	t.Setenv("NOTIFY_SOCKET", path+"-gone")
	newNotifier(slog.New(slog.DiscardHandler)).send("READY=1") // is logged, no more
	t.Setenv("NOTIFY_SOCKET", "")
	if newNotifier(slog.New(slog.DiscardHandler)).enabled() {
		t.Fatal("enabled without a socket")
	}
}

func receive(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1024)
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// The list of peers, and so of members, is the same on all nodes; the set that counts is without the node itself (R5).
func TestNodeOptions(t *testing.T) {
	c, err := config.Load(config.LoadOptions{File: file(t, `cluster: shop
node: b
data: d
peers: [{name: a, addr: "127.0.0.1:1", client: "127.0.0.1:6379"}, {name: b, addr: "127.0.0.1:2"}, {name: c, addr: "127.0.0.1:3"}]
insecure: true
wal: {codec: zstd}
limits: {queue_bytes: 1MiB, stall: 3s}
`)})
	if err != nil {
		t.Fatal(err)
	}
	o, err := nodeOptions(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.Sync.Members, []string{"a", "b", "c"}) || o.Sync.K != 1 || len(o.Peers) != 2 || o.Peers[0].Client != "127.0.0.1:6379" {
		t.Errorf("sync %+v, peers %+v", o.Sync, o.Peers)
	}
	if o.Codec != wal.CodecZstd || o.QueueBytes != 1<<20 || o.StallLimit != 3*time.Second || o.Client.Limits.MaxBulk != 512<<20 {
		t.Errorf("options %+v", o)
	}
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
}

// A node that stands alone: it is ready, takes writes, re-reads its log level, stops cleanly on SIGTERM, and has kept the write.
func TestDaemon(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	c, err := config.Load(config.LoadOptions{File: file(t, "cluster: shop\nnode: a\ndata: d\nwal: {segment_size: 1MiB}\n")})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		logger := slog.New(slog.NewTextHandler(io.Discard, nil))
		d := &daemon{config: c, logger: logger, notify: newNotifier(logger)}
		signals, reloads, ended := make(chan os.Signal, 1), make(chan bool, 1), make(chan error, 1)
		go func() { ended <- d.run(signals, func() { reloads <- true }) }()
		for receive(t, l) != "READY=1" {
		}
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: c.Client.Socket, MaxRetries: -1})
		var got string
		active(t, func(ctx context.Context) (err error) {
			if round == 0 {
				return client.Set(ctx, "k", "v", 0).Err()
			}
			got, err = client.Get(ctx, "k").Result()
			return err
		})
		if round == 1 && got != "v" {
			t.Fatalf("after the restart: %q", got)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		a := admin.NewClient(c.Admin.Socket)
		if st, err := a.Status(t.Context(), true); err != nil || st.Active != "a" || st.Cluster != "shop" {
			t.Fatalf("status %+v, %v", st, err)
		}
		a.Close()
		signals <- syscall.SIGHUP
		<-reloads
		signals <- syscall.SIGTERM
		for !strings.HasPrefix(receive(t, l), "STOPPING=1") {
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("does not stop")
		}
	}
}

// active repeats do until the node that stands alone has taken over.
func active(t *testing.T, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the node does not take over: %v", err)
		}
	}
}
