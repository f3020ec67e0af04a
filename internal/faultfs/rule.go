package faultfs

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
)

// Rule says which operations meet a fault. Conditions that are zero hold always.
type Rule struct {
	Ops    []Kind  // kinds of operations; default: all
	Path   string  // pattern of path.Match for the last elements of the path (or of the second name), as many as it has itself; default: any
	After  int     // so many matching operations pass first
	Times  int     // then so many meet the fault; 0 = all
	Chance float64 // of a matching operation to meet the fault, drawn from the seed of the FS; 0 = always
	Fault  Fault   // what happens; required
}

// matches reports whether kind and path fit.
func (r *Rule) matches(o Op) bool {
	return (len(r.Ops) == 0 || slices.Contains(r.Ops, o.Kind)) && (r.Path == "" || fits(r.Path, o.Path) || o.To != "" && fits(r.Path, o.To))
}

func fits(pattern, name string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(path.Clean(name), "/")
	if len(have) < len(want) {
		return false
	}
	ok, err := path.Match(pattern, strings.Join(have[len(have)-len(want):], "/"))
	return ok && err == nil
}

// Active is a rule at work.
type Active struct {
	rule Rule
	fs   *FS

	mu struct {
		sync.Mutex
		seen int // operations that matched
		hits int // that met the fault
		off  bool
	}
}

// Stop ends the rule. What waits in a Gate goes on waiting.
func (a *Active) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.off = true
}

// Hits returns how many operations met the fault.
func (a *Active) Hits() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.hits
}

// meets counts an operation and says whether it meets the fault.
func (a *Active) meets(o Op, rng *rand.Rand) bool {
	if !a.rule.matches(o) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.off || a.rule.Times > 0 && a.mu.hits >= a.rule.Times {
		return false
	}
	a.mu.seen++
	if a.mu.seen <= a.rule.After || a.rule.Chance > 0 && rng.Float64() >= a.rule.Chance {
		return false
	}
	a.mu.hits++
	return true
}
