package main

import (
	"fmt"
	"io"
)

// report prints what several runs wrote as Markdown, a section for each.
func report(w io.Writer, files []string) error {
	last := ""
	for _, path := range files {
		r, err := readResults(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name := r.Piece
		if name == "" {
			name = path
		}
		fmt.Fprintf(w, "\n### %s (%s)\n", name, r.Time.UTC().Format("2006-01-02 15:04 MST"))
		if m := r.Machine; m.CPUs > 0 && m.String() != last {
			last = m.String()
			fmt.Fprintf(w, "\nMachine, from here on: %s.\n", last)
		}
		r.print(w, true)
	}
	return nil
}
