package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// testID names a test: the folder of its package below the module, and the function.
type testID struct {
	dir, name string
}

// claim is one row that a test says to assert.
type claim struct {
	row  string
	how  string // how the fault is brought about; may be empty
	test testID
}

// scan collects the claims of all test files below root.
func scan(root string) ([]claim, error) {
	var out []claim
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		claims, err := scanFile(f, filepath.ToSlash(rel))
		out = append(out, claims...)
		return err
	})
	return out, err
}

// scanFile reads the doc comments of one file's tests.
func scanFile(f *ast.File, dir string) ([]claim, error) {
	var out []claim
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Doc == nil {
			continue
		}
		name := fn.Name.Name
		for _, text := range annotations(fn.Doc.Text()) {
			if !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") {
				return nil, fmt.Errorf("%s: %s claims faults but is no test", dir, name)
			}
			claims, err := parse(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", dir, name, err)
			}
			for i := range claims {
				claims[i].test = testID{dir, name}
			}
			out = append(out, claims...)
		}
	}
	return out, nil
}

const marker = "Faults:"

// annotations returns what follows each marker, up to the next blank line or marker.
func annotations(doc string) []string {
	var out []string
	open := false
	for _, line := range strings.Split(doc, "\n") {
		line = strings.TrimSpace(line)
		rest, starts := strings.CutPrefix(line, marker)
		switch {
		case starts:
			out, open = append(out, strings.TrimSpace(rest)), true
		case line == "":
			open = false
		case open:
			out[len(out)-1] += " " + line
		}
	}
	return out
}

var group = regexp.MustCompile(`^\s*([A-Z][0-9]+(?:\s*,\s*[A-Z][0-9]+)*)\s*(?:\(((?:[^()]|\([^()]*\))*)\))?\s*\.?\s*(?:[;,]|$)`)

// parse reads "D8, D9 (how); D3 (how)".
func parse(text string) ([]claim, error) {
	var out []claim
	for rest := text; strings.TrimSpace(rest) != ""; {
		m := group.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("cannot read %q in %q: want rows, then how in brackets, groups parted by semicolons", rest, text)
		}
		rest = rest[len(m[0]):]
		for _, id := range strings.Split(m[1], ",") {
			id = strings.TrimSpace(id)
			if !slices.ContainsFunc(catalogue, func(r row) bool { return r.ID == id }) {
				return nil, fmt.Errorf("the catalogue has no row %s", id)
			}
			out = append(out, claim{row: id, how: strings.TrimSpace(m[2])})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no row after %q", marker)
	}
	return out, nil
}

// testPackage is a package and the tests of it that claim something.
type testPackage struct {
	dir   string
	tests []string
}

// packagesOf groups the tests by package, both in order.
func packagesOf(claims []claim) []testPackage {
	byDir := make(map[string][]string)
	for _, c := range claims {
		if !slices.Contains(byDir[c.test.dir], c.test.name) {
			byDir[c.test.dir] = append(byDir[c.test.dir], c.test.name)
		}
	}
	var out []testPackage
	for dir, tests := range byDir {
		slices.Sort(tests)
		out = append(out, testPackage{dir, tests})
	}
	slices.SortFunc(out, func(a, b testPackage) int { return strings.Compare(a.dir, b.dir) })
	return out
}
