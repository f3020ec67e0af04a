package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// system is one contender.
type system struct {
	id, name  string
	gets      bool   // measured for GET too: one is enough of each kind of server
	pipelines bool   // its clients can send many requests at once
	needs     string // a program that has to be installed; "": none
	hint      string // how it comes there
	start     func(ctx context.Context, o options, dir string) (*running, error)
}

// running is a started system.
type running struct {
	all []*process

	// Of those that speak the Redis protocol: where, and whether a SET is followed by WAIT 1.
	socket string
	wait   bool
	// filled returns when all copies have what was written.
	filled func(ctx context.Context) error
	nodes  []*repldNode // of repld

	// Of others: how a client is made, and how all keys are written once.
	open func(ctx context.Context, x row, w *work) (caller, error)
	fill func(ctx context.Context, o options) error
	// closed is called before the processes are stopped.
	closed func()
}

func (r *running) stop() {
	if r.closed != nil {
		r.closed()
	}
	for _, p := range r.all {
		p.stop()
	}
}

func (r *running) dial(ctx context.Context, x row, w *work) (caller, error) {
	if r.open != nil {
		return r.open(ctx, x, w)
	}
	c, err := dialResp(r.socket)
	if err != nil {
		return nil, err
	}
	return &respCaller{respConn: c, get: x.get(), wait: r.wait && !x.get(), w: w}, nil
}

// Names of the systems, as in the tables.
const (
	nameRepld  = "repld"
	nameRepld1 = "repld + 1 standby"
	nameRepldW = "repld + 1 standby + witness"
	nameBound  = "bound + 1 standby"
	nameRedis  = "redis"
	nameRedis1 = "redis + WAIT 1"

	nameEtcd     = "etcd, 3 members"
	namePostgres = "PostgreSQL, sync standby"
	nameNats     = "NATS R3, sync always"

	hintPeers = "make bench-servers builds it into bin"

	startBound  = 30 * time.Second
	pollingTime = 20 * time.Millisecond
)

func allSystems() []system {
	return []system{
		{id: "repld", name: nameRepld, gets: true, pipelines: true, start: startRepld},
		{id: "redis", name: nameRedis, gets: true, pipelines: true, needs: "redis-server", hint: "Debian: redis-server", start: startRedis},
		{id: "repld1", name: nameRepld1, pipelines: true, start: startRepldPair},
		{id: "repldw", name: nameRepldW, pipelines: true, start: startRepldWitness},
		{id: "redis1", name: nameRedis1, pipelines: true, needs: "redis-server", hint: "Debian: redis-server", start: startRedisPair},
		{id: "etcd", name: nameEtcd, gets: true, needs: "etcd", hint: hintPeers, start: startEtcd},
		{id: "postgres", name: namePostgres, gets: true, needs: "postgres", hint: "Debian: postgresql-15, installed with RUNLEVEL=1 so that it starts no server of its own", start: startPostgres},
		{id: "nats", name: nameNats, needs: "nats-server", hint: hintPeers, start: startNats},
		{id: "bound", name: nameBound, gets: true, pipelines: true, start: startBoundPair},
	}
}

// systems are those that were asked for and can run here; why the others cannot is the second result.
func systems(o options) (out []system, left []string, err error) {
	all := allSystems()
	for _, id := range o.systems {
		i := slices.IndexFunc(all, func(s system) bool { return s.id == id })
		if i < 0 {
			return nil, nil, fmt.Errorf("-systems: no %q", id)
		}
		if s := all[i]; s.needs == "" || o.program(s.needs) != "" {
			out = append(out, s)
		} else {
			left = append(left, fmt.Sprintf("%s: %s is not installed (%s)", s.name, s.needs, s.hint))
		}
	}
	if len(out) == 0 {
		err = fmt.Errorf("nothing to measure: %s", strings.Join(left, "; "))
	}
	return out, left, err
}

// program is where a program is: below -bin, in the PATH, where Debian has those that it keeps out of the PATH; "" if nowhere.
func (o options) program(name string) string {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	for _, path := range append([]string{filepath.Join(o.bin, name), name}, candidates...) {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return ""
}

// measure starts the system on an empty folder, writes all keys, measures, and stops it.
func measure(ctx context.Context, o options, s system, r *results) error {
	rows := slices.DeleteFunc(slices.Clone(o.rows), func(x row) bool { return x.get() && !s.gets || x.Pipeline > 1 && !s.pipelines })
	if len(rows) == 0 {
		return nil
	}
	run, stop, err := started(ctx, o, s)
	if err != nil {
		return err
	}
	defer stop()
	for _, x := range rows {
		got, err := load(ctx, run, x, o)
		if err != nil {
			return errors.Join(fmt.Errorf("%v: %w", x, err), run.dead())
		}
		r.add(s.name, x, got)
		fmt.Fprintf(os.Stderr, "  %v: %.0f/s  p50 %v p99 %v\n", x, got.PerSecond, got.P50, got.P99)
	}
	return r.memoryOf(s.name, run)
}

// started is the system on an empty folder with all keys written, warm, and what stops it.
func started(ctx context.Context, o options, s system) (_ *running, stop func(), err error) {
	dir, err := o.folder()
	if err != nil {
		return nil, nil, err
	}
	run, err := s.start(ctx, o, dir)
	end := func() {
		if run != nil {
			run.stop()
		}
		_ = os.RemoveAll(dir) // what is left is removed with its parent, which says if that fails
	}
	defer func() {
		if err != nil {
			end()
		}
	}()
	if err != nil {
		return nil, nil, err
	}
	if err := fill(ctx, run, o); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("write all keys: %w", err), run.dead())
	}
	// Everybody has buffers to flush: that is not what is measured.
	warm := o
	warm.seconds = min(2, o.seconds)
	if _, err := load(ctx, run, row{requestSet, 16, 1, o.value}, warm); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("warm up: %w", err), run.dead())
	}
	return run, end, nil
}

// memoryOf notes the peaks of all processes of a system.
func (r *results) memoryOf(system string, run *running) error {
	for _, p := range run.all {
		n, err := p.peak()
		if err != nil {
			return errors.Join(err, p.alive())
		}
		r.memory(system, p.name, n)
	}
	return nil
}

func (r *running) dead() error {
	var errs []error
	for _, p := range r.all {
		errs = append(errs, p.alive())
	}
	return errors.Join(errs...)
}

// poll waits until ok, a child's death or the bound.
func poll(ctx context.Context, r *running, ok func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	tick := time.NewTicker(pollingTime)
	defer tick.Stop()
	for !ok(ctx) {
		if err := r.dead(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", startBound, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out, nil
}
