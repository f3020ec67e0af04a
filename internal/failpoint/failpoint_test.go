package failpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	points, err := parse("wal.before-sync=kill:17; node.before-apply=sleep:200ms:3;wal.cut=stop;kv.manifest=panic")
	if err != nil {
		t.Fatal(err)
	}
	if p := points[WALBeforeSync]; p == nil || p.action != "kill" || p.at != 17 {
		t.Errorf("kill: %+v", p)
	}
	if p := points[BeforeApply]; p == nil || p.action != "sleep" || p.wait != 200*time.Millisecond || p.at != 3 {
		t.Errorf("sleep: %+v", p)
	}
	if p := points[RecoverCut]; p == nil || p.action != "stop" || p.at != 1 {
		t.Errorf("stop: %+v", p)
	}
	if len(points) != 4 {
		t.Errorf("%d points, want 4", len(points))
	}
	for _, bad := range []string{"wal.before-sync", "no.such=kill", "wal.cut=explode", "wal.cut=kill:0", "wal.cut=kill:x", "wal.cut=sleep", "wal.cut=sleep:fast", "wal.cut=kill:1:2"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestNames holds that every name of Names stands at exactly one place in the code, and that no call of Hit uses another one.
func TestNames(t *testing.T) {
	var called []string
	fset := token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			if x, isName := call.Fun.(*ast.SelectorExpr); ok && isName && x.Sel.Name == "Hit" {
				if pkg, ok := fn.X.(*ast.Ident); ok && pkg.Name == "failpoint" {
					called = append(called, call.Args[0].(*ast.SelectorExpr).Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	declared := constants(t, fset)
	if len(declared) != len(Names()) {
		t.Errorf("%d constants, %d names", len(declared), len(Names()))
	}
	slices.Sort(called)
	slices.Sort(declared)
	if !slices.Equal(called, declared) {
		t.Errorf("places in the code: %v\nnames: %v", called, declared)
	}
}

func constants(t *testing.T, fset *token.FileSet) (names []string) {
	f, err := parser.ParseFile(fset, "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			for _, s := range g.Specs {
				names = append(names, s.(*ast.ValueSpec).Names[0].Name)
			}
		}
	}
	return names
}
