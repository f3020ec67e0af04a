package test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"repld/test/cluster"
)

// TestSaturatedCPU holds that a host without CPU to spare causes no failover with the defaults: four busy processes for each core compete with the nodes and 16 writers, and the epoch
// stays what it was. For 3 seconds; 10 minutes with NIGHTLY=1, or as long as SATURATE says.
//
// Faults: P4 (starved hosts: no false failover)
func TestSaturatedCPU(t *testing.T) {
	lasts := 3 * time.Second
	if os.Getenv("NIGHTLY") == "1" {
		lasts = 10 * time.Minute
	}
	if s := os.Getenv("SATURATE"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("SATURATE: %v", err)
		}
		lasts = d
	}
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Automatic: true})
	active, before := c.WaitActive(0, 60*time.Second)
	writers := cluster.StartWriters(t, c, 16, active)
	writers.WaitAcked(100, 60*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var hogs []*exec.Cmd
	for range 4 * runtime.NumCPU() {
		hog := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		hog.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := hog.Start(); err != nil {
			t.Fatal(err)
		}
		hogs = append(hogs, hog)
	}
	for _, hog := range hogs {
		_ = hog.Wait() // ended by the context
	}
	after, err := active.Status()
	if err != nil || after.Epoch != before.Epoch || after.Role != before.Role {
		t.Fatalf("after %s without CPU to spare: %s at epoch %d, %v; before: %s at epoch %d", lasts, after.Role, after.Epoch, err, before.Role, before.Epoch)
	}
	t.Logf("%s with load, %d writes acked, no failover", lasts, writers.Acked())
	writers.Stop()
	writers.Check(active)
}
