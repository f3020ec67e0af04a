package server

import (
	"bufio"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"repld/internal/server/difftest"
)

// words are the flags, categories or tips of a description, sorted; containers compare as sets.
func words(s string) []string {
	list := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("[]{} ", r) })
	slices.Sort(list)
	return list
}

// TestCommandTableEqualsRedis compares what COMMAND INFO says of every command that Redis has too: arity, flags, keys,
// categories, tips, key specifications.
func TestCommandTableEqualsRedis(t *testing.T) {
	dialRedis := difftest.Redis(t)
	conn, err := dialRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	redis := bufio.NewReader(conn)
	_, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)

	ownOnly := map[string]bool{"repld.epoch": true, "repld.receipt": true, "repld.receipts": true, "repld.history": true, "repld.once": true, "kv.range": true, "waitaof": true, "client|setinfo": true, "client|no-touch": true}
	mustNotWait := map[string]bool{"failover": true, "debug": true} // refused inside MULTI, where Redis queues them
	notes := regexp.MustCompile(`"notes" "[^"]*" `)                 // in words, of some key specifications
	table := newTable()
	table.each(func(c *command) {
		if ownOnly[c.full] {
			return
		}
		if _, err := io.WriteString(conn, encode("COMMAND", "INFO", c.full)); err != nil {
			t.Fatal(err)
		}
		want, err := render(redis)
		if err != nil {
			t.Fatal(err)
		}
		if want == "[nil]" {
			t.Errorf("%s: Redis does not know it", c.full)
			return
		}
		got := p.args("COMMAND", "INFO", c.full)
		if len(c.subs) > 0 { // subcommands follow, not all of Redis'
			got, _, _ = strings.Cut(got, `[["`+c.name+"|")
			want, _, _ = strings.Cut(want, `[["`+c.name+"|")
		}
		g, w := words(got), words(notes.ReplaceAllString(want, ""))
		if mustNotWait[c.full] {
			g = slices.DeleteFunc(g, func(s string) bool { return s == "+no_multi" })
		}
		if !slices.Equal(g, w) {
			t.Errorf("%s:\n got  %s\n want %s", c.full, strings.Join(g, " "), strings.Join(w, " "))
		}
	})
}

func TestCommandTableIsSound(t *testing.T) {
	table := newTable()
	table.each(func(c *command) {
		if c.doc == "" || c.since == "" || c.group == "" || c.arity == 0 || len(c.name) > longestName {
			t.Errorf("%s: incomplete", c.full)
		}
		if c.do == nil && c.name != "exec" {
			t.Errorf("%s: no handler", c.full)
		}
		if c.has(fBlocking) && !c.has(fAlone) {
			t.Errorf("%s may wait under the sequencer lock", c.full)
		}
		if c.has(fWrite) && c.has(fAlone|fPin) {
			t.Errorf("%s: flags exclude each other", c.full)
		}
		if (c.keys.first != 0) != (c.specs != "") {
			t.Errorf("%s: keys without specification, or the other way round", c.full)
		}
	})
}

func TestCommandDocs(t *testing.T) {
	_, path := startServer(t, Options{Backend: newFake(t)})
	p := dial(t, path)
	p.do("HELLO 3")
	if got := p.do("COMMAND DOCS kv.range nosuch"); !strings.HasPrefix(got, `{"kv.range" {"summary" "Returns keys`) {
		t.Errorf("got %s", got)
	}
	if got := p.do("COMMAND DOCS"); strings.Count(got, `"summary"`) < 100 {
		t.Errorf("only %d commands documented", strings.Count(got, `"summary"`))
	}
}
