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
	How    string   // the test that failed
	Tried  []string // layers that did not catch it, with the reason where it is not plainly that their tests passed
	Late   bool     // one of them did not end in time: that says nothing
	Took   time.Duration
}

// Bench plants mistakes, one after the other. A catch counts only if the test that failed passes on the code as it is (the control), and fails again with the mistake.
type Bench struct {
	Root string        // the repository
	Dir  string        // for binaries; its owner removes it
	Time time.Duration // for the tests of one layer; building is not in it

	plain    map[string]string // package → test binary of the code as it is
	controls map[string]error  // package and test → how it ends there
}

// Changed returns the file with the mistake in it.
func (m Mutant) Changed(root string) ([]byte, error) {
	src, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(src, []byte(m.Find)); n != 1 {
		return nil, fmt.Errorf("the text to change is %d times in %s, must be once:\n%s", n, m.File, m.Find)
	}
	return bytes.Replace(src, []byte(m.Find), []byte(m.Replace), 1), nil
}

// overlay writes the changed file and the description for `go test -overlay`, and returns the latter's path.
func (b *Bench) overlay(m Mutant) (string, error) {
	src, err := m.Changed(b.Root)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(b.Dir, m.Name+".go")
	desc, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(b.Root, m.File): changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.Dir, m.Name+".json")
	return path, errors.Join(os.WriteFile(changed, src, 0o600), os.WriteFile(path, desc, 0o600))
}

// Plant lets the layers look for the mistake, one after the other, until one has caught it. The error says that the mistake does not fit the code.
func (b *Bench) Plant(ctx context.Context, m Mutant) (Outcome, error) {
	out, began := Outcome{Mutant: m}, time.Now()
	overlay, err := b.overlay(m)
	if err != nil {
		return out, fmt.Errorf("%s: %w", m.Name, err)
	}
	built := map[string]string{} // package → test binary with the mistake: once a package
	defer func() {
		for _, bin := range built {
			_ = os.Remove(bin) // the owner of Dir removes what is left
		}
	}()
	for _, l := range m.Layers {
		if built[l.Package] == "" {
			if built[l.Package], err = b.build(ctx, l, overlay); err != nil {
				return out, fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		how, not, err := b.look(ctx, m, l, built[l.Package])
		out.Took = time.Since(began)
		switch {
		case err != nil:
			return out, fmt.Errorf("%s: %w", m.Name, err)
		case not == "":
			out.By, out.How = l.Name, how
			return out, nil
		}
		out.Late = out.Late || not == late
		out.Tried = append(out.Tried, l.Name+": "+not)
	}
	return out, nil
}

// Why a layer has not caught a mistake.
const (
	passed = "its tests pass"
	late   = "its tests did not end in time"
)

// build compiles the package's tests with the mistake, and without it if that was not done yet. If both are the same program, the mistake is none.
func (b *Bench) build(ctx context.Context, l Layer, overlay string) (string, error) {
	if b.plain[l.Package] == "" {
		bin, err := b.compile(ctx, l, filepath.Join(b.Dir, "plain."+l.Name+".test"))
		if err != nil {
			return "", err
		}
		if b.plain == nil {
			b.plain, b.controls = map[string]string{}, map[string]error{}
		}
		b.plain[l.Package] = bin
	}
	bin, err := b.compile(ctx, l, strings.TrimSuffix(overlay, ".json")+"."+l.Name+".test", "-overlay", overlay)
	if err != nil {
		return "", err
	}
	same, err := equal(bin, b.plain[l.Package])
	if err != nil {
		return "", err
	}
	if same {
		return "", fmt.Errorf("the compiler removes the mistake: the tests of %s are the same program with it", l.Package)
	}
	return bin, nil
}

func (b *Bench) compile(ctx context.Context, l Layer, bin string, args ...string) (string, error) {
	// Without build id and debug information, the same code is the same file.
	args = append([]string{"test", "-c", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", bin}, args...)
	build := exec.CommandContext(ctx, "go", append(args, l.Package)...)
	build.Dir = b.Root
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("does not compile: %w\n%s", err, text)
	}
	return bin, nil
}

func equal(x, y string) (bool, error) {
	a, err := os.ReadFile(x)
	if err != nil {
		return false, err
	}
	b, err := os.ReadFile(y)
	return bytes.Equal(a, b), err
}

// look runs the layer's tests with the mistake. It returns the test that caught it, or why none did.
func (b *Bench) look(ctx context.Context, m Mutant, l Layer, bin string) (how, not string, err error) {
	limit := b.Time
	if m.Hangs {
		limit = min(limit, hangs)
	}
	r, err := b.run(ctx, l, bin, l.Run, limit)
	switch {
	case err != nil:
		return "", "", err
	case r.passed:
		return "", passed, nil
	case r.ended && r.test == "":
		r.test = "(" + r.said + ")"
	case !r.ended && !m.Hangs:
		return "", late, nil
	}
	only := l.Run
	if r.test != "" && r.test[0] != '(' {
		only = "^" + strings.Split(r.test, "/")[0] + "$"
	}
	if !r.ended {
		limit /= 2 // the code as it is has to end well before
	}
	if err := b.control(ctx, l, only, limit); err != nil {
		return "", fmt.Sprintf("%s failed, but also without the mistake: %v", r.test, err), ctx.Err()
	}
	if !r.ended {
		return r.test + " does not end", "", nil // it stands still: not by chance
	}
	again, err := b.run(ctx, l, bin, only, limit)
	switch {
	case err != nil:
		return "", "", err
	case again.passed:
		return "", fmt.Sprintf("%s failed once and passed once", r.test), nil
	case !again.ended && !m.Hangs:
		return "", late, nil
	}
	return r.test, "", nil
}

// hangs is how long a mistake that stops everything is waited for. Its control has half of that.
const hangs = 20 * time.Second

// control runs tests on the code as it is: they have to pass, or their failure means nothing.
func (b *Bench) control(ctx context.Context, l Layer, only string, limit time.Duration) error {
	key := l.Package + " " + only + " " + limit.String()
	if err, done := b.controls[key]; done {
		return err
	}
	r, err := b.run(ctx, l, b.plain[l.Package], only, limit)
	if err == nil && !r.passed {
		err = fmt.Errorf("control: %s %s", r.test, r.said)
	}
	if ctx.Err() == nil {
		b.controls[key] = err
	}
	return err
}

// result is how the tests of a binary ended.
type result struct {
	passed bool
	ended  bool   // in time
	test   string // that failed, or that was running when the time was over
	said   string // the line of a panic
}

// run runs tests of a binary. The error says that ctx ended.
func (b *Bench) run(ctx context.Context, l Layer, bin, only string, limit time.Duration) (result, error) {
	args := []string{"-test.short", "-test.failfast", "-test.timeout", limit.String(), "-test.run", only}
	runCtx, cancel := context.WithTimeout(ctx, limit+10*time.Second) // should the test binary's own limit not work
	defer cancel()
	run := exec.CommandContext(runCtx, bin, args...)
	run.Dir = filepath.Join(b.Root, l.Package)
	run.WaitDelay = 2 * time.Second
	text, err := run.CombinedOutput()
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	r := read(string(text))
	r.passed = err == nil
	r.ended = r.ended && runCtx.Err() == nil
	return r, nil
}

// read finds in the output of tests the first one that failed, the deepest of its subtests, or what was going on when the time was over.
func read(text string) result {
	r := result{ended: true}
	running := false
	for line := range strings.Lines(text) {
		t := strings.TrimSpace(line)
		name, failed := strings.CutPrefix(t, "--- FAIL: ")
		name, _, _ = strings.Cut(name, " ")
		switch {
		case failed && r.ended && (r.test == "" || strings.HasPrefix(name, r.test+"/")):
			r.test = name
		case strings.HasPrefix(t, "panic: test timed out"):
			r.ended, r.test = false, ""
		case t == "running tests:":
			running = true
		case running && r.test == "" && strings.HasPrefix(t, "Test"):
			r.test, _, _ = strings.Cut(t, " ")
		case r.said == "" && (strings.HasPrefix(t, "panic:") || strings.HasPrefix(t, "fatal error:")):
			r.said = t[:min(len(t), 100)]
		}
	}
	return r
}
