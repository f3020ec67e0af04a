package torture

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// overtime bounds a scenario: so many times its share, for what its last round and the checks take on a slow machine (R12).
const overtime = 3

// grace is what a scenario gets at least beyond that for its checks.
const grace = 2 * time.Minute

// Run runs the scenarios one after another. The error says that the run itself did not work; what the scenarios found is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	o.EnsureDefaults()
	if err := o.absolute(); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	version, err := versionOf(ctx, o.Repld)
	if err != nil {
		return nil, err
	}
	if o.Failpoints == "" && strings.Contains(version, "+failpoints") {
		o.Failpoints = o.Repld
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("torture: %w", err)
	}
	base, err := os.MkdirTemp(o.Dir, "run-")
	if err != nil {
		return nil, fmt.Errorf("torture: %w", err)
	}
	r := &Report{Version: version, Seed: o.Seed}
	began := time.Now()
	todo, shares := chosen(o)
	for _, s := range todo {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		share := time.Duration(int64(o.Budget) * int64(s.share) / int64(max(1, shares)))
		r.Rows = append(r.Rows, one(ctx, o, s, base, share, r))
	}
	r.Took = time.Since(began)
	r.finish()
	_ = os.Remove(base) // stays while a scenario left something in it
	return r, nil
}

// chosen are the scenarios to run and the sum of the shares of those that can run here.
func chosen(o Options) (todo []scenario, shares int) {
	for _, s := range scenarios() {
		if len(o.Scenarios) > 0 && !contains(o.Scenarios, s.name) {
			continue
		}
		todo = append(todo, s)
		if s.needs == nil || s.needs(o) == "" {
			shares += s.share
		}
	}
	return todo, shares
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// one runs a scenario and cleans up after it, whatever happens in it.
func one(ctx context.Context, o Options, s scenario, base string, share time.Duration, sofar *Report) (row Row) {
	row = Row{Scenario: s.name, Faulted: s.rows}
	if s.needs != nil {
		if why := s.needs(o); why != "" {
			row.Result, row.Why = Skipped, why
			return row
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, overtime*share+grace)
	defer cancel()
	h := fnv.New64a()
	h.Write([]byte(s.name))
	p := &play{
		o: o, s: s, dir: filepath.Join(base, s.name), row: &row, start: began, deadline: began.Add(share), latest: began.Add(overtime * share),
		rnd: rand.New(rand.NewPCG(o.Seed, h.Sum64())), log: o.Logger.With("scenario", s.name), ctx: ctx,
		wantKills: share64(o.MinKills, s.kills, o, func(x scenario) bool { return x.kills }), wantCuts: share64(o.MinCuts, s.cuts, o, func(x scenario) bool { return x.cuts }),
	}
	err := os.MkdirAll(p.dir, 0o755)
	if err == nil {
		err = s.run(ctx, p)
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	err = errors.Join(err, p.close(err == nil))
	p.row.Took = time.Since(began)
	p.count()
	if err != nil {
		row.Result, row.Why = Failed, fmt.Sprintf("%v (logs and data: %s; again with -seed %d -scenarios %s)", err, p.dir, o.Seed, s.name)
		return row
	}
	row.Result = Passed
	if !o.Keep {
		_ = os.RemoveAll(p.dir) // only space is lost
	}
	return row
}

// share64 is what a scenario has to contribute to a minimum: as much as its share is of those that count.
func share64(least int, counts bool, o Options, which func(scenario) bool) int {
	if least == 0 || !counts {
		return 0
	}
	todo, _ := chosen(o)
	sum, mine := 0, 0
	for _, s := range todo {
		if !which(s) || s.needs != nil && s.needs(o) != "" {
			continue
		}
		sum++
		mine = 1
	}
	if mine == 0 {
		return 0
	}
	return (least + sum - 1) / sum
}

func versionOf(ctx context.Context, bin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, "version").Output()
	if err != nil {
		return "", fmt.Errorf("torture: %s version: %w", bin, err)
	}
	return strings.TrimSpace(string(out)), nil
}
