package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// result is how a test ended.
type result struct {
	outcome string // "pass", "fail", "skip"; "" if the test was not run at all (build tag, or the package does not build)
	why     string // of a skipped test: what it said
	took    time.Duration
}

// event is a line of `go test -json`.
type event struct {
	Action, Test, Output string
	Elapsed              float64
}

// runTests runs the package's tests by name and notes how each ended. That a test fails is no error.
func runTests(root string, p testPackage, short bool, timeout time.Duration, into map[testID]result) error {
	args := []string{"test", "-json", "-count=1", "-timeout", timeout.String(), "-run", "^(" + strings.Join(p.tests, "|") + ")$"}
	if short {
		args = append(args, "-short")
	}
	cmd := exec.Command("go", append(args, "./"+p.dir)...)
	cmd.Dir = root
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go test %s: %w", p.dir, err)
	}
	readErr := readEvents(out, p.dir, into)
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("go test %s: %w", p.dir, err)
	}
	return readErr
}

// readEvents takes the results of the tests themselves; those of subtests are in them.
func readEvents(r io.Reader, dir string, into map[testID]result) error {
	said := make(map[string]string)
	dec := json.NewDecoder(r)
	for {
		var e event
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the results of %s: %w", dir, err)
		}
		if e.Test == "" || strings.Contains(e.Test, "/") {
			continue
		}
		switch e.Action {
		case "output":
			if line := strings.TrimSpace(e.Output); line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
				said[e.Test] = line
			}
		case "pass", "fail", "skip":
			res := result{outcome: e.Action, took: time.Duration(e.Elapsed * float64(time.Second))}
			if e.Action == "skip" {
				res.why = afterPlace(said[e.Test])
			}
			into[testID{dir, e.Test}] = res
		}
	}
}

// afterPlace drops "file_test.go:12: " in front of what a test said.
func afterPlace(line string) string {
	if i := strings.Index(line, "_test.go:"); i >= 0 {
		if _, rest, ok := strings.Cut(line[i+len("_test.go:"):], ": "); ok {
			return rest
		}
	}
	return line
}
