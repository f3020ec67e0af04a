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

// tiny is a module with one function, whose tests are named after how they end.
var tiny = map[string]string{
	"go.mod": "module tiny\n\ngo 1.26\n",
	"tiny.go": `package tiny

func Add(x, y int) int { return x + y }

func Never(x int) int {
	if false {
		return x
	}
	return 0
}
`,
	"tiny_test.go": `package tiny

import (
	"os"
	"testing"
)

func TestSum(t *testing.T) {
	t.Run("deep", func(t *testing.T) {
		if Add(2, 3) != 5 {
			t.Fatal("wrong")
		}
	})
}

func TestBlind(t *testing.T) { Add(0, Never(0)) }

// Fails once in a folder, whatever the code is.
func TestFlaky(t *testing.T) {
	Add(0, 0)
	if _, err := os.Stat("seen"); err != nil {
		_ = os.WriteFile("seen", nil, 0o600)
		t.Fatal("this time")
	}
}

// Fails always.
func TestBroken(t *testing.T) { t.Fatal(Add(0, 0)) }

func TestStands(t *testing.T) {
	if Add(0, 1) != 1 {
		select {}
	}
}
`,
}

// A catch needs a test that fails with the mistake, fails again, and passes without it. What fails anyway, or once, has caught nothing; what does not end has only if it is known to.
// A mistake that the compiler removes, that does not compile or does not fit is an error.
func TestBench(t *testing.T) {
	if testing.Short() {
		return // builds some ten small programs
	}
	root := t.TempDir()
	for name, text := range tiny {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &Bench{Root: root, Dir: t.TempDir(), Time: 10 * time.Second}
	layer := func(run string) Layer { return Layer{Name: run, Package: ".", Run: run} }
	wrong := Mutant{Name: "wrong", File: "tiny.go", Find: "x + y", Replace: "x - y"}
	with := func(m Mutant, run ...string) Mutant {
		for _, r := range run {
			m.Layers = append(m.Layers, layer(r))
		}
		return m
	}
	for _, c := range []struct {
		what string
		m    Mutant
		by   string
		how  string // or a part of why not
	}{
		{"found", with(wrong, "TestSum"), "TestSum", "TestSum/deep"},
		{"found by the second layer", with(wrong, "TestBlind", "TestSum"), "TestSum", "TestSum/deep"},
		{"overlooked", with(wrong, "TestBlind"), "", passed},
		{"fails without it too", with(wrong, "TestBroken"), "", "also without the mistake"},
		{"failed by chance", with(wrong, "TestFlaky"), "", "passed once"},
	} {
		o, err := b.Plant(t.Context(), c.m)
		if err != nil || o.By != c.by || c.by != "" && o.How != c.how || c.by == "" && !strings.Contains(strings.Join(o.Tried, " "), c.how) {
			t.Errorf("%s: by %q: %q, not %q, %v", c.what, o.By, o.How, o.Tried, err)
		}
	}
	b.Time = 2 * time.Second
	stands := with(Mutant{Name: "stands", File: "tiny.go", Find: "x + y", Replace: "x * y"}, "TestStands")
	if o, err := b.Plant(t.Context(), stands); err != nil || o.By != "" || !o.Late {
		t.Errorf("does not end: %+v, %v", o, err)
	}
	stands.Hangs = true
	if o, err := b.Plant(t.Context(), stands); err != nil || o.By == "" || o.How != "TestStands does not end" {
		t.Errorf("is known not to end: %+v, %v", o, err)
	}
	for what, m := range map[string]Mutant{
		"removes":       {Name: "gone", File: "tiny.go", Find: "		return x\n", Replace: "		return x + 1\n"},
		"compile":       {Name: "junk", File: "tiny.go", Find: "x + y", Replace: "x + z"},
		"must be once":  {Name: "many", File: "tiny.go", Find: "return", Replace: "panic(1)"},
		"is 0 times in": {Name: "none", File: "tiny.go", Find: "nowhere", Replace: ""},
	} {
		if _, err := b.Plant(t.Context(), with(m, "TestSum")); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The table keeps the lines of what was not planted this time, and counts every mistake on the list.
func TestScore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("head\n"+beginMark+"\n"+endMark+"\ntail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := List()
	for i, o := range []Outcome{{Mutant: all[0], By: "x", How: "TestX"}, {Mutant: all[1], Tried: []string{"x: its tests pass"}}, {Mutant: all[1], By: "y", How: "TestY|z"}} {
		s, err := ReadScore(path)
		if err != nil {
			t.Fatal(err)
		}
		s.Set(o)
		if err := s.Write(path); err != nil {
			t.Fatal(err)
		}
		caught, planted, _, _ := s.Count()
		if want := []int{1, 1, 2}[i]; caught != want || planted != len(all) || s.Caught(all[1].Name) != (i == 2) {
			t.Errorf("after %d: %d of %d caught", i+1, caught, planted)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(b); !strings.HasPrefix(text, "head\n") || !strings.HasSuffix(text, "\ntail\n") || strings.Count(text, "\n| ") != len(all)+1 {
		t.Error(text)
	}
}
