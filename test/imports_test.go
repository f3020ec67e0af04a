package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// allowed holds the arrows of the house (DESIGN section 3): what each package may import of this module.
var allowed = map[string][]string{
	"wal":                      {"internal/strict", "internal/durable", "internal/failpoint"},
	"snapshot":                 {"internal/durable", "wal"},
	"replicate":                {"internal/strict", "internal/failpoint", "snapshot", "wal"},
	"failover":                 {"internal/strict", "internal/durable", "internal/failpoint", "wal"},
	"failover/raftstore":       {"internal/strict", "internal/durable", "failover", "wal"},
	"failover/etcdstore":       {"internal/strict", "failover"},
	"internal/durable":         {},
	"internal/failpoint":       {},
	"internal/procs":           {},
	"internal/strict":          {},
	"internal/kv":              {"internal/failpoint", "internal/procs", "wal"},
	"internal/resp":            {},
	"internal/server":          {"internal/failpoint", "internal/kv", "internal/resp", "wal"},
	"internal/server/difftest": {},
	"internal/sentinel":        {"internal/resp", "internal/server"},
	"internal/admin":           {"internal/strict", "internal/events", "wal"},
	"internal/config":          {},
	"internal/certs":           {},
	"internal/events":          {"internal/durable"},
	"internal/hooks":           {},
	"cmd/repld":                {"failover", "failover/etcdstore", "internal/admin", "internal/certs", "internal/config", "internal/events", "internal/failpoint", "internal/node", "internal/procs", "internal/resp", "internal/server", "wal"},
	"internal/heartbeat":       {"failover", "wal"},
	"internal/node":            {"internal/durable", "failover", "failover/raftstore", "internal/admin", "internal/archive", "internal/certs", "internal/events", "internal/failpoint", "internal/heartbeat", "internal/hooks", "internal/kv", "internal/resp", "internal/sentinel", "internal/server", "replicate", "snapshot", "wal"},
}

// TestImportDirection holds the import arrows: the packages below internal/node do not know each other except as listed, and only the
// commands and the tools may import internal/node or the configuration.
func TestImportDirection(t *testing.T) {
	eachFile(t, func(path, pkg string, imports []string) {
		ok, listed := allowed[pkg]
		if !listed || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, imp := range imports {
			inner, ours := strings.CutPrefix(imp, "repld/")
			if ours && inner != pkg && !contains(ok, inner) {
				t.Errorf("%s: package %s must not import %s", path, pkg, inner)
			}
		}
	})
}

// TestPureCore holds the seams: the machines that decide are free of clocks, files and sockets.
func TestPureCore(t *testing.T) {
	pure := map[string]bool{
		"failover/machine.go": true, "failover/rule.go": true, "failover/decide.go": true,
		"failover/detect.go": true, "failover/detect_events.go": true, "failover/lease.go": true,
		"replicate/progress.go": true, "replicate/commit.go": true, "wal/decide.go": true,
	}
	forbidden := []string{"os", "net", "time", "sync", "context", "github.com/cockroachdb/pebble/v2/vfs"}
	seen := 0
	eachFile(t, func(path, pkg string, imports []string) {
		if !pure[path] {
			return
		}
		seen++
		for _, imp := range imports {
			if contains(forbidden, imp) {
				t.Errorf("%s is part of the pure core and must not import %s", path, imp)
			}
		}
	})
	if seen < 4 {
		t.Errorf("found %d files of the pure core, want at least 4: were they renamed?", seen)
	}
}

// TestOnePackageComment holds one package comment a package, in doc.go (or the only file of a command).
func TestOnePackageComment(t *testing.T) {
	comments := map[string][]string{}
	packages := map[string]bool{}
	fset := token.NewFileSet()
	walk(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(fset, filepath.Join("..", path), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatalf("parse %s: %v", path, err)
		}
		dir := filepath.Dir(path)
		packages[dir] = true
		if f.Doc != nil {
			comments[dir] = append(comments[dir], path)
		}
	})
	for dir := range packages {
		if len(comments[dir]) != 1 {
			t.Errorf("package %s has %d package comments %v, want 1", dir, len(comments[dir]), comments[dir])
		}
	}
}

func eachFile(t *testing.T, fn func(path, pkg string, imports []string)) {
	t.Helper()
	fset := token.NewFileSet()
	walk(t, func(path string) {
		f, err := parser.ParseFile(fset, filepath.Join("..", path), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatalf("parse %s: %v", path, err)
		}
		var imports []string
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatalf("%s: import %s: %v", path, i.Path.Value, err)
			}
			imports = append(imports, p)
		}
		fn(path, filepath.ToSlash(filepath.Dir(path)), imports)
	})
}

func walk(t *testing.T, fn func(path string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		if rel, _ := filepath.Rel("..", path); strings.HasSuffix(rel, ".go") {
			fn(filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
