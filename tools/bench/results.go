package main

import (
	"encoding/json"
	"os"
	"slices"
	"time"
)

// results are all samples of a run.
type results struct {
	Piece   string    `json:"piece"`
	Time    time.Time `json:"time"`
	Machine machine   `json:"machine"`
	Seconds float64   `json:"seconds"`
	Rounds  int       `json:"rounds"`
	Keys    int       `json:"keys"`
	Value   int       `json:"value_bytes"`
	LeftOut []string  `json:"left_out,omitempty"`
	Lines   []line    `json:"lines,omitempty"`
	Memory  []memory  `json:"memory,omitempty"`
	Parts   []part    `json:"parts,omitempty"`
	Open    []offer   `json:"open_loop,omitempty"`
	Over    *overload `json:"overload,omitempty"`
}

// line is one system in one row.
type line struct {
	System string `json:"system"`
	row
	Samples []sample `json:"samples"`
}

// memory is the highest resident set of one process, in bytes.
type memory struct {
	System  string `json:"system"`
	Process string `json:"process"`
	RSS     int64  `json:"peak_rss_bytes"`
}

// part is one figure of a part of repld.
type part struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func (r *results) add(system string, x row, s sample) {
	for i := range r.Lines {
		if l := &r.Lines[i]; l.System == system && l.row == x {
			l.Samples = append(l.Samples, s)
			return
		}
	}
	r.Lines = append(r.Lines, line{System: system, row: x, Samples: []sample{s}})
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

// find is what one system did in one row; nil if it did not run.
func (r *results) find(system string, x row) *line {
	for i := range r.Lines {
		if l := &r.Lines[i]; l.System == system && l.row == x {
			return l
		}
	}
	return nil
}

// perSecond is the median throughput of a line, 0 if there is none.
func (l *line) perSecond() float64 {
	if l == nil {
		return 0
	}
	return l.median(func(s sample) float64 { return s.PerSecond })
}

// median of the samples for which of is known, that is not negative; -1 if it is of none.
func (l *line) median(of func(sample) float64) float64 {
	var v []float64
	for _, s := range l.Samples {
		if x := of(s); x >= 0 {
			v = append(v, x)
		}
	}
	return middle(v)
}

func middle(v []float64) float64 {
	if len(v) == 0 {
		return -1
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is the least and the highest throughput.
func (l *line) spread() (lo, hi float64) {
	lo = l.Samples[0].PerSecond
	for _, s := range l.Samples {
		lo, hi = min(lo, s.PerSecond), max(hi, s.PerSecond)
	}
	return lo, hi
}

// write stores the results as JSON.
func (r *results) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if path == "-" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

func readResults(path string) (*results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	return r, json.Unmarshal(text, r)
}
