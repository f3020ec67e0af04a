// Command benchcopies measures what copies cost: `make bench-copies`. With one real node and an archive in a folder it loads -mib of data and prints
//
//   - what an incremental backup of 1 % changed data sends, of what the full one sent (limit 10 %),
//   - how fast a restore replays the archived log, of how fast the log is replayed from the disk into an empty state (limit 60 %),
//   - the memory of backup and of verify on the running node, above what the node has before, and of restore, check and verify DIR (limit 256 MiB each),
//   - how many of a few single flipped bytes of the archive backup check finds.
//
// Its exit code is 1 when a limit does not hold. The last line is for programs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	b := &bench{}
	flag.StringVar(&b.bin, "bin", "bin", "folder with repld and replctl")
	flag.StringVar(&b.dir, "dir", "", "folder to work in, made and removed (default: one in .bench)")
	flag.IntVar(&b.mib, "mib", 512, "data in the state")
	flag.IntVar(&b.sampled, "flips", 8, "single bytes of the archive that are flipped, one at a time, in files drawn by their size; each costs a backup check")
	flag.Uint64Var(&b.seed, "seed", 1, "of values and of what is changed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := b.all(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchcopies:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// The limits.
const (
	maxIncrement = 0.10
	minReplay    = 0.60
	maxMemory    = 256 << 20
)

// result is what was measured.
type result struct {
	full, increment   int64   // bytes sent
	raw, replay       float64 // records a second
	whole             float64 // of the restore as a whole, its digest included
	backup            int64   // bytes of memory above the node's own
	restore           int64
	check, verifyPeak int64
	compare           int64 // of a digest of the running node, above its own
	flips, found      int
}

func (b *bench) all(ctx context.Context) (ok bool, err error) {
	if b.dir == "" {
		if err := os.MkdirAll(".bench", 0o755); err != nil {
			return false, err
		}
		if b.dir, err = os.MkdirTemp(".bench", "copies-"); err != nil {
			return false, err
		}
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return false, err
	}
	defer os.RemoveAll(b.dir)
	r, err := b.run(ctx)
	if err != nil {
		return false, err
	}
	ok = true
	row := func(what string, good bool, format string, args ...any) {
		verdict := "ok"
		if !good {
			verdict, ok = "OVER THE LIMIT", false
		}
		fmt.Printf("%-36s %-64s %s\n", what, fmt.Sprintf(format, args...), verdict)
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	share := float64(r.increment) / float64(r.full)
	row("backup of 1 % changed data", share <= maxIncrement, "%.1f MiB sent, the full one %.1f MiB: %.1f %%", mib(r.increment), mib(r.full), 100*share)
	row("replay of a restore", r.replay >= minReplay*r.raw, "%.0f records/s, raw %.0f: %.0f %% (all of it with its digest: %.0f/s)", r.replay, r.raw, 100*r.replay/r.raw, r.whole)
	row("memory of a backup, above the node's", r.backup < maxMemory, "%.0f MiB", mib(r.backup))
	row("memory of a restore", r.restore < maxMemory, "%.0f MiB", mib(r.restore))
	row("memory of backup check", r.check < maxMemory, "%.0f MiB", mib(r.check))
	row("memory of verify DIR", r.verifyPeak < maxMemory, "%.0f MiB", mib(r.verifyPeak))
	row("memory of verify, above the node's", r.compare < maxMemory, "%.0f MiB", mib(r.compare))
	row("single bytes flipped in the archive", r.found == r.flips, "%d of %d found by backup check", r.found, r.flips)
	fmt.Printf("bench-copies: mib=%d increment=%.3f replay=%.2f backup_mib=%.0f restore_mib=%.0f check_mib=%.0f verify_mib=%.0f compare_mib=%.0f flips=%d found=%d ok=%t\n", b.mib, share, r.replay/r.raw, mib(r.backup), mib(r.restore), mib(r.check),
		mib(r.verifyPeak), mib(r.compare), r.flips, r.found, ok)
	return ok, nil
}
