package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnnotation reads claims as people write them, and refuses what would be overlooked.
func TestAnnotation(t *testing.T) {
	src := `package x
// TestA shows something.
// Faults: D8, D9 (bit rot
// by rewriting (all) bytes); D3
//
// More words; D1 is not claimed.
func TestA(t *testing.T) {}
`
	f, err := parser.ParseFile(token.NewFileSet(), "x_test.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := scanFile(f, "x")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range claims {
		got = append(got, c.row+"="+c.how+"@"+c.test.dir+"."+c.test.name)
	}
	want := "D8=bit rot by rewriting (all) bytes@x.TestA D9=bit rot by rewriting (all) bytes@x.TestA D3=@x.TestA"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	for _, bad := range []string{"", "D8 D9", "D99", "D8 (open", "bit rot"} {
		if c, err := parse(bad); err == nil {
			t.Errorf("parse(%q) = %v, want an error", bad, c)
		}
	}
}

// TestSources reads the annotations of this module: a wrong one fails here and not in the nightly run.
func TestSources(t *testing.T) {
	claims, err := scan("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(claims) == 0 {
		t.Error("no test claims a fault")
	}
}

// TestReport makes rows out of results: a skipped test covers nothing, a failed one uncovers.
func TestReport(t *testing.T) {
	events := `{"Action":"run","Test":"TestA"}
{"Action":"pass","Test":"TestA/sub","Elapsed":1}
{"Action":"pass","Test":"TestA","Elapsed":1.5}
{"Action":"output","Test":"TestB","Output":"    b_test.go:12: no mount: needs root\n"}
{"Action":"output","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Test":"TestB"}
{"Action":"fail","Test":"TestC"}
`
	r := report{results: map[testID]result{}}
	if err := readEvents(strings.NewReader(events), "x", r.results); err != nil {
		t.Fatal(err)
	}
	r.claims = []claim{{"D1", "how", testID{"x", "TestA"}}, {"D2", "", testID{"x", "TestB"}}, {"D3", "", testID{"x", "TestA"}}, {"D3", "", testID{"x", "TestC"}},
		{"D4", "", testID{"x", "TestGone"}}}
	for row, want := range map[string]bool{"D1": true, "D2": false, "D3": false, "D4": false, "D5": false} {
		if got := r.covered(row); got != want {
			t.Errorf("covered(%s) = %v", row, got)
		}
	}
	md := r.markdown()
	for _, want := range []string{"| how | `x` TestA | passed |", "TestB | *skipped: no mount: needs root* |", "TestC | **FAILED** |", "TestGone | *not run* |", "| D5 |", "**NOT COVERED**"} {
		if !strings.Contains(md, want) {
			t.Errorf("the report lacks %q:\n%s", want, md)
		}
	}
	path := filepath.Join(t.TempDir(), "f.md")
	if err := os.WriteFile(path, []byte("head\n"+beginMark+"\nformer text\n"+endMark+"\ntail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := splice(path, md); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); !strings.HasPrefix(s, "head\n") || !strings.HasSuffix(s, "\ntail\n") || strings.Contains(s, "former text") {
		t.Errorf("spliced file: %s", s)
	}
	old, err := former(path)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range r.results {
		if want.took = 0; old[id] != want && id.name != "TestA/sub" {
			t.Errorf("the report says of %v: %+v, it was %+v", id, old[id], want)
		}
	}
}
