package mutants

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Score is a table of outcomes. It lives in a document between two marks, so that a run may be split: what was not planted this time keeps its line.
type Score struct{ rows map[string]string }

// The table stands between these lines.
const (
	beginMark = "<!-- mutants: begin. Written by make mutants; do not edit. -->"
	endMark   = "<!-- mutants: end -->"
	tableHead = "| mistake | rule | critical | caught by | how |\n|---|---|---|---|---|\n"
)

// ReadScore takes the table out of a document. Lines of mistakes that are not on the list any more are dropped.
func ReadScore(path string) (*Score, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, _, inside, err := split(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &Score{rows: map[string]string{}}
	for line := range strings.Lines(inside) {
		for _, m := range List() {
			if strings.HasPrefix(line, "| "+m.Name+" |") {
				s.rows[m.Name] = strings.TrimSuffix(line, "\n")
			}
		}
	}
	return s, nil
}

func split(b []byte) (head, tail []byte, inside string, err error) {
	head, rest, ok := bytes.Cut(b, []byte(beginMark))
	in, tail, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, nil, "", fmt.Errorf("the lines %q and %q are missing", beginMark, endMark)
	}
	return head, tail, string(in), nil
}

// Set notes an outcome.
func (s *Score) Set(o Outcome) {
	critical, by, how := "", o.By, o.How
	if o.Mutant.Critical {
		critical = "yes"
	}
	if by == "" {
		by, how = "**nobody**", strings.Join(o.Tried, "; ")
	}
	s.rows[o.Mutant.Name] = fmt.Sprintf("| %s | %s | %s | %s | %s |", o.Mutant.Name, o.Mutant.Rule, critical, by, strings.ReplaceAll(how, "|", `\|`))
}

// Count adds up what the table says of all mistakes on the list.
func (s *Score) Count() (caught, planted, critical, criticals int) {
	for _, m := range List() {
		planted++
		got := s.Caught(m.Name)
		if got {
			caught++
		}
		if m.Critical {
			criticals++
			if got {
				critical++
			}
		}
	}
	return caught, planted, critical, criticals
}

// Write puts the table into the document.
func (s *Score) Write(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, tail, _, err := split(old)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var b strings.Builder
	caught, planted, critical, criticals := s.Count()
	fmt.Fprintf(&b, "%s\n\n%d of %d caught; of the critical ones %d of %d.\n\n%s", beginMark, caught, planted, critical, criticals, tableHead)
	for _, m := range List() {
		row := s.rows[m.Name]
		if row == "" {
			row = fmt.Sprintf("| %s | %s | | **nobody** | not planted yet |", m.Name, m.Rule)
		}
		b.WriteString(row + "\n")
	}
	b.WriteString("\n" + endMark)
	return os.WriteFile(path, slices.Concat(head, []byte(b.String()), tail), 0o644)
}

// Caught reports whether the table calls a mistake caught.
func (s *Score) Caught(name string) bool {
	return s.rows[name] != "" && !strings.Contains(s.rows[name], "**nobody**")
}
