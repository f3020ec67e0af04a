package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	bin     string
	dir     string
	rounds  int
	others  int
	systems string
	modes   string
	token   string
	out     string
	merge   bool
	slow    time.Duration
	debug   bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder with repld and replctl")
	flag.StringVar(&o.dir, "dir", "", "folder for all data (default: a temporary one)")
	flag.IntVar(&o.rounds, "rounds", 50, "rounds of each failure")
	flag.IntVar(&o.others, "other-rounds", 10, "at most so many of them with Redis, which waits between failovers, and etcd")
	flag.StringVar(&o.systems, "systems", strings.Join(systemNames, ","), "which systems, where they are installed: repld with three data nodes, with two and a witness, Redis with Sentinel, etcd")
	flag.StringVar(&o.modes, "modes", "kill9,host,pause,switchover", "which failures")
	flag.StringVar(&o.token, "token", "raft", "repld's token store: raft, or file (a folder that all share; no witness then)")
	flag.StringVar(&o.out, "out", "", "append the results to this file as well, for -merge")
	flag.BoolVar(&o.merge, "merge", false, "measure nothing: add up the results in the files given as arguments, which -out wrote")
	flag.DurationVar(&o.slow, "slow", 0, "show what the nodes logged in rounds that took longer than this; keep the folder")
	flag.BoolVar(&o.debug, "v", false, "say each round, keep the folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchfailover:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, files []string) (err error) {
	var all reports
	if o.merge {
		if err := all.load(files); err != nil {
			return err
		}
		all.print(os.Stdout)
		return nil
	}
	for _, list := range []struct{ given, known []string }{{names(o.systems), systemNames}, {names(o.modes), failures}} {
		for _, n := range list.given {
			if !slices.Contains(list.known, n) {
				return fmt.Errorf("%q is none of %v", n, list.known)
			}
		}
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "rbf"); err != nil {
			return err
		}
		if !o.debug && o.slow == 0 {
			defer os.RemoveAll(o.dir)
		}
	}
	for _, s := range systems(o) {
		r, err := measure(ctx, o, s)
		if r != nil && o.out != "" {
			if e := r.save(o.out); e != nil {
				return e
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		all.add(r)
	}
	all.print(os.Stdout)
	return nil
}

func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
