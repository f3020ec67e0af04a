package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"repld/internal/kv"
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
	rate, bytes, err := buildLog(ctx, o, records)
	if err != nil {
		return nil, fmt.Errorf("build log: %w", err)
	}
	out = append(out, part{"evaluate, log, apply on the active, one caller", rate, "records/s"},
		part{"size of the log", bytes / float64(records), "bytes/record"})
	replay, err := replayLog(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return append(out, part{"replay of the log into an empty state", replay, "records/s"}), nil
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

const chunk = 1000

// buildLog evaluates, logs and applies SETs as an active does, without waiting for each, and leaves the log for replayLog.
func buildLog(ctx context.Context, o options, records int) (perSecond, bytes float64, err error) {
	store, err := kv.Open(kv.Options{Dir: filepath.Join(o.dir, "built")})
	if err != nil {
		return 0, 0, err
	}
	defer store.Close()
	log, _, err := wal.Open(wal.Options{Dir: filepath.Join(o.dir, "log"), Identity: benchIdentity})
	if err != nil {
		return 0, 0, err
	}
	defer log.Close()
	w, err := log.NewWriter(wal.WriterOptions{Epoch: 1})
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	r, err := log.NewReader(0)
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	b := &builder{seq: store.NewSequencer(), writer: w, work: newWork(3, o.keys, o.value)}
	start := time.Now()
	for done := 0; done < records; done += chunk {
		last, err := b.chunk(min(chunk, records-done))
		if err != nil {
			return 0, 0, err
		}
		if err := applyTo(ctx, r, store, last); err != nil {
			return 0, 0, err
		}
		b.seq.Applied(last)
	}
	return float64(records) / time.Since(start).Seconds(), float64(log.Stats().Bytes), nil
}

// builder evaluates SETs of random keys.
type builder struct {
	seq    *kv.Sequencer
	writer *wal.Writer
	work   *work
}

func (b *builder) chunk(n int) (last wal.LSN, err error) {
	for range n {
		b.work.next()
		t := b.seq.Begin(time.Now())
		if err := t.Set(b.work.key, b.work.value, 0); err != nil {
			t.Abort()
			return 0, err
		}
		if last, err = b.writer.Append(wal.KindEffects, t.Effects()); err != nil {
			t.Abort()
			return 0, err
		}
		t.Commit(last)
	}
	return last, nil
}

// applyTo reads frames and applies them until the store is at lsn.
func applyTo(ctx context.Context, r *wal.Reader, store *kv.Store, lsn wal.LSN) error {
	for store.Applied().LSN < lsn {
		f, err := r.Next(ctx)
		if err != nil {
			return err
		}
		frames := []*wal.Frame{f}
		for size := len(f.Bytes); size < 1<<20; size += len(f.Bytes) {
			if f, err = r.TryNext(); err != nil {
				return err
			}
			if f == nil {
				break
			}
			frames = append(frames, f)
		}
		if err := store.Apply(frames); err != nil {
			return err
		}
	}
	return nil
}

// replayLog applies the whole log to an empty state, as a standby that catches up, or a recovery, does.
func replayLog(ctx context.Context, o options) (float64, error) {
	log, _, err := wal.Open(wal.Options{Dir: filepath.Join(o.dir, "log"), Identity: benchIdentity})
	if err != nil {
		return 0, err
	}
	defer log.Close()
	store, err := kv.Open(kv.Options{Dir: filepath.Join(o.dir, "replayed")})
	if err != nil {
		return 0, err
	}
	defer store.Close()
	r, err := log.NewReader(0)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	start := time.Now()
	end := log.End().LSN
	if err := applyTo(ctx, r, store, end); err != nil {
		return 0, err
	}
	return float64(end) / time.Since(start).Seconds(), nil
}
