package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// results are all samples of a run.
type results struct {
	Time    time.Time `json:"time"`
	CPUs    int       `json:"cpus"`
	Seconds float64   `json:"seconds"`
	Rounds  int       `json:"rounds"`
	Keys    int       `json:"keys"`
	Value   int       `json:"value_bytes"`
	Lines   []line    `json:"lines"`
	Memory  []memory  `json:"memory"`
	Parts   []part    `json:"parts,omitempty"`
}

// line is one system at one number of clients.
type line struct {
	System  string   `json:"system"`
	Request string   `json:"request"`
	Clients int      `json:"clients"`
	Samples []sample `json:"samples"`
}

// memory is the largest resident set of one process, in bytes.
type memory struct {
	System  string `json:"system"`
	Process string `json:"process"`
	RSS     int64  `json:"rss_bytes"`
}

// part is one figure of a part of repld.
type part struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func (r *results) add(system, request string, clients int, s sample) {
	for i := range r.Lines {
		l := &r.Lines[i]
		if l.System == system && l.Request == request && l.Clients == clients {
			l.Samples = append(l.Samples, s)
			return
		}
	}
	r.Lines = append(r.Lines, line{System: system, Request: request, Clients: clients, Samples: []sample{s}})
}

func (r *results) memory(system, process string, rss int64) {
	for i := range r.Memory {
		if m := &r.Memory[i]; m.System == system && m.Process == process {
			m.RSS = max(m.RSS, rss)
			return
		}
	}
	r.Memory = append(r.Memory, memory{System: system, Process: process, RSS: rss})
}

// median returns the sample in the middle by throughput, with the medians of the latencies.
func (r *results) median(system, request string, clients int) (sample, bool) {
	for _, l := range r.Lines {
		if l.System == system && l.Request == request && l.Clients == clients {
			return sample{
				PerSecond: middle(l.Samples, func(s sample) float64 { return s.PerSecond }),
				P50:       time.Duration(middle(l.Samples, func(s sample) float64 { return float64(s.P50) })),
				P99:       time.Duration(middle(l.Samples, func(s sample) float64 { return float64(s.P99) })),
			}, true
		}
	}
	return sample{}, false
}

func middle(all []sample, of func(sample) float64) float64 {
	v := make([]float64, len(all))
	for i, s := range all {
		v[i] = of(s)
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// print shows one table for each comparison.
func (r *results) print(w io.Writer, clients []int) {
	fmt.Fprintf(w, "\n%d CPUs, %d rounds of %g s, %d keys of %d bytes, values of %d bytes; operations/s (p50/p99 ms), medians\n", r.CPUs, r.Rounds, r.Seconds, r.Keys, keyBytes, r.Value)
	r.compare(w, "durable SET, one copy", "SET", nameRepld, nameRedis, clients)
	r.compare(w, "durable SET, two copies", "SET", nameRepld1, nameRedis1, clients)
	r.compare(w, "GET", "GET", nameRepld, nameRedis, clients)
	fmt.Fprintln(w, "\nmemory (resident, highest of all rounds)")
	for _, m := range r.Memory {
		fmt.Fprintf(w, "  %-20s %-10s %6.0f MiB\n", m.System, m.Process, float64(m.RSS)/(1<<20))
	}
	if len(r.Parts) > 0 {
		fmt.Fprintln(w, "\nparts of repld")
	}
	for _, p := range r.Parts {
		fmt.Fprintf(w, "  %-46s %12.0f %s\n", p.Name, p.Value, p.Unit)
	}
}

// summary is the line that scripts read: the ratios at 64 clients, of throughput, that were measured. set64_vs_wait is a write on two nodes beside redis with
// WAIT 1, set64_vs_alone the same beside redis alone.
func (r *results) summary(w io.Writer) {
	text := ""
	for _, p := range []struct{ name, request, ours, theirs string }{
		{"set64_vs_wait", "SET", nameRepld1, nameRedis1},
		{"set64_vs_alone", "SET", nameRepld1, nameRedis},
		{"get64", "GET", nameRepld, nameRedis},
	} {
		a, haveA := r.median(p.ours, p.request, 64)
		b, haveB := r.median(p.theirs, p.request, 64)
		if haveA && haveB {
			text += fmt.Sprintf(" %s=%.2f", p.name, a.PerSecond/b.PerSecond)
		}
	}
	if text != "" {
		fmt.Fprintln(w, text[1:])
	}
}

func (r *results) compare(w io.Writer, title, request, ours, theirs string, clients []int) {
	fmt.Fprintf(w, "\n%s\n  %8s  %-28s %-28s %s\n", title, "clients", ours, theirs, "ratio")
	for _, n := range clients {
		a, haveA := r.median(ours, request, n)
		b, haveB := r.median(theirs, request, n)
		ratio := "-"
		if haveA && haveB {
			ratio = fmt.Sprintf("%.2f", a.PerSecond/b.PerSecond)
		}
		fmt.Fprintf(w, "  %8d  %-28s %-28s %s\n", n, cell(a, haveA), cell(b, haveB), ratio)
	}
}

func cell(s sample, have bool) string {
	if !have {
		return "-"
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.3g", float64(d.Microseconds())/1000) }
	return fmt.Sprintf("%.0f (%s/%s)", s.PerSecond, ms(s.P50), ms(s.P99))
}
