package coresim

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSeed replays one seed with its trace.
func TestSeed(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("REPLD_SEED"), 10, 64)
	if err != nil {
		t.Skip("REPLD_SEED is not set")
	}
	lines := 200
	if n, err := strconv.Atoi(os.Getenv("REPLD_LINES")); err == nil {
		lines = n
	}
	r := Run(Draw(seed), lines)
	t.Log(r.Config, r.Stats)
	if os.Getenv("REPLD_LINES") != "" && r.Err == nil {
		t.Log(strings.Join(r.Trace, "\n"))
	}
	if r.Err != nil {
		t.Fatal(Shrink(r, 400, lines).Report())
	}
}

func TestSeeds(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("REPLD_SEEDS"))
	if err != nil {
		n = 300
	}
	var all Stats
	began := time.Now()
	bad := 0
	for seed := range uint64(n) {
		r := Run(Draw(seed), 0)
		all.add(r.Stats)
		if r.Err != nil {
			t.Errorf("%v: %v", r.Config, r.Err)
			if bad++; bad > 15 {
				break
			}
		}
	}
	d := time.Since(began)
	t.Logf("%.0f seeds/s, %.0fx, %d steps %+v", float64(n)/d.Seconds(), float64(all.Time)/float64(sc)/d.Seconds(), all.Steps, all)
}
