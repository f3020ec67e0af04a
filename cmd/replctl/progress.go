package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"repld/internal/admin"
)

// progress shows how far a long piece of work is: a bar that is drawn over again on a terminal, a line each time otherwise. It goes to standard error; results alone are on standard output.
func (a *app) progress(e admin.Event) {
	switch {
	case e.Percent <= 0:
		a.endBar()
		fmt.Fprintf(a.err, "  %s\n", e.Message)
	case width(a.err) == 0:
		fmt.Fprintf(a.err, "  %s (%.0f %%)\n", e.Message, e.Percent)
	default:
		fmt.Fprint(a.err, "\r"+barText(e.Message, e.Percent, width(a.err))+"\x1b[K")
		if a.bar = true; e.Percent >= 100 {
			a.endBar()
		}
	}
}

// endBar begins a new line below a bar.
func (a *app) endBar() {
	if a.bar {
		a.bar = false
		fmt.Fprintln(a.err)
	}
}

const barCells = 24

// barText is a bar with its message, no wider than the terminal: a line that wraps could not be drawn over.
func barText(message string, percent float64, columns int) string {
	done := int(barCells * min(percent, 100) / 100)
	text := []rune(fmt.Sprintf("  [%s%s] %3.0f %%  %s", strings.Repeat("#", done), strings.Repeat(".", barCells-done), percent, message))
	return string(text[:min(len(text), max(columns-1, 0))])
}

// width is how many columns the terminal behind w has, 0 if it is none.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80 // a terminal that does not say
	}
	return int(size.Col)
}
