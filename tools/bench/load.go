package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// caller is one client in a closed loop.
type caller interface {
	// call sends n requests and returns when all are answered.
	call(ctx context.Context, n int) error
	// bound makes calls that last longer than until t fail: a server that hangs is an error, not a hanging benchmark.
	bound(t time.Time) error
	close()
}

// sample is one measurement.
type sample struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	P999      time.Duration `json:"p999_ns,omitempty"`
	Cost      *cost         `json:"cost,omitempty"`
}

// load runs the clients of a row in a closed loop for so long and returns what was answered in that time. With a pipeline, latency is that of the whole batch.
func load(ctx context.Context, run *running, x row, o options) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	each := make([][]uint32, x.Clients)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	var end time.Time
	for i := range x.Clients {
		c, err := run.dial(ctx, x, newWork(uint64(i), o.keys, x.Value))
		if err != nil {
			return sample{}, err
		}
		defer c.close()
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			var err error
			if each[i], err = loop(ctx, c, x.Pipeline, end); err != nil {
				cancel(err)
			}
		})
	}
	ready.Wait()
	before := usageOf(run, o.dir)
	start := time.Now()
	end = start.Add(time.Duration(o.seconds * float64(time.Second)))
	close(begin)
	done.Wait()
	took := time.Since(start)
	after := usageOf(run, o.dir)
	if err := context.Cause(ctx); err != nil {
		return sample{}, err
	}
	all := slices.Concat(each...)
	if len(all) == 0 {
		return sample{}, errors.New("nothing was answered")
	}
	out := latencies(all)
	operations := len(all) * x.Pipeline
	out.PerSecond = float64(operations) / took.Seconds()
	out.Cost = after.since(before, operations, took)
	return out, nil
}

// latencies sorts all and takes the usual percentiles.
func latencies(all []uint32) sample {
	slices.Sort(all)
	at := func(q float64) time.Duration { return time.Duration(all[int(q*float64(len(all)-1))]) }
	return sample{P50: at(0.50), P99: at(0.99), P999: at(0.999)}
}

// loop returns the latency of each call in nanoseconds, cut at 4 s.
func loop(ctx context.Context, c caller, n int, end time.Time) ([]uint32, error) {
	out := make([]uint32, 0, 1<<16)
	if err := c.bound(end.Add(20 * time.Second)); err != nil {
		return nil, err
	}
	for now := time.Now(); now.Before(end); {
		if err := c.call(ctx, n); err != nil {
			return nil, err
		}
		after := time.Now()
		out = append(out, uint32(min(after.Sub(now), 4*time.Second)))
		now = after
	}
	return out, nil
}

// fill writes every key once, in large pipelines.
func fill(ctx context.Context, run *running, o options) error {
	if run.fill != nil {
		return run.fill(ctx, o)
	}
	const workers = 4
	depth := max(1, min(256, 4<<20/max(1, o.value)))
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		c, err := dialResp(run.socket)
		if err != nil {
			return err
		}
		defer c.Close()
		wg.Go(func() { errs[w] = c.fill(ctx, w, workers, depth, o) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil || run.filled == nil {
		return err
	}
	return run.filled(ctx)
}

func (c *respConn) fill(ctx context.Context, first, step, depth int, o options) error {
	w := newWork(uint64(first)+1e6, o.keys, o.value)
	var batch []byte
	sent := 0
	flush := func() error {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := c.Write(batch); err != nil {
			return err
		}
		for ; sent > 0; sent-- {
			if err := c.simple("+OK"); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return ctx.Err()
	}
	for n := first; n < o.keys; n += step {
		w.setKey(n)
		w.setValue()
		batch = appendRequest(batch, false, w)
		if sent++; sent == depth {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
