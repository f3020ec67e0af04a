package mutants

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func root(t *testing.T) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) { // with -trimpath
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "..", "..")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Every mistake fits the code as it is, and makes Go of it.
func TestFit(t *testing.T) {
	names := map[string]bool{}
	for _, m := range List() {
		if names[m.Name] || len(m.Layers) == 0 {
			t.Errorf("%s is there twice, or nobody looks for it", m.Name)
		}
		names[m.Name] = true
		src, err := m.Changed(root(t))
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, src, parser.SkipObjectResolution); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if len(names) < 40 {
		t.Errorf("%d mistakes, there should be 40 at least", len(names))
	}
}

// Some mistakes, others each day, are planted and must be caught: as many as begin within some seconds (make mutants plants them all).
func TestSample(t *testing.T) {
	if testing.Short() {
		return // builds packages anew: without -short, and by make mutants
	}
	all, dir, began := List(), t.TempDir(), time.Now()
	limit := 12 * time.Second
	day := int(time.Now().Unix() / (24 * 3600))
	caught := 0
	for i := range all {
		if time.Since(began) > limit {
			break
		}
		m := all[(day*17+i*7)%len(all)]
		if slow(m) {
			continue
		}
		o, err := m.Plant(t.Context(), root(t), dir, time.Minute)
		switch {
		case err != nil:
			t.Error(err)
		case o.By == "" && o.Late: // a slow machine proves nothing
			t.Logf("%s: %v did not end in time", m.Name, o.Tried)
		case o.By == "":
			t.Errorf("%s (%s) was not caught by %s", m.Name, m.Rule, strings.Join(o.Tried, ", "))
		default:
			caught++
			t.Logf("%s (%s) was caught by %s: %s, in %v", m.Name, m.Rule, o.By, o.How, o.Took.Round(time.Millisecond))
		}
	}
	t.Logf("%d caught", caught)
}

// slow: tests of whole nodes take long to build and run, and those that do not end take all of their budget.
func slow(m Mutant) bool { return m.Hangs || m.Layers[0].Package == nodeTests.Package }
