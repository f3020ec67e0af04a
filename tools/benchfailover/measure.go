package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// failures are the kinds, in the order in which they are measured.
var failures = []string{"kill9", "host", "pause", "switchover"}

// system is one contender.
type system struct {
	name   string // for flags and folders
	title  string
	ours   bool
	modes  []string
	rounds int
	pause  time.Duration // between rounds
	make   func(o options, m *machines) (cluster, error)
}

// cluster is a system at work.
type cluster interface {
	dial(node int) (conn, error)
	process(node int) string // the name of a node's process
	active() (int, error)    // the node that takes writes
	healthy() error          // all nodes follow
	switchover() error
}

const (
	settleLimit  = 90 * time.Second
	resumeLimit  = 60 * time.Second
	quietBefore  = 200 * time.Millisecond // of undisturbed writes in each round
	measureAfter = 300 * time.Millisecond
)

// measure runs all rounds of a system. With an error it returns what was measured before, if that is something.
func measure(ctx context.Context, o options, s system) (r *report, err error) {
	dir := filepath.Join(o.dir, s.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m, err := newMachines(dir)
	if err != nil {
		return nil, err
	}
	defer m.close()
	c, err := s.make(o, m)
	if err != nil {
		return nil, err
	}
	if err := until(settleLimit, c.healthy); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	home := []int{0, 1, 2}
	if some, ok := c.(interface{ data() []int }); ok {
		home = some.data()
	}
	w := startWriters(c.dial, home)
	defer w.end()
	r = newReport(s.title, s.ours)
	defer func() { _, r.Acked, _, _ = w.measured() }()
	for _, mode := range s.modes {
		if !slices.Contains(names(o.modes), mode) {
			continue
		}
		if mode == "host" && !m.namespaces() {
			r.note("host: not measured, that needs network namespaces (root)")
			continue
		}
		for round := range min(o.rounds, s.rounds) {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			began := time.Now()
			gap, errors, lost, err := runRound(m, c, w, mode)
			if err != nil {
				return r, fmt.Errorf("%s, round %d: %w (see %s)", mode, round+1, err, dir)
			}
			r.add(mode, errors, gap)
			r.Lost += lost
			if o.debug {
				fmt.Fprintf(os.Stderr, "%s %s %d: %s, %d errors, %d lost; until now %v\n", s.name, mode, round+1, gap.Round(time.Millisecond), errors, lost, w.seen())
			}
			if o.slow > 0 && gap > o.slow {
				fmt.Fprintf(os.Stderr, "%s %s %d took %s: %s\n%s", s.name, mode, round+1, gap.Round(time.Millisecond), w.when(), m.logged(began))
			}
			time.Sleep(s.pause)
		}
	}
	return r, nil
}

// runRound brings one failure about and takes the longest time between two acked writes around it.
func runRound(m *machines, c cluster, w *writers, mode string) (gap time.Duration, errors, lost int, err error) {
	if err := until(settleLimit, c.healthy); err != nil {
		return 0, 0, 0, fmt.Errorf("before: %w", err)
	}
	active, err := nowActive(c)
	if err != nil {
		return 0, 0, 0, err
	}
	w.begin()
	time.Sleep(quietBefore)
	back, err := inject(m, c, mode, active)
	if err != nil {
		return 0, 0, 0, err
	}
	// Writes are back when one is acked after another node was seen to have taken over.
	var taken time.Time
	err = until(resumeLimit, func() error {
		now, err := c.active()
		if err != nil || now == active {
			return fmt.Errorf("nobody took over from node %d: %w", active, err)
		}
		if taken.IsZero() {
			taken = time.Now()
		}
		if _, _, _, last := w.measured(); last.Before(taken) {
			return fmt.Errorf("no write is acked")
		}
		return nil
	})
	if err != nil {
		return 0, 0, 0, err
	}
	time.Sleep(measureAfter)
	gap, _, errors, _ = w.measured()
	next, err := nowActive(c)
	if err != nil {
		return 0, 0, 0, err
	}
	if lost, err = w.check(next); err != nil {
		return 0, 0, 0, err
	}
	return gap, errors, lost, back()
}

// nowActive is the node that takes writes, as soon as one says so.
func nowActive(c cluster) (node int, err error) {
	err = until(settleLimit, func() (err error) {
		node, err = c.active()
		return err
	})
	return node, err
}

// inject brings a failure about and returns what ends it.
func inject(m *machines, c cluster, mode string, active int) (back func() error, err error) {
	name := c.process(active)
	switch mode {
	case "kill9":
		return func() error { return m.start(name, active) }, m.signal(name, syscall.SIGKILL)
	case "pause":
		return func() error { return m.signal(name, syscall.SIGCONT) }, m.signal(name, syscall.SIGSTOP)
	case "host":
		return func() error { return m.heal(active) }, m.cut(active)
	}
	return func() error { return nil }, c.switchover()
}
