package main

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// sweepRows are the rows of a sweep that needs each system started once a round.
func sweepRows(what string, value int) []row {
	var out []row
	switch what {
	case "clients":
		for n := 1; n <= 1024; n *= 4 {
			out = append(out, row{requestSet, n, 1, value})
		}
		for n := 1; n <= 1024; n *= 4 {
			out = append(out, row{requestGet, n, 1, value})
		}
	case "value":
		for n := 16; n <= 1<<20; n *= 8 {
			out = append(out, row{requestSet, 16, 1, n})
		}
		out = append(out, row{requestSet, 16, 1, 1 << 20})
	}
	return out
}

// sweepKeys are numbers of keys up to the most that was asked for.
func sweepKeys(most int) []int {
	all := []int{10_000, 100_000, 1_000_000, 5_000_000, 20_000_000}
	return slices.DeleteFunc(all, func(n int) bool { return n > most })
}

// sweepStandbys is one active with up to so many synchronous standbys; one of them has to have a write.
const sweepStandbys = 4

// sweep shows how cost grows with one thing.
func (r *results) sweep(ctx context.Context, o options) error {
	switch o.sweep {
	case "clients", "value":
		o.rows = sweepRows(o.sweep, o.value)
		return r.compare(ctx, o)
	case "keys":
		o.rows = []row{{requestSet, 64, 1, o.value}, {requestGet, 64, 1, o.value}}
		return r.eachVariant(ctx, o, len(sweepKeys(o.keys)), func(o *options, s system, i int) system {
			o.keys = sweepKeys(o.keys)[i]
			s.name += fmt.Sprintf(", %d keys", o.keys)
			return s
		})
	case "standbys":
		o.systems, o.rows = []string{"repld"}, []row{{requestSet, 16, 1, o.value}, {requestSet, 64, 1, o.value}, {requestSet, 256, 1, o.value}}
		return r.eachVariant(ctx, o, sweepStandbys+1, func(_ *options, s system, i int) system {
			s.name = fmt.Sprintf("repld + %d standbys", i)
			s.start = func(ctx context.Context, o options, dir string) (*running, error) {
				return startRepldWith(ctx, o, dir, i)
			}
			return s
		})
	default:
		return fmt.Errorf("-sweep: %q is none of clients, value, keys, standbys", o.sweep)
	}
}

// eachVariant measures every system in variants, which take turns in each round.
func (r *results) eachVariant(ctx context.Context, o options, n int, vary func(*options, system, int) system) error {
	all, left, err := systems(o)
	if err != nil {
		return err
	}
	r.LeftOut = left
	for round := range o.rounds {
		for i := range n {
			for _, s := range all {
				v := o
				one := vary(&v, s, i)
				fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, one.name)
				if err := measure(ctx, v, one, r); err != nil {
					return fmt.Errorf("%s: %w", one.name, err)
				}
			}
		}
	}
	return nil
}
