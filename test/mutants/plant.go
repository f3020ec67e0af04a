package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Outcome is how one mistake fared.
type Outcome struct {
	Mutant Mutant
	By     string   // name of the layer that caught it, "" if none did
	How    string   // the first test that failed, or that the budget was over
	Tried  []string // layers that did not
	Late   bool     // one of them did not end within the budget: it says nothing
	Took   time.Duration
}

// Changed returns the file with the mistake in it.
func (m Mutant) Changed(root string) ([]byte, error) {
	src, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(src, []byte(m.Find)); n != 1 {
		return nil, fmt.Errorf("%s: the text to change is %d times in %s, must be once:\n%s", m.Name, n, m.File, m.Find)
	}
	return bytes.Replace(src, []byte(m.Find), []byte(m.Replace), 1), nil
}

// Overlay writes the changed file and the description for `go test -overlay` to dir and returns the latter's path.
func (m Mutant) Overlay(root, dir string) (string, error) {
	src, err := m.Changed(root)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(dir, m.Name+".go")
	desc, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, m.File): changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, m.Name+".json")
	return path, errors.Join(os.WriteFile(changed, src, 0o600), os.WriteFile(path, desc, 0o600))
}

// Plant lets the layers look for the mistake, one after the other, each for at most budget, building included.
func (m Mutant) Plant(ctx context.Context, root, dir string, budget time.Duration) (Outcome, error) {
	out, began := Outcome{Mutant: m}, time.Now()
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return out, err
	}
	for _, l := range m.Layers {
		l.hangs = m.Hangs
		caught, late, how, err := l.look(ctx, root, overlay, budget)
		if err != nil {
			return out, fmt.Errorf("%s: %w", m.Name, err)
		}
		out.Took = time.Since(began)
		if caught {
			out.By, out.How = l.Name, how
			return out, nil
		}
		out.Late = out.Late || late
		out.Tried = append(out.Tried, l.Name)
	}
	return out, nil
}

// look runs the layer's tests with the overlay. What does not compile is an error; what fails has caught the mistake. What does not end has only if the mistake is
// known to stop everything: a slow machine does not end in time either.
func (l Layer) look(ctx context.Context, root, overlay string, budget time.Duration) (caught, late bool, how string, err error) {
	bin := strings.TrimSuffix(overlay, ".json") + "." + l.Name + ".test"
	build := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-o", bin, l.Package)
	build.Dir = root
	if b, err := build.CombinedOutput(); err != nil {
		return false, false, "", fmt.Errorf("does not compile: %w\n%s", err, b)
	}
	defer os.Remove(bin)
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	args := []string{"-test.short", "-test.failfast", "-test.timeout", budget.String()}
	if l.Run != "" {
		args = append(args, "-test.run", l.Run)
	}
	run := exec.CommandContext(ctx, bin, args...)
	run.Dir = filepath.Join(root, l.Package)
	run.WaitDelay = 2 * time.Second
	b, err := run.CombinedOutput()
	if err == nil {
		return false, false, "", nil
	}
	if ctx.Err() != nil || strings.Contains(string(b), "panic: test timed out") {
		return l.hangs, !l.hangs, "does not end", nil
	}
	return true, false, firstFailure(string(b)), nil
}

// firstFailure finds the name of the test that failed, or why the process ended.
func firstFailure(text string) string {
	deepest := ""
	for line := range strings.Lines(text) {
		t := strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(t, "--- FAIL: "); ok {
			name, _, _ = strings.Cut(name, " ")
			if deepest == "" || strings.HasPrefix(name, deepest+"/") {
				deepest = name
			}
		}
		if deepest == "" && (strings.HasPrefix(t, "panic:") || strings.HasPrefix(t, "fatal error:")) {
			return t[:min(len(t), 100)]
		}
	}
	if deepest == "" {
		return "failed"
	}
	return deepest
}
