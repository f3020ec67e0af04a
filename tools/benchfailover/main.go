package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

type options struct {
	bin    string
	dir    string
	rounds int
	only   string
	modes  string
	token  string
	others bool
	debug  bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder with repld and replctl")
	flag.StringVar(&o.dir, "dir", "", "folder for all data (default: a temporary one)")
	flag.IntVar(&o.rounds, "rounds", 50, "rounds of each failure; Redis, which waits between failovers, and etcd get at most 10")
	flag.StringVar(&o.only, "only", "", "only systems whose name contains this")
	flag.StringVar(&o.modes, "modes", "kill9,host,pause,switchover", "which failures")
	flag.StringVar(&o.token, "token", "raft", "repld's token store: raft, or file (a folder that all share; no witness then)")
	flag.BoolVar(&o.others, "others", true, "measure Redis with Sentinel and etcd as well, where they are installed")
	flag.BoolVar(&o.debug, "v", false, "say each round, keep the folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchfailover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "rbf"); err != nil {
			return err
		}
		if !o.debug {
			defer os.RemoveAll(o.dir)
		}
	}
	var ours []*report
	for _, s := range systems(o) {
		if !strings.Contains(s.name, o.only) {
			continue
		}
		r, err := measure(ctx, o, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.print(os.Stdout)
		if s.ours {
			ours = append(ours, r)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	lost, errors := 0, 0
	for _, r := range ours {
		lost += r.lost
		errors += r.errors["switchover"]
	}
	fmt.Printf("kill9_p50_ms=%s kill9_p99_ms=%s host_p99_ms=%s pause_p99_ms=%s switchover_p99_ms=%s client_errors=%d lost=%d\n",
		worst(ours, "kill9", 50), worst(ours, "kill9", 99), worst(ours, "host", 99), worst(ours, "pause", 99), worst(ours, "switchover", 99), errors, lost)
	return nil
}
