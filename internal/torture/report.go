package torture

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Results of a scenario.
const (
	Passed  = "passed"
	Failed  = "FAILED"
	Skipped = "skipped"
)

// Report is how a run came out.
type Report struct {
	Version string        `json:"version"` // of repld
	Seed    uint64        `json:"seed"`
	Took    time.Duration `json:"took_ns"`
	Rows    []Row         `json:"scenarios"`
	Total   Row           `json:"total"`
	Covered []string      `json:"covered"`     // rows of the fault catalogue that a passed scenario asserts
	Not     []string      `json:"not_covered"` // rows of scenarios that were skipped, failed, or did not reach them
}

// Row is how one scenario came out.
type Row struct {
	Scenario string        `json:"scenario"`
	Result   string        `json:"result"`
	Why      string        `json:"why,omitempty"` // of skipped or FAILED
	Rounds   int           `json:"rounds"`
	Kills    int           `json:"kills"`  // SIGKILLs that ended a process
	Cuts     int           `json:"cuts"`   // power cuts
	Faults   int           `json:"faults"` // other faults
	Acked    int           `json:"acked"`
	Unknown  int           `json:"unknown"`
	Refused  int           `json:"refused"`
	Lost     int           `json:"lost"`
	Checked  int           `json:"checked"` // operations and transactions that were checked for their order
	Faulted  []string      `json:"rows"`    // of the fault catalogue
	Notes    []string      `json:"notes,omitempty"`
	Took     time.Duration `json:"took_ns"`
}

// OK reports whether nothing failed.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Rows, func(x Row) bool { return x.Result == Failed })
}

// CutsRan reports whether a scenario with power cuts could run: only then a minimum of them can be asked for.
func CutsRan(r *Report) bool {
	return slices.ContainsFunc(r.Rows, func(x Row) bool {
		s, ok := find(x.Scenario)
		return ok && s.cuts && x.Result != Skipped
	})
}

// finish sums up.
func (r *Report) finish() {
	r.Total = Row{Scenario: "total", Result: Passed}
	if !r.OK() {
		r.Total.Result = Failed
	}
	covered, not := map[string]bool{}, map[string]bool{}
	for _, x := range r.Rows {
		t := &r.Total
		t.Rounds += x.Rounds
		t.Kills += x.Kills
		t.Cuts += x.Cuts
		t.Faults += x.Faults
		t.Acked += x.Acked
		t.Unknown += x.Unknown
		t.Refused += x.Refused
		t.Lost += x.Lost
		t.Checked += x.Checked
		t.Took += x.Took
		for _, f := range x.Faulted {
			if x.Result == Passed {
				covered[f] = true
			} else {
				not[f] = true
			}
		}
	}
	for f := range covered {
		r.Covered = append(r.Covered, f)
	}
	for f := range not {
		if !covered[f] {
			r.Not = append(r.Not, f)
		}
	}
	slices.SortFunc(r.Covered, byRow)
	slices.SortFunc(r.Not, byRow)
}

// byRow sorts P2 before P10.
func byRow(a, b string) int {
	if a[0] != b[0] {
		return int(a[0]) - int(b[0])
	}
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// Table writes the report for a person.
func (r *Report) Table(w io.Writer) {
	head := []string{"SCENARIO", "ROUNDS", "KILLS", "CUTS", "FAULTS", "ACKED", "UNKNOWN", "LOST", "CHECKED", "SECONDS", "ROWS", "RESULT"}
	lines := [][]string{head}
	for _, x := range append(slices.Clone(r.Rows), r.Total) {
		line := []string{x.Scenario}
		for _, n := range []int{x.Rounds, x.Kills, x.Cuts, x.Faults, x.Acked, x.Unknown, x.Lost, x.Checked} {
			line = append(line, fmt.Sprint(n))
		}
		lines = append(lines, append(line, fmt.Sprintf("%.1f", x.Took.Seconds()), strings.Join(x.Faulted, " "), x.Result))
	}
	width := make([]int, len(head))
	for _, l := range lines {
		for i, cell := range l {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, l := range lines {
		text := ""
		for i, cell := range l {
			if pad := strings.Repeat(" ", width[i]-len(cell)); i > 0 && i < 10 {
				text += pad + cell + "  "
			} else {
				text += cell + pad + "  "
			}
		}
		fmt.Fprintln(w, strings.TrimRight(text, " "))
	}
	for _, x := range r.Rows {
		if x.Why != "" {
			fmt.Fprintf(w, "%s %s: %s\n", x.Scenario, x.Result, x.Why)
		}
		for _, n := range x.Notes {
			fmt.Fprintf(w, "%s: %s\n", x.Scenario, n)
		}
	}
	fmt.Fprintf(w, "covered: %s\n", strings.Join(r.Covered, " "))
	if len(r.Not) > 0 {
		fmt.Fprintf(w, "not covered: %s\n", strings.Join(r.Not, " "))
	}
}
