package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// overload is what became of a system to which twice its capacity was offered, between two times of half of it.
type overload struct {
	System   string           `json:"system"`
	Conns    int              `json:"connections"`
	Capacity float64          `json:"capacity_per_second"` // in a closed loop with a pipeline of 16
	Patience time.Duration    `json:"patience_ns"`
	Phases   []overloadPhase  `json:"phases"`
	Refused  map[string]int   `json:"refused"`
	Lost     int              `json:"lost"` // keys whose last accepted write is not there
	Checked  int              `json:"checked"`
	Recovery time.Duration    `json:"recovery_ns"` // from the fall of the load until the p99 of each tenth of a second is as before, -1: not within the phase
	Memory   map[string][]int `json:"memory_mib"`  // of each process, every tenth of a second
}

type overloadPhase struct {
	Name     string        `json:"name"`
	Offered  float64       `json:"offered_per_second"`
	Accepted float64       `json:"accepted_per_second"`
	GivenUp  float64       `json:"given_up_per_second"` // its clients could not hand it to the socket in time
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	PeakMiB  int           `json:"peak_mib"`
}

// patienceDefault is after what time the client of an overloaded server turns away.
const patienceDefault = 250 * time.Millisecond

// pipelineMost is how many requests a client has under way at most, as client libraries limit them.
const pipelineMost = 256

const memoryTick = 100 * time.Millisecond

func overloadRun(ctx context.Context, o options) (*overload, error) {
	all, left, err := systems(o)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(s system) bool { return s.pipelines })
	if i < 0 {
		return nil, fmt.Errorf("-overload speaks the Redis protocol only: %s", strings.Join(left, "; "))
	}
	s := all[i]
	run, stop, err := started(ctx, o, s)
	if err != nil {
		return nil, err
	}
	defer stop()
	conns := o.clients[len(o.clients)-1]
	most, err := load(ctx, run, row{requestSet, conns, 16, o.value}, o)
	if err != nil {
		return nil, errors.Join(err, run.dead())
	}
	length := time.Duration(o.seconds * float64(time.Second))
	c := most.PerSecond
	l := openLoad{conns: conns, phases: []phase{{c / 2, length}, {2 * c, length}, {c / 2, length}}, under: pipelineMost, patience: patienceDefault, keys: max(1, o.keys/conns), value: o.value}
	fmt.Fprintf(os.Stderr, "%s: capacity %.0f/s; offering half of it, twice, half\n", s.name, c)
	watch := watchMemory(run)
	flows, err := l.run(ctx, run)
	v := &overload{System: s.name, Conns: conns, Capacity: c, Patience: l.patience, Memory: watch(), Refused: map[string]int{}}
	if err != nil {
		return nil, errors.Join(err, run.dead())
	}
	v.judge(l, flows)
	v.Lost, err = readBack(run.socket, l, flows)
	return v, err
}

// watchMemory notes the resident memory of every process until the function that it returns is called.
func watchMemory(r *running) func() map[string][]int {
	out := map[string][]int{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(memoryTick)
		defer tick.Stop()
		for {
			for _, p := range r.all {
				out[p.name] = append(out[p.name], int(p.rss()>>20))
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() map[string][]int { close(done); wg.Wait(); return out }
}

func (v *overload) judge(l openLoad, flows []flow) {
	from := time.Duration(0)
	for i, p := range l.phases {
		x := overloadPhase{Name: []string{"before", "overload", "after"}[i], Offered: p.rate}
		given := 0
		for _, f := range flows {
			given += f.unsent[i][1]
			if i == 0 {
				for code, n := range f.refused {
					v.Refused[code] += n
				}
				for _, k := range f.keys {
					if k.accepted > 0 {
						v.Checked++
					}
				}
			}
		}
		got := between(flows, from, from+p.length)
		x.Accepted, x.GivenUp = float64(len(got))/p.length.Seconds(), float64(given)/p.length.Seconds()
		if len(got) > 0 {
			s := microseconds(got)
			x.P50, x.P99 = s.P50, s.P99
		}
		for _, series := range v.Memory {
			for t := int(from / memoryTick); t < min(len(series), int((from+p.length)/memoryTick)); t++ {
				x.PeakMiB = max(x.PeakMiB, series[t])
			}
		}
		v.Phases = append(v.Phases, x)
		from += p.length
	}
	v.Recovery = recovery(flows, from-l.phases[2].length, from, v.Phases[0].P99)
}

// recovery is how long after the load fell the last tenth of a second began whose p99 was over twice the usual one.
func recovery(flows []flow, fell, end time.Duration, usual time.Duration) time.Duration {
	slow := fell
	for at := fell; at < end; at += memoryTick {
		if got := between(flows, at, min(end, at+memoryTick)); len(got) > 0 && microseconds(got).P99 > 2*usual {
			slow = at + memoryTick
		}
	}
	if slow >= end {
		return -1
	}
	return slow - fell
}

// readBack counts the keys that hold an older write than the newest that was accepted.
func readBack(socket string, l openLoad, flows []flow) (lost int, err error) {
	c, err := dialResp(socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	w := newWork(0, l.keys, l.value)
	var value, request []byte
	for i, f := range flows {
		for k, state := range f.keys {
			if state.accepted == 0 {
				continue
			}
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return lost, err
			}
			w.setKey(i*l.keys + k)
			request = appendRequest(request[:0], true, w)
			if _, err := c.Write(request); err != nil {
				return lost, err
			}
			if err := c.bulk(&value); errors.Is(err, errReply) {
				lost++
				continue
			} else if err != nil {
				return lost, err
			}
			n, err := strconv.ParseUint(string(value[:min(len(value), 10)]), 10, 32)
			if err != nil || uint32(n) < state.accepted || uint32(n) > state.sent {
				lost++
			}
		}
	}
	return lost, nil
}

func (v *overload) print(w io.Writer, markdown bool) {
	if v == nil {
		return
	}
	title(w, markdown, "overload: %s, %d connections, capacity %s SET/s; up to %d requests under way on each, one that could not be sent for %v is given up", v.System, v.Conns, figure(v.Capacity), pipelineMost, v.Patience)
	t := &table{head: []string{"phase", "offered/s", "accepted/s", "given up/s", "p50 ms", "p99 ms", "peak MiB of a process"}}
	for _, p := range v.Phases {
		t.add(p.Name, figure(p.Offered), figure(p.Accepted), figure(p.GivenUp), ms(float64(p.P50)), ms(float64(p.P99)), fmt.Sprint(p.PeakMiB))
	}
	t.print(w, markdown)
	var refused []string
	for _, code := range slices.Sorted(maps.Keys(v.Refused)) {
		refused = append(refused, fmt.Sprintf("%d × %s", v.Refused[code], code))
	}
	if refused == nil {
		refused = []string{"none"}
	}
	back := fmt.Sprintf("normal again %v after the load fell", v.Recovery)
	if v.Recovery < 0 {
		back = "NOT normal again"
	}
	fmt.Fprintf(w, "\n  refused: %s; %d keys read back, %d lost; %s (p99 of each %v at most twice that before)\n", strings.Join(refused, ", "), v.Checked, v.Lost, back, memoryTick)
}
