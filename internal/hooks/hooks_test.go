package hooks

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(script string, timeout time.Duration) Hook {
	return Hook{Name: "on_alarm", Command: []string{"/bin/sh", "-c", script}, Timeout: timeout, Cluster: "shop", Node: "a"}
}

func TestRun(t *testing.T) {
	t.Setenv("PLANTED", "hunter2")
	r, err := shell(`cat; env; pwd`, time.Minute).Run(t.Context(), map[string]int{"n": 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"n":7}`, "REPLD_HOOK=on_alarm", "REPLD_CLUSTER=shop", "REPLD_NODE=a", "PATH="} {
		if !strings.Contains(r.Output, want) {
			t.Errorf("no %s in %s", want, r.Output)
		}
	}
	if strings.Contains(r.Output, "hunter2") {
		t.Error("the environment of the node is told to hooks")
	}
	if r, err := shell(`echo no; exit 3`, time.Minute).Run(t.Context(), nil); err == nil || r.Output != "no" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := (Hook{Name: "x", Command: []string{"/nonexistent"}, Timeout: time.Minute}).Run(t.Context(), nil); err == nil {
		t.Error("ran what is not there")
	}
	if r, err := shell(`yes | head -c 1000000`, time.Minute).Run(t.Context(), nil); err != nil || len(r.Output) > MaxOutput {
		t.Errorf("%d bytes of output, %v", len(r.Output), err)
	}
}

// A hook that hangs is killed with its children, at its limit; one that leaves a child is not waited for.
func TestHang(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	_, err := shell(`sleep 1000 & echo $! > `+pid+`; wait`, 300*time.Millisecond).Run(t.Context(), nil)
	if !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	gone(t, pid)
	if _, err := shell(`sleep 1000 & echo $! > `+pid, time.Minute).Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
}

// gone waits until the process that a hook noted has ended.
func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") || syscall.Kill(pid, 0) != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d lives: %s", pid, state)
		}
	}
}
