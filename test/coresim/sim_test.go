package coresim

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSeed replays the seed in REPLD_SEED: its options, its events, and the last REPLD_LINES (200) lines of what happened. When it fails, the events are shrunk to the few that
// matter. Without REPLD_SEED it shows a seed that passes, so that the way is known to work.
func TestSeed(t *testing.T) {
	seed, lines := number(t, "REPLD_SEED", 1), number(t, "REPLD_LINES", 200)
	r := Run(life(seed), int(lines))
	t.Logf("%v: %d steps, %d promotions, trace hash %016x", r.Config, r.Stats.Steps, r.Stats.Promotions, r.Hash)
	if r.Err != nil {
		t.Fatal(Shrink(r, 400, int(lines)).Report())
	}
	if os.Getenv("REPLD_LINES") != "" {
		t.Log("\n" + r.Report())
	}
}

// life is the configuration of a seed in the sweeps: every fourth is hard on leases.
func life(seed uint64) Config {
	if seed%4 == 3 {
		return DrawLeases(seed)
	}
	return Draw(seed)
}

func number(t *testing.T, name string, def uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// R1–R7, R9–R12, R14, R15: lives of clusters, as many as fit in some seconds, or REPLD_SEEDS of them; 100,000 with NIGHTLY=1.
func TestSeeds(t *testing.T) {
	seeds, limit := number(t, "REPLD_SEEDS", 0), 3*time.Second
	switch {
	case testing.Short():
		limit = time.Second
	case seeds == 0 && os.Getenv("NIGHTLY") != "":
		seeds = 100_000
	}
	began := time.Now()
	all, runs, failed := sweep(func(seed uint64) bool {
		if seeds > 0 {
			return seed < seeds
		}
		return seed < 20 || time.Since(began) < limit
	})
	for _, r := range failed {
		t.Errorf("%v\n%s", r.Config, Shrink(r, 200, 60).Report())
	}
	d := time.Since(began).Seconds()
	t.Logf("%d seeds, %.0f seeds/s, %.0f simulated s/s, %.0f steps/s, %.0f failovers/min", runs, float64(runs)/d, float64(all.Time)/float64(sc)/d,
		float64(all.Steps)/d, float64(all.Promotions)/d*60)
	t.Logf("%+v", all)
	if runs >= 300 && (all.Promotions < runs || all.Switchover == 0 || all.Seeded == 0 || all.Cut == 0 || all.SetChanges == 0 || all.Acked == 0 || all.Elections == 0 || all.GivenUp == 0 || all.Read == 0) {
		t.Errorf("the lives are idle: %+v", all)
	}
}

// sweep runs seeds from 0 while more says so, on all processors, and returns at most three that failed.
func sweep(more func(seed uint64) bool) (all Stats, runs int, failed []Result) {
	var mu sync.Mutex
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := next.Add(1) - 1; more(seed); seed = next.Add(1) - 1 {
				r := Run(life(seed), 0)
				mu.Lock()
				all.add(r.Stats)
				runs++
				if r.Err != nil {
					failed = append(failed, r)
				}
				stop := len(failed) >= 3
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	workers.Wait()
	return all, runs, failed
}

// The same seed is the same life to the bit: in this process, with and without a trace, and in another process.
func TestSameSeedSameTrace(t *testing.T) {
	const n = 20
	if out := os.Getenv("REPLD_HASHES"); out != "" { // the other process
		if err := os.WriteFile(out, []byte(hashes(n, 0)), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	first := hashes(n, 0)
	if again := hashes(n, 10); again != first {
		t.Fatalf("second run differs:\n%s\n%s", first, again)
	}
	file := t.TempDir() + "/hashes"
	cmd := exec.Command(os.Args[0], "-test.run=^TestSameSeedSameTrace$")
	cmd.Env = append(os.Environ(), "REPLD_HASHES="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	other, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(other) != first {
		t.Fatalf("another process differs:\n%s\n%s", first, other)
	}
}

func hashes(n, lines int) string {
	var b strings.Builder
	for seed := range uint64(n) {
		r := Run(life(1000+seed), lines)
		fmt.Fprintf(&b, "%d %016x %d %v\n", seed, r.Hash, r.Stats.Steps, r.Err)
	}
	return b.String()
}
