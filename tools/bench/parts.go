package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"repld/wal"
)

// benchIdentity names the logs of the parts.
var benchIdentity = wal.Identity{Cluster: "bench", Group: "default", Incarnation: [16]byte{1}}

// parts measures the log and the state without sockets and sessions.
func parts(ctx context.Context, o options) ([]part, error) {
	records := o.keys
	out, err := groupCommit(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("group commit: %w", err)
	}
	small, err := smallFrames(o)
	if err != nil {
		return nil, fmt.Errorf("small frames: %w", err)
	}
	rate, log, err := buildLog(ctx, o, records)
	if err != nil {
		return nil, fmt.Errorf("build log: %w", err)
	}
	out = append(out, small,
		part{"evaluate, log, apply on the active, one caller", rate, "records/s"},
		part{"size of the log", log.bytes / float64(records), "bytes/record"},
		part{"size of the log by its effects", log.bytes / log.effects, "bytes/byte"},
		part{"the frames of that log, on average", log.bytes / log.frames, "bytes"})
	replay, err := replayLog(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return append(out, part{"replay of the log into an empty state", replay, "records/s"}), nil
}

// repeated measures parts in every round, each in a folder of its own, and takes the medians.
func repeated(ctx context.Context, o options, measure func(context.Context, options) ([]part, error)) ([]part, error) {
	var out []part
	values := map[[2]string][]float64{}
	for round := range o.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
		v := o
		v.dir = filepath.Join(o.dir, fmt.Sprintf("round%d", round))
		if err := os.MkdirAll(v.dir, 0o755); err != nil {
			return nil, err
		}
		got, err := measure(ctx, v)
		if err != nil {
			return nil, err
		}
		if err := os.RemoveAll(v.dir); err != nil {
			return nil, err
		}
		for _, p := range got {
			values[[2]string{p.Name, p.Unit}] = append(values[[2]string{p.Name, p.Unit}], p.Value)
		}
		out = got
	}
	for i, p := range out {
		out[i].Value = middle(values[[2]string{p.Name, p.Unit}])
	}
	return out, nil
}

// groupCommit has callers that each append a record of 128 bytes and wait until it is durable.
func groupCommit(ctx context.Context, o options) ([]part, error) {
	var out []part
	for _, callers := range []int{1, 64, 256} {
		rate, err := commitRate(ctx, o, callers)
		if err != nil {
			return nil, err
		}
		out = append(out, part{fmt.Sprintf("log append, durable, %d callers, 128 bytes", callers), rate, "records/s"})
	}
	return out, nil
}

func commitRate(ctx context.Context, o options, callers int) (float64, error) {
	log, _, err := wal.Open(wal.Options{Dir: filepath.Join(o.dir, fmt.Sprintf("commit%d", callers)), Identity: benchIdentity})
	if err != nil {
		return 0, err
	}
	defer log.Close()
	d := newDurable()
	w, err := log.NewWriter(wal.WriterOptions{Epoch: 1, OnDurable: func(p wal.Position) { d.raise(p.LSN) }, OnError: func(error) { d.raise(^wal.LSN(0)) }})
	if err != nil {
		return 0, err
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.seconds*float64(time.Second)))
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, callers)
	start := time.Now()
	for range callers {
		wg.Go(func() {
			payload := make([]byte, 128)
			for ctx.Err() == nil {
				lsn, err := w.Append(wal.KindEffects, payload)
				if err != nil {
					errs <- err
					return
				}
				d.wait(lsn)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	select {
	case err := <-errs:
		return 0, err
	default:
	}
	return float64(log.Durable().LSN) / took.Seconds(), log.Failed()
}

// durable lets callers wait for an LSN.
type durable struct {
	mu   sync.Mutex
	cond *sync.Cond
	lsn  wal.LSN
}

func newDurable() *durable {
	d := &durable{}
	d.cond = sync.NewCond(&d.mu)
	return d
}

func (d *durable) raise(lsn wal.LSN) {
	d.mu.Lock()
	d.lsn = lsn
	d.mu.Unlock()
	d.cond.Broadcast()
}

func (d *durable) wait(lsn wal.LSN) {
	d.mu.Lock()
	for d.lsn < lsn {
		d.cond.Wait()
	}
	d.mu.Unlock()
}
