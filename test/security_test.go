package test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
	"repld/test/cluster"
)

// A node as a real process, with everything that is secret planted: what it writes is nobody else's to read, its sockets have the modes that they should, and no
// log, journal or answer holds a secret, whatever clients with wrong and right passwords do.
func TestNothingLeaks(t *testing.T) {
	const password, wrong, users = "planted-password-7f3a", "planted-guess-91cc", "planted-user-55d0"
	dir, err := os.MkdirTemp("", "repldsec")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	replctl, addr := cluster.Binary(t, "replctl"), cluster.FreeAddr(t)
	for _, args := range [][]string{{"init", "test"}, {"issue", "a"}} {
		if out, err := exec.Command(replctl, append([]string{"certs", "--dir", in("tls")}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	key, err := os.ReadFile(in("tls/a.key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{password, wrong, users, strings.Split(string(key), "\n")[1]}
	text := fmt.Sprintf(`cluster: test
node: a
data: data
client: {socket: run/client.sock, tcp: %q, password_file: password, acl_file: users.acl, tls_cert: tls/a.crt, tls_key: tls/a.key}
admin: {socket: run/admin.sock}
log: {level: debug}
hooks: {on_role_change: [/bin/cat]}
`, addr)
	for name, content := range map[string]string{"a.yml": text, "password": password + "\n", "users.acl": "user reader on >" + users + " ~* +@read +@connection\n"} {
		if err := os.WriteFile(in(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	node := exec.Command(cluster.Binary(t, "repld"), "--config", in("a.yml"))
	node.Stdout, node.Stderr = &log, &log
	node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Wait() }()
	stop := func() error {
		_ = node.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			return fmt.Errorf("no end: %w", node.Process.Kill())
		}
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = stop()
		}
	}()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: in("run/client.sock"), Password: password, MaxRetries: -1})
	defer client.Close()
	cluster.Until(t, 40*time.Second, func() error {
		select {
		case err := <-ended:
			stopped = true
			t.Fatalf("the node ended: %v\n%s", err, log.String())
		default:
		}
		return client.Set(ctx, "k", "v", 0).Err()
	})
	guess := redis.NewClient(&redis.Options{Network: "unix", Addr: in("run/client.sock"), Password: wrong, MaxRetries: -1})
	if err := guess.Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
	_ = guess.Close()
	nobody := redis.NewClient(&redis.Options{Network: "unix", Addr: in("run/client.sock"), MaxRetries: -1})
	if err := nobody.Get(ctx, "k").Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("no password: %v", err)
	}
	if err := client.Do(ctx, "SHUTDOWN", "NOSAVE").Err(); err == nil || !strings.Contains(err.Error(), "ERR") {
		t.Errorf("a client stops the node: %v", err)
	}
	_ = nobody.Close()
	reader := redis.NewClient(&redis.Options{Network: "unix", Addr: in("run/client.sock"), Username: "reader", Password: users, MaxRetries: -1})
	if v, err := reader.Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Errorf("a user who may read reads %q, %v", v, err)
	}
	if err := reader.Set(ctx, "k", "w", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a user who may only read writes: %v", err)
	}
	if err := os.WriteFile(in("users.acl"), []byte("user reader off >"+users+" ~* +@read\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = node.Process.Signal(syscall.SIGHUP)
	cluster.Until(t, 40*time.Second, func() error { // its connection is closed, and it is not let in again
		if err := reader.Get(ctx, "k").Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			return fmt.Errorf("a user that was switched off: %v", err)
		}
		return nil
	})
	_ = reader.Close()
	a := admin.NewClient(in("run/admin.sock"))
	if _, err := a.Promote(ctx, admin.PromoteRequest{Reason: "drill"}, nil); err != nil {
		t.Error(err)
	}
	a.Close()

	for path, mode := range map[string]fs.FileMode{"run": 0o750, "run/client.sock": 0o660, "run/admin.sock": 0o600} {
		if info, err := os.Stat(in(path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	err = filepath.WalkDir(in("data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed while we walk
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v: others can get at it", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	out, err := exec.Command(replctl, "--socket", in("run/admin.sock"), "events", "--limit", "0", "-o", "json").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"kind":"audit"`) || !strings.Contains(string(out), `"kind":"hook"`) {
		t.Errorf("events: %v\n%s", err, out)
	}
	status, err := exec.Command(replctl, "--config", in("a.yml"), "status", "-o", "json").CombinedOutput()
	if err != nil && len(status) == 0 {
		t.Error(err)
	}
	stopped = true
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	journal, err := os.ReadFile(in("data/events/events.jsonl"))
	if err != nil {
		t.Error(err)
	}
	for _, secret := range secrets {
		for what, text := range map[string]string{"log": log.String(), "journal": string(journal), "events": string(out), "status": string(status)} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds a secret that begins with %.8s…", what, secret)
			}
		}
	}
	if !strings.Contains(log.String(), "audit") {
		t.Error("no audit line in the log")
	}
}
