package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"repld/internal/admin"
	"repld/test/cluster"
)

// TestRollingUpgrade holds the promise of docs/operating/upgrade.md: real processes of this version and of a made-up next one, which speaks a newer protocol and this one, replicate with each other in
// both directions, node after node is replaced under writes, and one step back is possible; a version that speaks none of ours is refused by name and harms nobody.
func TestRollingUpgrade(t *testing.T) {
	next := version(t, "next", "= 2\n", "= 3\n", "def(&o.MinVersion, o.Version)", "def(&o.MinVersion, o.Version-1)")
	foreign := version(t, "foreign", "= 2\n", "= 4\n")
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1})
	a, b, x := c.Node("a"), c.Node("b"), c.Node("c")
	a.MustPromote()
	writers := cluster.StartWriters(t, c, 8, a)
	writers.WaitAcked(200, time.Minute)
	replace := func(n, active *cluster.Node, bin string) {
		t.Helper()
		n.Stop()
		n.Upgrade(bin)
		n.Start()
		n.WaitCaughtUp(active, time.Minute)
		writers.WaitAcked(50, time.Minute)
	}

	x.Stop()
	x.Upgrade(foreign)
	x.Start()
	for _, n := range []*cluster.Node{a, x} {
		cluster.Until(t, 30*time.Second, func() error {
			if text, err := os.ReadFile(filepath.Join(c.Dir, n.Name+".log")); err != nil || !bytes.Contains(text, []byte("speaks protocol versions")) {
				return fmt.Errorf("node %s does not say that the versions have nothing in common: %w", n.Name, err)
			}
			return nil
		})
	}
	writers.WaitAcked(200, time.Minute) // with b

	replace(x, a, next)
	replace(b, a, next)
	c.WaitMeshed()
	if _, err := a.Admin().Switchover(context.Background(), admin.SwitchoverRequest{To: "b"}, nil); err != nil {
		t.Fatal(err)
	}
	writers.Move(b)
	a.WaitCaughtUp(b, time.Minute) // the old version follows the new one
	replace(a, b, next)
	replace(x, b, cluster.Binary(t, "repld")) // one step back
	for name, want := range map[string]string{"a": "next", "b": "next"} {
		if s, err := c.Node(name).Status(); err != nil || !strings.HasPrefix(s.Version, want+" ") {
			t.Errorf("node %s runs version %q, %v; want %q", name, s.Version, err, want)
		}
	}
	writers.Stop()
	x.WaitCaughtUp(b, time.Minute)
	b.Verify()
	writers.Check(b)
}

// version builds repld as a version of that name, in which pairs of texts of replicate/options.go are replaced.
func version(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	const file = "../replicate/options.go"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if n := bytes.Count(text, []byte(pairs[i])); n != 1 {
			t.Fatalf("%s has %q %d times", file, pairs[i], n)
		}
		text = bytes.Replace(text, []byte(pairs[i]), []byte(pairs[i+1]), 1)
	}
	dir := t.TempDir()
	changed, plan, bin := filepath.Join(dir, "options.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "repld")
	path, err := filepath.Abs(file)
	overlay, err2 := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err := errors.Join(err, err2, os.WriteFile(changed, text, 0o600), os.WriteFile(plan, overlay, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", plan, "-ldflags", "-X main.version="+name, "-o", bin, "repld/cmd/repld").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, strings.TrimSpace(string(out)))
	}
	return bin
}
