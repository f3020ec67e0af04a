package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"repld/internal/admin"
	"repld/internal/config"
)

// verifyRun measures what a comparison of all copies costs the clients: an active and a synchronous standby with all keys; in each round the same load without and with verify going on, in
// turns, and the ratio of the medians. A comparison that ends before the load does is begun again.
func verifyRun(ctx context.Context, o options) error {
	dir, err := o.folder()
	if err != nil {
		return err
	}
	size, err := config.ParseSize(o.verifyRate)
	if err != nil {
		return fmt.Errorf("-verify-rate: %w", err)
	}
	run, err := startRepldPair(ctx, o, dir)
	if run != nil {
		defer run.stop()
	}
	if err != nil {
		return err
	}
	if err := fill(ctx, run, o); err != nil {
		return errors.Join(fmt.Errorf("write all keys: %w", err), run.dead())
	}
	c := admin.NewClient(filepath.Join(dir, "a.adm"))
	defer c.Close()
	x := row{requestSet, o.clients[len(o.clients)-1], 1, o.value}
	if _, err := load(ctx, run, x, o); err != nil {
		return errors.Join(fmt.Errorf("warm up: %w", err), run.dead())
	}
	var off, on []float64
	for round := range o.rounds {
		var plain, verified sample
		var done int64
		for turn := range 2 {
			var err error
			if (round+turn)%2 == 0 { // the order changes: a state that grows slows whatever comes second
				plain, err = load(ctx, run, x, o)
			} else {
				verified, done, err = verifiedLoad(ctx, c, int64(size), run, x, o)
			}
			if err != nil {
				return errors.Join(err, run.dead())
			}
		}
		off, on = append(off, plain.PerSecond), append(on, verified.PerSecond)
		fmt.Printf("round %d: %.0f SET/s without (p99 %v), %.0f with verify (p99 %v), ratio %.3f; %d comparisons ended\n", round+1, plain.PerSecond, plain.P99, verified.PerSecond, verified.P99, verified.PerSecond/plain.PerSecond, done)
	}
	slices.Sort(off)
	slices.Sort(on)
	a, b := off[len(off)/2], on[len(on)/2]
	fmt.Printf("%d keys of %d bytes, %d clients, verify at %s/s: median %.0f SET/s without, %.0f with verify, ratio %.3f\n", o.keys, o.value, x.Clients, o.verifyRate, a, b, b/a)
	return nil
}

// verifiedLoad is load while all copies are compared, again and again. The last comparison is waited for: nodes go on with a digest whose asker has left.
func verifiedLoad(ctx context.Context, c *admin.Client, rate int64, run *running, x row, o options) (sample, int64, error) {
	var over atomic.Bool
	var done atomic.Int64
	var bad error
	ended := make(chan struct{})
	began := make(chan struct{})
	go func() {
		defer close(ended)
		first := true
		for !over.Load() && ctx.Err() == nil {
			v, err := c.Verify(ctx, admin.VerifyRequest{BytesPerSec: rate, WaitSeconds: time.Hour.Seconds()}, func(admin.Event) {
				if first {
					first = false
					close(began)
				}
			})
			switch {
			case err != nil:
				bad = err
				return
			case !v.OK:
				bad = fmt.Errorf("the copies differ: %v", v.Notes)
				return
			default:
				done.Add(1)
			}
		}
	}()
	select {
	case <-began:
	case <-ended:
	}
	got, err := load(ctx, run, x, o)
	over.Store(true)
	<-ended
	return got, done.Load(), errors.Join(err, bad)
}
