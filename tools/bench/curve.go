package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// offer is one system at one rate of arrivals.
type offer struct {
	System  string   `json:"system"`
	Rate    float64  `json:"offered_per_second"`
	Clients int      `json:"clients"`
	Samples []sample `json:"samples"` // per_second: accepted
}

// curves offer each rate to each system, in turns, on a system that was started once a round.
func (r *results) curves(ctx context.Context, o options) error {
	all, left, err := systems(o)
	if err != nil {
		return err
	}
	r.LeftOut = left
	all = slices.DeleteFunc(all, func(s system) bool {
		if !s.pipelines {
			r.LeftOut = append(r.LeftOut, s.name+": the open loop speaks the Redis protocol only")
		}
		return !s.pipelines
	})
	for round := range o.rounds {
		for _, s := range all {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, s.name)
			if err := r.curve(ctx, o, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func (r *results) curve(ctx context.Context, o options, s system) error {
	run, stop, err := started(ctx, o, s)
	if err != nil {
		return err
	}
	defer stop()
	conns := o.clients[len(o.clients)-1]
	for _, rate := range o.rates {
		length := time.Duration(o.seconds * float64(time.Second))
		l := openLoad{conns: conns, phases: []phase{{rate, length}}, under: 1 << 14, keys: max(1, o.keys/conns), value: o.value}
		before := usageOf(run, o.dir)
		flows, err := l.run(ctx, run)
		if err != nil {
			return errors.Join(err, run.dead())
		}
		got := between(flows, 0, length)
		for _, f := range flows {
			for code, n := range f.refused {
				return fmt.Errorf("%d of %.0f requests a second were refused with %s", n, rate, code)
			}
		}
		if len(got) == 0 {
			return errors.New("nothing was answered")
		}
		x := microseconds(got)
		all := took(flows, length)
		x.PerSecond = float64(len(got)) / all.Seconds()
		x.Cost = usageOf(run, o.dir).since(before, len(got), all)
		r.offered(s.name, rate, conns, x)
		fmt.Fprintf(os.Stderr, "  offered %.0f/s: %.0f/s  p50 %v p99 %v p99.9 %v\n", rate, x.PerSecond, x.P50, x.P99, x.P999)
	}
	return r.memoryOf(s.name, run)
}

// microseconds are latencies of the open loop, which may be long.
func microseconds(us []uint32) sample {
	s := latencies(us)
	s.P50, s.P99, s.P999 = s.P50*1000, s.P99*1000, s.P999*1000
	return s
}

func (r *results) offered(system string, rate float64, clients int, s sample) {
	for i := range r.Open {
		if o := &r.Open[i]; o.System == system && o.Rate == rate && o.Clients == clients {
			o.Samples = append(o.Samples, s)
			return
		}
	}
	r.Open = append(r.Open, offer{system, rate, clients, []sample{s}})
}

func (o offer) line() *line { return &line{System: o.System, Samples: o.Samples} }

func (r *results) printOpen(w io.Writer, markdown bool) {
	if len(r.Open) == 0 {
		return
	}
	title(w, markdown, "open loop: durable SET arriving at a rate, %d connections; latency from the moment a request was due", r.Open[0].Clients)
	t := &table{head: []string{"system", "offered/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "servers' CPU µs/op"}}
	for _, o := range r.Open {
		l := o.line()
		t.add(o.System, figure(o.Rate), figure(l.perSecond()), ms(l.median(func(s sample) float64 { return float64(s.P50) })), ms(l.median(func(s sample) float64 { return float64(s.P99) })),
			ms(l.median(func(s sample) float64 { return float64(s.P999) })), known(l.costs(func(c *cost) float64 { return c.PerOp })))
	}
	t.print(w, markdown)
}
