// Command bench measures repld beside redis-server in one run, on one disk: durable SET and GET at several numbers of clients, alone and
// with one synchronous standby (replica), then the parts (log append, replay) and the memory of each process. `make bench` runs it.
//
// The systems take turns in every round, each started fresh, and the medians of all rounds are compared, because on a shared
// machine only ratios of neighbouring runs mean anything. Everything lives below one folder that is removed at the end; only its
// own children are signalled.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	bin, dir  string
	seconds   float64
	rounds    int
	clients   []int
	keys      int
	value     int
	quick     bool
	json      string
	only      string
	skipRedis bool
	skipParts bool
	keep      bool

	verify     bool
	verifyRate string
}

func main() {
	o, err := parse()
	if err == nil {
		// Children die with the thread that started them: main starts them all.
		runtime.LockOSThread()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	var clients string
	flag.StringVar(&o.bin, "bin", "bin", "folder with repld")
	flag.StringVar(&o.dir, "dir", ".bench", "folder to work in, on the disk to measure; removed before and after")
	flag.Float64Var(&o.seconds, "seconds", 5, "length of each measurement")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; medians are shown")
	flag.StringVar(&clients, "clients", "1,16,64,256", "numbers of clients")
	flag.IntVar(&o.keys, "keys", 1_000_000, "different keys, all written before the measurement")
	flag.IntVar(&o.value, "value", 100, "bytes of a value; half of it compresses")
	flag.BoolVar(&o.quick, "quick", false, "one round of 1 s with 100,000 keys, for a glance")
	flag.StringVar(&o.json, "json", "", "also write the results to this `file`, - for standard output")
	flag.StringVar(&o.only, "only", "", "only systems whose name contains this")
	flag.BoolVar(&o.skipRedis, "skip-redis", false, "leave redis-server out")
	flag.BoolVar(&o.skipParts, "skip-parts", false, "leave log append and replay out")
	flag.BoolVar(&o.keep, "keep", false, "leave the folder for a look")
	flag.BoolVar(&o.verify, "verify", false, "measure only what comparing all copies (replctl verify) costs the clients of an active with one synchronous standby")
	flag.StringVar(&o.verifyRate, "verify-rate", "8MiB", "with -verify: bytes a second that each node reads for it, as verify.rate; 0: unlimited")
	flag.Parse()
	if o.quick {
		o.seconds, o.rounds, o.keys = 1, 1, 100_000
	}
	for _, s := range strings.Split(clients, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-clients: %q is not a number of clients", s)
		}
		o.clients = append(o.clients, n)
	}
	if o.rounds < 1 || o.seconds <= 0 || o.keys < 1 || o.keys > 1e12 || o.value < 16 || flag.NArg() > 0 {
		return o, fmt.Errorf("see -help: rounds, seconds, keys and value (at least 16) have to be positive, and there are no arguments")
	}
	var err error
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return o, err
	}
	o.bin, err = filepath.Abs(o.bin)
	return o, err
}

func run(ctx context.Context, o options) (err error) {
	if err := os.RemoveAll(o.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	defer func() {
		if !o.keep {
			if e := os.RemoveAll(o.dir); err == nil {
				err = e
			}
		}
	}()
	if o.verify {
		return verifyRun(ctx, o)
	}
	if _, e := exec.LookPath("redis-server"); e != nil && !o.skipRedis {
		return fmt.Errorf("redis-server is not installed: install it (Debian: redis-server), or compare with nothing by -skip-redis")
	}
	r := &results{Time: time.Now(), CPUs: runtime.NumCPU(), Seconds: o.seconds, Rounds: o.rounds, Keys: o.keys, Value: o.value}
	for round := range o.rounds {
		for _, s := range systems(o) {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, s.name)
			if err := measure(ctx, o, s, r); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	if !o.skipParts {
		fmt.Fprintln(os.Stderr, "parts: log append, replay")
		if r.Parts, err = parts(ctx, o); err != nil {
			return err
		}
	}
	r.print(os.Stdout, o.clients)
	r.summary(os.Stdout)
	return r.write(o.json)
}

// write stores the results as JSON.
func (r *results) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if path == "-" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
