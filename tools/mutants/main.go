// Command mutants plants the deliberate mistakes of package test/mutants, one after the other, and says who caught each.
//
//	mutants [-run REGEXP] [-budget 90s] [-root .]
//
// It exits with 1 if a critical one was not caught, or less than 95 % of all, and with 2 if a mistake does not fit the
// code any more, or if its tests did not end within the budget.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"repld/test/mutants"
)

func main() {
	pattern := flag.String("run", "", "plant only those whose name matches")
	budget := flag.Duration("budget", 90*time.Second, "time for one layer to look for one mistake")
	dir := flag.String("root", ".", "the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, *pattern, *dir, *budget)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, pattern, dir string, budget time.Duration) int {
	re, err := regexp.Compile(pattern)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer os.RemoveAll(tmp)
	planted, caught, critical, missed, unfit, late := 0, 0, 0, 0, 0, 0
	by := map[string]int{}
	began := time.Now()
	for _, m := range mutants.List() {
		if !re.MatchString(m.Name) || ctx.Err() != nil {
			continue
		}
		o, err := m.Plant(ctx, root, tmp, budget)
		if ctx.Err() != nil {
			break
		}
		mark := " "
		if m.Critical {
			mark = "!"
		}
		switch {
		case err != nil:
			unfit++
			fmt.Printf("ERROR  %s %v\n", mark, err)
			continue
		case o.By == "" && o.Late:
			late++
			fmt.Printf("late   %s %-34s %-4s %s did not end in time (%v)\n", mark, m.Name, m.Rule, strings.Join(o.Tried, ", "), o.Took.Round(time.Second))
			continue
		case o.By == "":
			if m.Critical {
				missed++
			}
			fmt.Printf("MISSED %s %-34s %-4s by %s (%v)\n", mark, m.Name, m.Rule, strings.Join(o.Tried, ", "), o.Took.Round(time.Second))
		default:
			caught++
			by[o.By]++
			fmt.Printf("caught %s %-34s %-4s by %s: %s (%v)\n", mark, m.Name, m.Rule, o.By, o.How, o.Took.Round(time.Second))
		}
		planted++
		if m.Critical {
			critical++
		}
	}
	fmt.Printf("\n%d of %d mistakes caught, %d of %d critical ones, in %v; by layer %v; %d not judged in time\n", caught, planted, critical-missed, critical, time.Since(began).Round(time.Second), by, late)
	switch {
	case unfit+late > 0 || planted == 0:
		return 2
	case missed > 0 || caught*100 < planted*95:
		return 1
	}
	return 0
}
