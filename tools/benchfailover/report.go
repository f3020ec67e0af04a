package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// report is what one system came out with.
type report struct {
	system string
	gaps   map[string][]time.Duration // by failure
	errors map[string]int             // that writers saw, by failure
	order  []string
	acked  int
	lost   int
	notes  []string
}

func newReport(system string) *report {
	return &report{system: system, gaps: map[string][]time.Duration{}, errors: map[string]int{}}
}

func (r *report) add(mode string, gap time.Duration, errors int) {
	if !slices.Contains(r.order, mode) {
		r.order = append(r.order, mode)
	}
	r.gaps[mode] = append(r.gaps[mode], gap)
	r.errors[mode] += errors
}

// percentile is the smallest gap that p percent of the rounds do not exceed.
func (r *report) percentile(mode string, p int) (time.Duration, bool) {
	g := slices.Sorted(slices.Values(r.gaps[mode]))
	if len(g) == 0 {
		return 0, false
	}
	return g[(len(g)*p+99)/100-1], true
}

func (r *report) ms(mode string, p int) string {
	d, ok := r.percentile(mode, p)
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(d)/1e6)
}

// worst is ms of the system that did worst.
func worst(all []*report, mode string, p int) string {
	text, longest := "-", time.Duration(-1)
	for _, r := range all {
		if d, ok := r.percentile(mode, p); ok && d > longest {
			text, longest = r.ms(mode, p), d
		}
	}
	return text
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d writes acked, %d lost\n", r.system, r.acked, r.lost)
	fmt.Fprintf(w, "  %-11s %6s %8s %8s %8s  %s\n", "failure", "rounds", "p50 ms", "p99 ms", "max ms", "errors seen by 16 writers")
	for _, m := range r.order {
		fmt.Fprintf(w, "  %-11s %6d %8s %8s %8s  %d\n", m, len(r.gaps[m]), r.ms(m, 50), r.ms(m, 99), r.ms(m, 100), r.errors[m])
	}
	for _, n := range r.notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
}
