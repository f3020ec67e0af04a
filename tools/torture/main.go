// Command torture hurts real repld processes and holds that no acknowledged write is lost: `make torture`. See internal/torture and docs/operating/torture.md.
//
// The last line that it prints is
//
//	torture: kills=N cuts=N acked=N unknown=N lost=0 result=passed
//
// and its exit code is 0 when nothing failed, 1 when a scenario failed, 2 when the run did not work.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"repld/internal/torture"
)

func main() {
	bin := flag.String("bin", "bin", "folder with repld")
	failpoints := flag.String("failpoints", "", "repld built with -tags failpoints")
	dir := flag.String("dir", ".torture", "folder to work in")
	budget := flag.Duration("budget", 2*time.Minute, "time for all scenarios together; their last rounds and checks come on top")
	kills := flag.Int("min-kills", 0, "go on, up to three times the budget, until so many SIGKILLs")
	cuts := flag.Int("min-cuts", 0, "the same for power cuts")
	only := flag.String("scenarios", "", "names, separated by commas (default: all)")
	seed := flag.Uint64("seed", 0, "what is done when (default: from the clock)")
	format := flag.String("o", "table", "table or json")
	keep := flag.Bool("keep", false, "leave the folders of scenarios that passed")
	list := flag.Bool("list", false, "list the scenarios and exit")
	verbose := flag.Bool("v", false, "say what is done")
	flag.Parse()
	if *list {
		for _, s := range torture.About() {
			fmt.Printf("%-14s %s [%s]\n", s[0], s[1], strings.TrimSpace(s[2]))
		}
		return
	}
	redis.SetLogger(&logging.VoidLogger{}) // clients of killed nodes have much to say
	o := torture.Options{Repld: filepath.Join(*bin, "repld"), Failpoints: *failpoints, Dir: *dir, Budget: *budget, MinKills: *kills, MinCuts: *cuts, Seed: *seed,
		Keep: *keep}
	if *only != "" {
		o.Scenarios = strings.Split(*only, ",")
	}
	if *verbose {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	r, err := torture.Run(ctx, o)
	stop()
	os.Exit(report(r, err, *format, *kills, *cuts))
}

func report(r *torture.Report, err error, format string, kills, cuts int) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		return 2
	}
	if format == "json" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			return 2
		}
		fmt.Println(string(text))
	} else {
		r.Table(os.Stdout)
	}
	t := r.Total
	result, code := t.Result, 0
	if !r.OK() {
		code = 1
	} else if t.Kills < kills || t.Cuts < cuts && torture.CutsRan(r) {
		result, code = fmt.Sprintf("FAILED: wanted %d kills and %d cuts", kills, cuts), 1
	}
	fmt.Fprintf(os.Stderr, "torture: kills=%d cuts=%d acked=%d unknown=%d lost=%d seed=%d result=%s\n", t.Kills, t.Cuts, t.Acked, t.Unknown, t.Lost, r.Seed, result)
	return code
}
