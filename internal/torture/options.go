package torture

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Options of a run.
type Options struct {
	Repld string // path of the repld binary; required
	// Failpoints is a repld that was built with the tag failpoints; default: Repld, if it has them. Without one the scenario failpoints is skipped.
	Failpoints string
	Dir        string        // folder to work in; what is in it is left alone, each run makes a folder of its own there; required
	Budget     time.Duration // for all scenarios together, default 2m
	// MinKills and MinCuts make the scenarios with kills or power cuts go on, up to three times their share, until together they reach so many.
	MinKills, MinCuts int
	Scenarios         []string // names; default: all
	Seed              uint64   // default: from the clock. Says what is done when; processes still run as they like
	// Pace is how long each client waits after a command, default 1ms: some ten clients in a tight loop leave a small machine no time for the faults.
	Pace   time.Duration
	Keep   bool         // leave folders of scenarios that passed, too
	Logger *slog.Logger // progress; default: none
}

// EnsureDefaults fills what is unset.
func (o *Options) EnsureDefaults() {
	if o.Budget == 0 {
		o.Budget = 2 * time.Minute
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	if o.Pace == 0 {
		o.Pace = time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot work.
func (o *Options) Validate() error {
	switch {
	case o.Repld == "":
		return errors.New("torture: no repld binary given")
	case o.Dir == "":
		return errors.New("torture: no folder given")
	case o.Budget < 0:
		return fmt.Errorf("torture: budget %v is negative", o.Budget)
	}
	for _, name := range o.Scenarios {
		if _, ok := find(name); !ok {
			return fmt.Errorf("torture: no scenario %q; there are %v", name, Names())
		}
	}
	for _, bin := range []string{o.Repld, o.Failpoints} {
		if bin == "" {
			continue
		}
		if _, err := os.Stat(bin); err != nil {
			return fmt.Errorf("torture: repld binary: %w", err)
		}
	}
	return nil
}

// absolute makes paths independent of the working directory.
func (o *Options) absolute() (err error) {
	for _, p := range []*string{&o.Repld, &o.Failpoints, &o.Dir} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}
