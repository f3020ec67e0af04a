package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// table is printed as aligned text or as Markdown.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer, markdown bool) {
	all := append([][]string{t.head}, t.rows...)
	widths := make([]int, len(t.head))
	for _, r := range all {
		for i, c := range r {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	for n, r := range all {
		var b strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-len([]rune(c)))
			switch {
			case markdown:
				b.WriteString("| " + c + " ")
			case i == 0:
				b.WriteString("  " + c + pad)
			default:
				b.WriteString("  " + pad + c)
			}
		}
		if markdown {
			b.WriteString("|")
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		if markdown && n == 0 {
			fmt.Fprintln(w, "|---"+strings.Repeat("|---:", len(t.head)-1)+"|")
		}
	}
}

// title is a heading in either form.
func title(w io.Writer, markdown bool, format string, args ...any) {
	if markdown {
		fmt.Fprintf(w, "\n**"+format+"**\n\n", args...)
		return
	}
	fmt.Fprintf(w, "\n"+format+"\n", args...)
}

// print shows everything that was measured.
func (r *results) print(w io.Writer, markdown bool) {
	fmt.Fprintln(w)
	if r.Machine.CPUs > 0 && !markdown { // a report says it once for all its pieces
		fmt.Fprintf(w, "%s; ", r.Machine)
	}
	fmt.Fprintf(w, "rounds: %d, %g s for each measurement", r.Rounds, r.Seconds)
	if r.Keys > 0 {
		fmt.Fprintf(w, ", %s keys of %d bytes, half-compressible values", figure(float64(r.Keys)), keyBytes)
	}
	fmt.Fprintln(w, "; medians")
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s\n", l)
	}
	r.printOverview(w, markdown)
	for _, x := range r.rows() {
		r.printRow(w, markdown, x)
	}
	if len(r.Memory) > 0 {
		title(w, markdown, "memory: highest resident set of all rounds")
		t := &table{head: []string{"system", "process", "MiB"}}
		for _, m := range r.Memory {
			t.add(m.System, m.Process, fmt.Sprintf("%.0f", float64(m.RSS)/(1<<20)))
		}
		t.print(w, markdown)
	}
	if len(r.Parts) > 0 {
		title(w, markdown, "figures")
		t := &table{head: []string{"part", "value", "unit"}}
		for _, p := range r.Parts {
			t.add(p.Name, figure(p.Value), p.Unit)
		}
		t.print(w, markdown)
	}
	r.printOpen(w, markdown)
	r.Over.print(w, markdown)
}

func (r *results) rows() []row {
	var out []row
	for _, l := range r.Lines {
		if !slices.Contains(out, l.row) {
			out = append(out, l.row)
		}
	}
	return out
}

// printOverview has all rows in one table.
func (r *results) printOverview(w io.Writer, markdown bool) {
	rows := r.rows()
	if len(rows) < 2 {
		return
	}
	var systems []string
	for _, l := range r.Lines {
		if !slices.Contains(systems, l.System) {
			systems = append(systems, l.System)
		}
	}
	title(w, markdown, "operations/s (p99 ms)")
	t := &table{head: append([]string{""}, systems...)}
	for _, x := range rows {
		cells := []string{x.String()}
		for _, s := range systems {
			l := r.find(s, x)
			if l == nil {
				cells = append(cells, "-")
				continue
			}
			cells = append(cells, fmt.Sprintf("%s (%s)", figure(l.perSecond()), ms(l.median(func(s sample) float64 { return float64(s.P99) }))))
		}
		t.add(cells...)
	}
	t.print(w, markdown)
}

// printRow compares all systems in one row. The ratio is that of repld (with a standby, when something is written) to the system.
func (r *results) printRow(w io.Writer, markdown bool, x row) {
	ours := nameRepld1
	if x.get() || r.find(ours, x) == nil {
		ours = nameRepld
	}
	mine := r.find(ours, x).perSecond()
	title(w, markdown, "%v", x)
	t := &table{head: []string{"system", "operations/s", "(min–max)", "p50 ms", "p99 ms", ours + " / it", "servers' CPU µs/op", "device flushes/s", "disk B/op"}}
	for _, l := range r.Lines {
		if l.row != x {
			continue
		}
		ratio := "-"
		if mine > 0 {
			ratio = fmt.Sprintf("%.2f", mine/l.perSecond())
		}
		lo, hi := l.spread()
		t.add(l.System, figure(l.perSecond()), figure(lo)+"–"+figure(hi),
			ms(l.median(func(s sample) float64 { return float64(s.P50) })), ms(l.median(func(s sample) float64 { return float64(s.P99) })), ratio,
			known(l.costs(func(c *cost) float64 { return c.PerOp })), known(l.costs(func(c *cost) float64 { return c.Flushes })), known(l.costs(func(c *cost) float64 { return c.Written })))
	}
	t.print(w, markdown)
	if c := r.perProcess(x); c != "" {
		fmt.Fprintf(w, "%s\n", c)
	}
}

// perProcess tells the processor seconds a second of each process: a machine of two processors has two to give.
func (r *results) perProcess(x row) string {
	var out []string
	for _, l := range r.Lines {
		if l.row != x || l.Samples[0].Cost == nil {
			continue
		}
		var each []string
		c := l.Samples[len(l.Samples)-1].Cost
		for _, p := range c.CPU {
			each = append(each, fmt.Sprintf("%s %.2f", p.Process, p.CPU/r.Seconds))
		}
		out = append(out, fmt.Sprintf("%s, clients %.2f", strings.Join(each, ", "), c.Generator/r.Seconds))
	}
	if len(out) == 0 {
		return ""
	}
	return "\n  processors in use: " + strings.Join(out, "; ")
}

func (l *line) costs(of func(*cost) float64) float64 {
	return l.median(func(s sample) float64 {
		if s.Cost == nil {
			return -1
		}
		return of(s.Cost)
	})
}

// figure has three digits at least and no more than are known.
func figure(v float64) string {
	if v != 0 && v < 100 && v > -100 {
		return fmt.Sprintf("%.3g", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func known(v float64) string {
	if v < 0 {
		return "n/a"
	}
	return figure(v)
}

func ms(nanoseconds float64) string {
	return fmt.Sprintf("%.3g", nanoseconds/float64(time.Millisecond))
}

// summary is the line that scripts read: the ratios at 64 clients, of throughput, that were measured. set64_vs_wait is a write on two nodes beside redis with
// WAIT 1, set64_vs_alone the same beside redis alone.
func (r *results) summary(w io.Writer) {
	text := ""
	for _, p := range []struct{ name, request, ours, theirs string }{
		{"set64_vs_wait", requestSet, nameRepld1, nameRedis1},
		{"set64_vs_alone", requestSet, nameRepld1, nameRedis},
		{"get64", requestGet, nameRepld, nameRedis},
	} {
		x := row{p.request, 64, 1, r.Value}
		a, b := r.find(p.ours, x).perSecond(), r.find(p.theirs, x).perSecond()
		if a > 0 && b > 0 {
			text += fmt.Sprintf(" %s=%.2f", p.name, a/b)
		}
	}
	if text != "" {
		fmt.Fprintln(w, text[1:])
	}
}
