package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The report stands between these lines; everything else in the file is written by hand and kept.
const (
	beginMark = "<!-- report: begin. Written by make faults-report; do not edit. -->"
	endMark   = "<!-- report: end -->"
)

// report is all that is known after the tests ran.
type report struct {
	claims  []claim
	results map[testID]result
	short   bool
}

// of returns the claims of a row.
func of(claims []claim, row string) []claim {
	var out []claim
	for _, c := range claims {
		if c.row == row && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// covered tells whether a test that passed asserts the row, and none that asserts it failed.
func (r report) covered(row string) bool {
	passed := false
	for _, c := range of(r.claims, row) {
		switch r.results[c.test].outcome {
		case "pass":
			passed = true
		case "fail":
			return false
		}
	}
	return passed
}

// failed counts the tests that failed.
func (r report) failed() int {
	n := 0
	for _, res := range r.results {
		if res.outcome == "fail" {
			n++
		}
	}
	return n
}

// summary is the one line that says how much is covered.
func (r report) summary() string {
	covered, applies := 0, 0
	var open []string
	for _, row := range catalogue {
		if notApplicable[row.ID] != "" {
			continue
		}
		applies++
		if r.covered(row.ID) {
			covered++
		} else {
			open = append(open, row.ID)
		}
	}
	s := fmt.Sprintf("%d of %d rows covered", covered, applies)
	if len(open) > 0 {
		s += "; not covered: " + strings.Join(open, " ")
	}
	return s
}

// markdown is the report itself.
func (r report) markdown() string {
	var b strings.Builder
	how := "in full"
	if r.short {
		how = "with `-short`"
	}
	fmt.Fprintf(&b, "Last run %s: %s.\n\n| row | fault | required | injected by | test | result |\n|---|---|---|---|---|---|\n", how, r.summary())
	for _, row := range catalogue {
		r.row(&b, row)
	}
	return b.String()
}

// row writes one line for each test of a row.
func (r report) row(b *strings.Builder, row row) {
	head := fmt.Sprintf("| %s | %s | %s |", row.ID, row.Fault, row.Required)
	claims := of(r.claims, row.ID)
	switch {
	case notApplicable[row.ID] != "":
		fmt.Fprintf(b, "%s | | | does not apply: %s |\n", head, notApplicable[row.ID])
	case len(claims) == 0:
		fmt.Fprintf(b, "%s | | | **NOT COVERED** |\n", head)
	}
	for _, c := range claims {
		fmt.Fprintf(b, "%s %s | `%s` %s | %s |\n", head, escape(c.how), c.test.dir, c.test.name, r.results[c.test])
		head = "| | | |"
	}
}

// String is the result as the report shows it. How long it took is left out, so that a run changes nothing in the file but results.
func (r result) String() string {
	switch r.outcome {
	case "pass":
		return "passed"
	case "fail":
		return "**FAILED**"
	case "skip":
		return "*skipped: " + escape(r.why) + "*"
	}
	return "*not run*"
}

func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// listing prints the claims without results.
func listing(claims []claim) string {
	var b strings.Builder
	for _, row := range catalogue {
		fmt.Fprintf(&b, "%-4s %s\n", row.ID, row.Fault)
		cs := of(claims, row.ID)
		for _, c := range cs {
			fmt.Fprintf(&b, "       %s %s (%s)\n", c.test.dir, c.test.name, c.how)
		}
		if len(cs) == 0 && notApplicable[row.ID] == "" {
			b.WriteString("       NOT COVERED\n")
		}
	}
	return b.String()
}

// line is the end of a row of the report: test and result.
var line = regexp.MustCompile("\\| `([^`]+)` ([A-Za-z0-9_]+) \\| (.*) \\|$")

// former reads the results out of a report. What is not there, or was not run, has none.
func former(path string) (map[testID]result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	results := make(map[testID]result)
	for text := range strings.Lines(string(b)) {
		m := line.FindStringSubmatch(strings.TrimSpace(text))
		if m == nil {
			continue
		}
		id := testID{m[1], m[2]}
		why, skipped := strings.CutPrefix(m[3], "*skipped: ")
		switch {
		case m[3] == "passed":
			results[id] = result{outcome: "pass"}
		case m[3] == "**FAILED**":
			results[id] = result{outcome: "fail"}
		case skipped:
			results[id] = result{outcome: "skip", why: strings.ReplaceAll(strings.TrimSuffix(why, "*"), `\|`, "|")}
		}
	}
	return results, nil
}

// splice replaces what stands between the marks of a file.
func splice(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(old, []byte(beginMark))
	_, tail, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return fmt.Errorf("%s: the lines %q and %q are missing", path, beginMark, endMark)
	}
	return os.WriteFile(path, slices.Concat(head, []byte(beginMark+"\n\n"+text+"\n"+endMark), tail), 0o644)
}
