package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// report is what one system came out with. Reports of several runs add up.
type report struct {
	System string
	Ours   bool
	Order  []string                   // of failures, as first measured
	Gaps   map[string][]time.Duration // by failure, one for each round
	Errors map[string]int             // that writers saw, by failure
	Acked  int
	Lost   int
	Notes  []string
}

func newReport(system string, ours bool) *report {
	return &report{System: system, Ours: ours, Gaps: map[string][]time.Duration{}, Errors: map[string]int{}}
}

func (r *report) add(mode string, errors int, gaps ...time.Duration) {
	if !slices.Contains(r.Order, mode) {
		r.Order = append(r.Order, mode)
	}
	r.Gaps[mode] = append(r.Gaps[mode], gaps...)
	r.Errors[mode] += errors
}

func (r *report) note(text string) {
	if !slices.Contains(r.Notes, text) {
		r.Notes = append(r.Notes, text)
	}
}

// merge adds what another run of the same system came out with.
func (r *report) merge(other *report) {
	for _, mode := range other.Order {
		r.add(mode, other.Errors[mode], other.Gaps[mode]...)
	}
	r.Acked += other.Acked
	r.Lost += other.Lost
	for _, n := range other.Notes {
		r.note(n)
	}
}

// percentile is the smallest gap that p percent of the rounds do not exceed.
func (r *report) percentile(mode string, p int) (time.Duration, bool) {
	g := slices.Sorted(slices.Values(r.Gaps[mode]))
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

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d writes acked, %d lost\n", r.System, r.Acked, r.Lost)
	fmt.Fprintf(w, "  %-11s %6s %8s %8s %8s  %s\n", "failure", "rounds", "p50 ms", "p99 ms", "max ms", "errors seen by 16 writers")
	for _, m := range r.Order {
		fmt.Fprintf(w, "  %-11s %6d %8s %8s %8s  %d\n", m, len(r.Gaps[m]), r.ms(m, 50), r.ms(m, 99), r.ms(m, 100), r.Errors[m])
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
}

// reports are those of all systems, in the order in which they were measured.
type reports []*report

// add merges r into the report of the same system.
func (all *reports) add(r *report) {
	for _, have := range *all {
		if have.System == r.System {
			have.merge(r)
			return
		}
	}
	*all = append(*all, r)
}

// worst is ms of the system of ours that did worst.
func (all reports) worst(mode string, p int) string {
	text, longest := "-", time.Duration(-1)
	for _, r := range all {
		if d, ok := r.percentile(mode, p); ok && r.Ours && d > longest {
			text, longest = r.ms(mode, p), d
		}
	}
	return text
}

// print shows all, and in the last line ours at its worst. client_errors are those of switchovers: after a crash a write in flight cannot be known.
func (all reports) print(w io.Writer) {
	lost, errors, ours := 0, 0, false
	for _, r := range all {
		r.print(w)
		if r.Ours {
			ours = true
			lost += r.Lost
			errors += r.Errors["switchover"]
		}
	}
	if ours {
		fmt.Fprintf(w, "kill9_p50_ms=%s kill9_p99_ms=%s host_p99_ms=%s pause_p99_ms=%s switchover_p99_ms=%s client_errors=%d lost=%d\n",
			all.worst("kill9", 50), all.worst("kill9", 99), all.worst("host", 99), all.worst("pause", 99), all.worst("switchover", 99), errors, lost)
	}
}

// load adds the reports that runs left in files, each with one report a line.
func (all *reports) load(files []string) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		for d := json.NewDecoder(f); ; {
			r := newReport("", false)
			if err = d.Decode(r); err != nil {
				break
			}
			all.add(r)
		}
		_ = f.Close() // only read
		if err != io.EOF {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// save appends the report to a file, as one line.
func (r *report) save(name string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
