package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

func main() {
	err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 1 && os.Args[1] == boundCommand {
		return boundMain(os.Args[2:])
	}
	o, err := parse()
	if err != nil {
		return err
	}
	if o.report {
		return report(os.Stdout, o.files)
	}
	// Children die with the thread that started them: main starts them all.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return within(ctx, o)
}

// within works in a folder of its own.
func within(ctx context.Context, o options) (err error) {
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
	r := &results{Piece: o.piece, Time: time.Now(), Machine: machineFacts(o), Seconds: o.seconds, Rounds: o.rounds, Keys: o.keys, Value: o.value}
	if err := r.measure(ctx, o); err != nil {
		return err
	}
	r.print(os.Stdout, false)
	r.summary(os.Stdout)
	return r.write(o.json)
}

// folder is an empty one for one system.
func (o options) folder() (string, error) {
	dir := filepath.Join(o.dir, "s")
	return dir, os.MkdirAll(dir, 0o755)
}

func (r *results) measure(ctx context.Context, o options) (err error) {
	switch {
	case o.parts:
		r.Parts, err = repeated(ctx, o, parts)
		return err
	case o.catchup:
		r.Parts, err = repeated(ctx, o, catchup)
		return err
	case o.sweep != "":
		return r.sweep(ctx, o)
	case o.overload:
		r.Over, err = overloadRun(ctx, o)
		return err
	case len(o.rates) > 0:
		if err := r.curves(ctx, o); err != nil || o.plot == "" {
			return err
		}
		return toFile(o.plot, r.plotCurves)
	default:
		return r.compare(ctx, o)
	}
}

// toFile writes a whole file.
func toFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// compare has all systems take turns; who begins changes, because what is measured last meets a warmer disk.
func (r *results) compare(ctx context.Context, o options) error {
	all, left, err := systems(o)
	if err != nil {
		return err
	}
	r.LeftOut = left
	for round := range o.rounds {
		turn := slices.Concat(all[round%len(all):], all[:round%len(all)])
		for _, s := range turn {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, s.name)
			if err := measure(ctx, o, s, r); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	r.order(all)
	return nil
}

// order has tables list the systems in one order, whoever began.
func (r *results) order(all []system) {
	place := func(l line) int { return slices.IndexFunc(all, func(s system) bool { return s.name == l.System }) }
	slices.SortStableFunc(r.Lines, func(a, b line) int { return place(a) - place(b) })
}
