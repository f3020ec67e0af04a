package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong.
type Problem struct {
	Key     string // as in the file, with dots; empty when no single key is at fault
	Place   string // file:line, environment variable, flag, or empty when the setting is missing
	Message string

	line int // for ordering
}

// String returns "place: key: message".
func (p Problem) String() string {
	var parts []string
	for _, s := range []string{p.Place, p.Key, p.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Error lists everything that is wrong with the settings.
type Error struct{ Problems []Problem }

// Error returns one line a problem.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "configuration: " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration: %d problems", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// problems collects what is wrong while loading.
type problems struct {
	list   []Problem
	unread map[string]bool // keys whose value has the wrong type or text
}

func (p *problems) add(key string, from source, format string, args ...any) {
	p.list = append(p.list, Problem{Key: key, Place: from.String(), Message: fmt.Sprintf(format, args...), line: from.line})
}

// err returns nil or everything collected, in the order of the file.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b Problem) int { return cmp.Compare(a.line, b.line) })
	return &Error{Problems: p.list}
}

// source is where the value of a setting came from.
type source struct {
	kind string // flag, env, file, default
	name string // of the flag, the variable or the file
	line int    // in the file
}

// String returns the place as messages show it; empty for a default.
func (s source) String() string {
	switch s.kind {
	case "file":
		if s.line == 0 {
			return s.name
		}
		return fmt.Sprintf("%s:%d", s.name, s.line)
	case "flag":
		return "--" + s.name
	case "env":
		return s.name
	}
	return ""
}
