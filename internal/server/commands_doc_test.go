package server

import (
	"bytes"
	cmdline "flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = cmdline.Bool("update", false, "rewrite the table in docs/commands.md")

const (
	commandsDoc = "../../docs/commands.md"
	tableBegin  = "<!-- table: go test ./internal/server -run TestCommandsDocument -update -->\n"
	tableEnd    = "<!-- end of table -->\n"
)

// TestCommandsDocument: docs/commands.md lists the commands of the table, all of them and no others.
func TestCommandsDocument(t *testing.T) {
	have, err := os.ReadFile(commandsDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := bytes.Cut(have, []byte(tableBegin))
	_, after, ended := bytes.Cut(rest, []byte(tableEnd))
	if !begun || !ended {
		t.Fatalf("%s has no table: want the lines %q and %q", commandsDoc, tableBegin, tableEnd)
	}
	want := bytes.Join([][]byte{before, []byte(tableBegin), documentTable(newTable()), []byte(tableEnd), after}, nil)
	if bytes.Equal(have, want) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./internal/server -run TestCommandsDocument -update", commandsDoc)
	}
	if err := os.WriteFile(commandsDoc, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// documentTable writes one table a group, in the order of the command table.
func documentTable(t *table) []byte {
	var out bytes.Buffer
	var groups []string
	rows := map[string][]string{}
	t.each(func(c *command) {
		if c.do == nil && c.name != "exec" || c.name == "help" || len(c.subs) > 0 && c.has(fNoCats) {
			return // containers are seen in their subcommands
		}
		if rows[c.group] == nil {
			groups = append(groups, c.group)
		}
		name := strings.ToUpper(strings.ReplaceAll(c.full, "|", " "))
		rows[c.group] = append(rows[c.group], fmt.Sprintf("| `%s` | %d | %s | %s |\n", name, c.arity, documentKind(c), strings.ReplaceAll(c.doc, "|", `\|`)))
	})
	for _, g := range groups {
		fmt.Fprintf(&out, "\n### %s\n\n| command | arity | kind | what it does |\n|---|---:|---|---|\n%s", g, strings.Join(rows[g], ""))
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func documentKind(c *command) string {
	switch {
	case c.has(fWrite):
		return "write"
	case c.has(fRead):
		return "read"
	case c.has(fAdmin):
		return "admin"
	}
	return ""
}
