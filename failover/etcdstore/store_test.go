package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/failover"
	"repld/failover/tokentest"
)

// server is a real etcd of one member on its own ports and folder.
type server struct {
	t    testing.TB
	url  string
	args []string
	cmd  *exec.Cmd
}

// startEtcd starts an etcd for one test. Without the program the test is skipped, unless CI=true.
func startEtcd(t testing.TB) *server {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs etcd (Debian package etcd-server)")
		}
		t.Skip("no etcd here (Debian package etcd-server)")
	}
	client, peer := freeURL(t), freeURL(t)
	s := &server{t: t, url: client, args: []string{bin, "--name", "t", "--data-dir", filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "t=" + peer, "--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "error"}}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func freeURL(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out := new(strings.Builder)
	s.cmd.Stderr = out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	probe := s.open("/probe")
	defer probe.Close()
	for end := time.Now().Add(60 * time.Second); ; {
		if _, err := probe.Load(context.Background()); err == nil {
			return
		} else if time.Now().After(end) {
			s.kill()
			s.t.Fatalf("etcd does not answer: %v\n%s", err, out)
		}
	}
}

func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *server) open(key string) *Store {
	s.t.Helper()
	st, err := Open(Options{Endpoints: []string{s.url}, Key: key, Timeout: 3 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func TestConformance(t *testing.T) {
	s := startEtcd(t)
	tokentest.Run(t, func(t *testing.T, n int) []failover.Store {
		var out []failover.Store
		for range n {
			st := s.open("/test/" + t.Name())
			t.Cleanup(func() { _ = st.Close() })
			out = append(out, st)
		}
		return out
	})
}

// W15: while etcd is down nothing is decided, and nothing is said to be; when it is back the token is what it was, and a watch goes on.
// Faults: W15 (etcd stopped and started)
func TestEtcdKilled(t *testing.T) {
	s := startEtcd(t)
	st := s.open("/token")
	defer st.Close()
	ctx := context.Background()
	first, err := st.CompareAndSet(ctx, 0, tokentest.Next(1, "a"))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan failover.Record, 1)
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if rec, err := st.Watch(watch, 1); err == nil {
			seen <- rec
		}
	}()
	s.kill()
	soon, stop := context.WithTimeout(ctx, 600*time.Millisecond)
	defer stop()
	if rec, err := st.Load(soon); err == nil {
		t.Fatalf("loaded without etcd: %+v", rec)
	}
	if rec, err := st.CompareAndSet(soon, 1, tokentest.Next(2, "b")); err == nil || errors.Is(err, failover.ErrConflict) {
		t.Fatalf("set without etcd: %+v, %v", rec, err)
	}
	s.start()
	var now failover.Record
	for end := time.Now().Add(60 * time.Second); ; {
		if now, err = st.Load(ctx); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(now) != fmt.Sprint(first) {
		t.Fatalf("after the restart: %+v, want %+v", now, first)
	}
	next, err := st.CompareAndSet(ctx, 1, tokentest.Next(2, "b"))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case rec := <-seen:
		if rec.Rev != next.Rev {
			t.Fatalf("watched %+v", rec)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the watch does not go on")
	}
}

func TestDecode(t *testing.T) {
	for text, want := range map[string]error{
		`{"version":1,"nonce":"x","record":{"epoch":1,"holder":"a","sync":{},"reason":"","time":"2026-01-01T00:00:00Z","rev":1}}`: nil,
		`{"version":2,"nonce":"x","lease":1}`:            failover.ErrVersion,
		`{"version":1,"nonce":"x","more":1}`:             failover.ErrCorrupt,
		`{"version":1,"nonce":"x","record":{"epoch":1}}`: failover.ErrCorrupt,
		`what`: failover.ErrCorrupt,
	} {
		if _, err := decode([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}
