package sim

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// live lives one life in a bubble of its own.
//
// sync.Pools of the libraries (yamux's timers, Pebble's tasks) would hand channels from one bubble to the next, which is fatal: two collections empty them.
func live(t *testing.T, c Config, verbose func(string)) (r Result) {
	// One processor: nothing is won by two, a bubble being one small cluster, and the scheduler's work is half. Run two processes to use two.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(192 << 20))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	runtime.GC()
	defer watch(c)()
	defer func() {
		if left := recover(); left != nil { // synctest says: deadlock
			r.Config, r.Err = c, fmt.Errorf("R12: the life is over, but not all of its goroutines are: %v\n%s", left, stacks())
		}
	}()
	synctest.Test(t, func(*testing.T) { r = Run(c, verbose) })
	return r
}

// stacks are those of all goroutines.
func stacks() []byte {
	buf := make([]byte, 16<<20)
	return buf[:runtime.Stack(buf, true)]
}

// stuck is how long a life may take in real time. A goroutine that waits for a mutex whose holder waits for simulated time stops the clock for good.
const stuck = 5 * time.Minute

func watch(c Config) (stop func()) {
	t := time.AfterFunc(stuck, func() {
		fmt.Fprintf(os.Stderr, "simulated time stands still: %v\n%s\n", c, stacks())
		os.Exit(2)
	})
	return func() { t.Stop() }
}

func setting(t *testing.T, name string, def uint64) uint64 {
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

// TestSeed lives the seed in REPLD_SEED, REPLD_TIMES times (1), and prints its log as it goes with REPLD_LOG=1.
func TestSeed(t *testing.T) {
	c := Draw(setting(t, "REPLD_SEED", 1))
	var verbose func(string)
	if os.Getenv("REPLD_LOG") != "" {
		verbose = func(line string) { fmt.Println(line) }
	}
	for range setting(t, "REPLD_TIMES", 1) {
		r := live(t, c, verbose)
		t.Logf("%v: %+v", r.Config, r.Stats)
		if r.Err != nil {
			t.Fatal(r.Report())
		}
	}
}

// TestSeeds lives as many lives as fit in 14 s of processor time (4 s with -short), or REPLD_SEEDS of them from REPLD_FROM (1) on (R1–R5, R7, R8, R10–R13, R15; FAULTS P1, P2, P3, D2–D4,
// D16, D21–D23, W1–W4, W6, W8, W13–W15, H7–H9).
func TestSeeds(t *testing.T) {
	seeds, from, limit := setting(t, "REPLD_SEEDS", 0), setting(t, "REPLD_FROM", 1), 14*time.Second
	switch {
	case testing.Short():
		limit = 4 * time.Second
	case seeds == 0 && os.Getenv("NIGHTLY") != "":
		seeds = 2000
	}
	defer runtime.GC()
	defer runtime.GC()
	began, busy := time.Now(), processor()
	all := Stats{Kinds: map[Kind]int{}}
	failed := 0
	summary := func() string {
		cpu, hours := processor()-busy, all.Time.Hours()
		return fmt.Sprintf("%d seeds, %.2f simulated cluster-hours in %v of processor time: %.0f per processor-hour; %.0f writes/s; %.0f faults per simulated hour, up to %d kinds at once, three or more for %.0f %% of the time",
			all.Lives, hours, cpu.Round(time.Millisecond), hours/cpu.Hours(), float64(all.Written)/all.Time.Seconds(), float64(all.Faults)/hours, all.Most, 100*all.Three.Seconds()/all.Time.Seconds())
	}
	for seed := from; ; seed++ {
		if seeds > 0 && seed >= from+seeds || seeds == 0 && (processor()-busy > limit || time.Since(began) > 4*limit) {
			break
		}
		r := live(t, Draw(seed), nil)
		all.add(r.Stats)
		if r.Err != nil {
			t.Errorf("%s", r.Report())
			if failed++; failed >= 3 {
				break
			}
		}
		if all.Lives%100 == 0 { // a long run that is ended has shown something, too
			t.Logf("seeds %d to %d, %d failed: %s", from, seed, failed, summary())
		}
	}
	t.Logf("%s", summary())
	t.Logf("%+v", all)
	if all.Acked == 0 || all.Epochs < all.Lives {
		t.Errorf("the lives are idle: %+v", all)
	}
}

func (s *Stats) add(o Stats) {
	s.Lives += o.Lives
	s.Time += o.Time
	s.Faults += o.Faults
	for k, n := range o.Kinds {
		s.Kinds[k] += n
	}
	s.Most = max(s.Most, o.Most)
	s.Three += o.Three
	s.Starts += o.Starts
	s.Exits += o.Exits
	s.Promotions += o.Promotions
	s.Refused += o.Refused
	s.Switchovers += o.Switchovers
	s.Written += o.Written
	s.Acked += o.Acked
	s.Unknown += o.Unknown
	s.Read += o.Read
	s.Committed += o.Committed
	s.Epochs += o.Epochs
	s.Replaced += o.Replaced
	s.Paused += o.Paused
	s.Stuck += o.Stuck
	s.Healed = max(s.Healed, o.Healed)
}

// processor is the time that this process has used the processor.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
