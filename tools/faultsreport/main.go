// Command faultsreport writes docs/faults.md: each row of the fault catalogue, how it is injected, which test asserts it, and the result of
// running just these tests. `make faults-report` runs it.
//
// Its source is the tests themselves. The doc comment of a test (or fuzz target) names the rows that it asserts, and how each is brought about:
//
//	// TestSalvage ... what it shows.
//	// Faults: D8, D12 (a bit flipped in a closed log); D19 (a segment removed)
//
// With -packages it runs in pieces: what is not run keeps its result. A row that no test names is printed as NOT COVERED. A test that was skipped covers nothing, and the report says why it was.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	root := flag.String("root", ".", "the module's folder")
	out := flag.String("o", "docs/faults.md", "file whose report is replaced; what stands outside of its marks is kept")
	list := flag.Bool("list", false, "only print which tests assert which row; run nothing")
	short := flag.Bool("short", false, "run the tests with -short")
	packages := flag.String("packages", "", "run only the tests of folders that match this; the others keep the results that the report has")
	timeout := flag.Duration("timeout", 10*time.Minute, "bound for the tests of one package")
	flag.Parse()
	if err := run(*root, *out, *packages, *list, *short, *timeout); err != nil {
		fmt.Fprintf(os.Stderr, "faultsreport: %v\n", err)
		os.Exit(1)
	}
}

// run makes the report. Failed tests and rows without a test are an error too, after the report is written.
func run(root, out, packages string, list, short bool, timeout time.Duration) error {
	only, err := regexp.Compile(packages)
	if err != nil {
		return err
	}
	claims, err := scan(root)
	if err != nil {
		return err
	}
	if list {
		os.Stdout.WriteString(listing(claims))
		return nil
	}
	results := make(map[testID]result)
	if packages != "" {
		if results, err = former(filepath.Join(root, out)); err != nil {
			return err
		}
	}
	for _, p := range packagesOf(claims) {
		if !only.MatchString(p.dir) {
			continue
		}
		fmt.Fprintf(os.Stderr, "faultsreport: %s: %d tests\n", p.dir, len(p.tests))
		if err := runTests(root, p, short, timeout, results); err != nil {
			return err
		}
	}
	rep := report{claims: claims, results: results, short: short}
	if err := splice(filepath.Join(root, out), rep.markdown()); err != nil {
		return err
	}
	fmt.Println(rep.summary())
	if n := rep.failed(); n > 0 {
		return fmt.Errorf("%d tests failed: see %s", n, out)
	}
	return nil
}
