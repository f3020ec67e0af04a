// Command mutants plants the deliberate mistakes of package test/mutants, one after the other, and says who caught each.
//
//	mutants                          all
//	mutants -run '^wal|commit'       those whose names match
//	mutants -part 2/5                the second fifth
//	mutants -for 80s                 others each day, as many as begin within that time: what CI does
//	mutants -missed                  only those that the document does not call caught
//	mutants -o docs/faults.md        and write the outcomes to the table there; the others keep their lines
//
// The last line is caught=C/P critical=C/P. It exits with 1 if a critical one was not caught, or less than 95 % of all, and with 2 if a mistake does not fit the code any
// more, or if tests did not end in time, which says nothing. With -for it is a sample that must not depend on how fast the machine is: it ends after twice that time, and exits with 1
// only if tests that ended all passed with a critical mistake.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"repld/test/mutants"
)

type options struct {
	run, part, out, root string
	layer, enough        time.Duration
	seed                 uint64
	missed               bool
}

func main() {
	var o options
	flag.StringVar(&o.run, "run", "", "plant only those whose name matches")
	flag.StringVar(&o.part, "part", "", "I/N: plant only the I-th of N parts")
	flag.StringVar(&o.out, "o", "", "document with the table that is to be brought up to date")
	flag.StringVar(&o.root, "root", ".", "the repository")
	flag.DurationVar(&o.layer, "layer", 60*time.Second, "time for the tests of one layer")
	flag.DurationVar(&o.enough, "for", 0, "begin no further one after so long, and take them in an order of -seed; 0: all of them, in theirs")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()/(24*3600)), "of the order with -for; the default changes each day")
	flag.BoolVar(&o.missed, "missed", false, "leave out those that the document calls caught")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	os.Exit(code)
}

// chosen are the mistakes to plant, in order.
func chosen(o options, score *mutants.Score) ([]mutants.Mutant, error) {
	re, err := regexp.Compile(o.run)
	if err != nil {
		return nil, err
	}
	part, parts := 1, 1
	if o.part != "" {
		if _, err := fmt.Sscanf(o.part, "%d/%d", &part, &parts); err != nil || part < 1 || part > parts {
			return nil, fmt.Errorf("-part %q: want I/N", o.part)
		}
	}
	var todo []mutants.Mutant
	for i, m := range mutants.List() {
		if re.MatchString(m.Name) && i%parts == part-1 && !(o.missed && score != nil && score.Caught(m.Name)) {
			todo = append(todo, m)
		}
	}
	if o.enough > 0 {
		rand.New(rand.NewPCG(o.seed, 0)).Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	}
	return todo, nil
}

func run(ctx context.Context, o options) (code int, err error) {
	root, err := filepath.Abs(o.root)
	if err != nil {
		return 2, err
	}
	var score *mutants.Score
	if o.out != "" {
		if score, err = mutants.ReadScore(o.out); err != nil {
			return 2, err
		}
	}
	todo, err := chosen(o, score)
	if err != nil {
		return 2, err
	}
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 2, err
	}
	defer os.RemoveAll(tmp)
	b := &mutants.Bench{Root: root, Dir: tmp, Time: o.layer}
	t := tally{by: map[string]int{}, sample: o.enough > 0}
	began := time.Now()
	if t.sample {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*o.enough)
		defer cancel()
	}
	for _, m := range todo {
		if ctx.Err() != nil || o.enough > 0 && time.Since(began) > o.enough {
			break
		}
		outcome, err := b.Plant(ctx, m)
		if ctx.Err() != nil {
			break
		}
		t.add(outcome, err)
		if score != nil && err == nil {
			score.Set(outcome)
			if err := score.Write(o.out); err != nil {
				return 2, err
			}
		}
	}
	fmt.Printf("\n%d of %d mistakes planted in %v; by layer %v; %d do not fit, %d not judged in time\n", t.planted, len(mutants.List()), time.Since(began).Round(time.Second), t.by, t.unfit, t.late)
	if score != nil {
		caught, planted, critical, criticals := score.Count()
		fmt.Printf("%s: caught=%d/%d critical=%d/%d\n", o.out, caught, planted, critical, criticals)
	}
	fmt.Printf("caught=%d/%d critical=%d/%d\n", t.caught, t.planted, t.criticalCaught, t.critical)
	return t.code(), nil
}

// tally counts outcomes.
type tally struct {
	planted, caught, critical, criticalCaught, unfit, late int
	survived                                               int // critical ones, with tests that ended
	by                                                     map[string]int
	sample                                                 bool
}

func (t *tally) add(o mutants.Outcome, err error) {
	m, mark := o.Mutant, " "
	if m.Critical {
		mark = "!"
	}
	if err != nil {
		t.unfit++
		fmt.Printf("ERROR  %s %v\n", mark, err)
		return
	}
	if o.By == "" && o.Late {
		t.late++
	}
	if o.By == "" && !o.Late && m.Critical {
		t.survived++
	}
	t.planted++
	if m.Critical {
		t.critical++
	}
	took := o.Took.Round(100 * time.Millisecond)
	if o.By == "" {
		fmt.Printf("MISSED %s %-36s %-4s by %q (%v)\n", mark, m.Name, m.Rule, o.Tried, took)
		return
	}
	t.caught++
	t.by[o.By]++
	if m.Critical {
		t.criticalCaught++
	}
	fmt.Printf("caught %s %-36s %-4s by %s: %s (%v)\n", mark, m.Name, m.Rule, o.By, o.How, took)
}

func (t *tally) code() int {
	switch {
	case t.sample && t.unfit > 0:
		return 2
	case t.sample && t.survived > 0:
		return 1
	case t.sample:
		return 0
	case t.unfit+t.late > 0 || t.planted == 0:
		return 2
	case t.criticalCaught < t.critical || t.caught*100 < t.planted*95:
		return 1
	}
	return 0
}
