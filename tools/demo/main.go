// Command demo shows repld's main job with real processes: three nodes on loopback, writers that count what was acknowledged, an
// active that is killed and one that is frozen, and a proof at the end that nothing acknowledged was lost. `make demo` runs it.
//
// It works below one folder, .demo, which it removes at the start and at the end, signals only its own children, and ends with one line:
//
//	demo: acked=N lost=0 fenced=ok verify=ok promote_ms=…
//
// With -timetravel (`make demo-timetravel`) it plays another piece: a bad DEL in mid-traffic, undone by promoting the lagged standby to just before it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// limit bounds the whole run (R12).
const limit = 3 * time.Minute

func main() {
	bin := flag.String("bin", "bin", "folder with repld and replctl")
	dir := flag.String("dir", ".demo", "folder to work in; removed before and after")
	travel := flag.Bool("timetravel", false, "play the undoing of a bad DEL instead")
	keep := flag.Bool("keep", false, "leave the folder, with logs and data, for a look")
	flag.Parse()
	// Children die with the thread that started them (see process.go): main starts them all, from a thread that lasts as long as it.
	runtime.LockOSThread()
	redis.SetLogger(quiet{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	line, err := run(ctx, *bin, *dir, *keep, *travel)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: FAILED: %v\n", err)
		os.Exit(1)
	}
	fmt.Println(line)
}

// run plays all acts and cleans up. It returns the closing line.
func run(ctx context.Context, bin, dir string, keep, travel bool) (line string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("remove %s of an earlier run: %w", dir, err)
	}
	delay := applyDelay
	if travel {
		delay = travelDelay
	}
	c, err := newCluster(bin, dir, delay)
	if err != nil {
		return "", err
	}
	d := &demo{cluster: c, start: time.Now()}
	defer func() {
		d.writers.stop()
		if d.loyal != nil {
			d.loyal.stop()
		}
		c.kill()
		if err != nil {
			c.showLogs()
		}
		if !keep {
			if e := os.RemoveAll(dir); e != nil && err == nil {
				err = e
			}
		}
	}()
	if travel {
		return d.timeTravel(ctx)
	}
	for _, act := range []func(context.Context) error{d.begin, d.write, d.killActive, d.returnOfA, d.freezeActive, d.returnOfB, d.count, d.prove} {
		if err := act(ctx); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("demo: acked=%d lost=%d fenced=ok verify=ok promote_ms=%d", d.acked, d.lost, d.promote.Milliseconds()), nil
}
