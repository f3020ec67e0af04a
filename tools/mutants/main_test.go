package main

import (
	"errors"
	"testing"

	"repld/test/mutants"
)

// TestCode: a sample fails only for a critical mistake that survived tests which ended, or for one that does not fit; the whole list for all that is not shown.
func TestCode(t *testing.T) {
	caught := mutants.Outcome{By: "x", Mutant: mutants.Mutant{Critical: true}}
	missed, critical := mutants.Outcome{}, mutants.Outcome{Mutant: mutants.Mutant{Critical: true}}
	late := mutants.Outcome{Late: true, Mutant: mutants.Mutant{Critical: true}}
	for _, c := range []struct {
		what         string
		all          []mutants.Outcome
		err          error
		whole, piece int
	}{
		{"nothing", nil, nil, 2, 0},
		{"all caught", []mutants.Outcome{caught, caught}, nil, 0, 0},
		{"one of two missed", []mutants.Outcome{caught, missed}, nil, 1, 0},
		{"a critical one missed", []mutants.Outcome{caught, critical}, nil, 1, 1},
		{"not in time", []mutants.Outcome{caught, late}, nil, 2, 0},
		{"does not fit", []mutants.Outcome{caught}, errors.New("does not fit"), 2, 2},
	} {
		for sample, want := range map[bool]int{false: c.whole, true: c.piece} {
			n := tally{by: map[string]int{}, sample: sample}
			for _, o := range c.all {
				n.add(o, nil)
			}
			if c.err != nil {
				n.add(mutants.Outcome{}, c.err)
			}
			if got := n.code(); got != want {
				t.Errorf("%s, sample %v: exit code %d, want %d", c.what, sample, got, want)
			}
		}
	}
}
