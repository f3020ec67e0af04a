package main

import (
	"context"
	"path/filepath"
	"time"

	"repld/internal/kv"
	"repld/wal"
)

// smallFrames is what the log adds to the effects of a SET that is alone in its frame.
func smallFrames(o options) (part, error) {
	const name = "a frame of one SET: bytes more than its effects"
	store, err := kv.Open(kv.Options{Dir: filepath.Join(o.dir, "small")})
	if err != nil {
		return part{}, err
	}
	defer store.Close()
	log, _, err := wal.Open(wal.Options{Dir: filepath.Join(o.dir, "smalllog"), Identity: benchIdentity})
	if err != nil {
		return part{}, err
	}
	defer log.Close()
	d := newDurable()
	w, err := log.NewWriter(wal.WriterOptions{Epoch: 1, OnDurable: func(p wal.Position) { d.raise(p.LSN) }, OnError: func(error) { d.raise(^wal.LSN(0)) }})
	if err != nil {
		return part{}, err
	}
	defer w.Close()
	b := &builder{seq: store.NewSequencer(), writer: w, work: newWork(4, o.keys, o.value)}
	for range 200 {
		last, err := b.chunk(1)
		if err != nil {
			return part{}, err
		}
		d.wait(last)
	}
	s := log.Stats()
	return part{name, (float64(s.Bytes) - b.effects) / float64(s.Frames), "bytes"}, log.Failed()
}

const chunk = 1000

// logSize is what a log holds.
type logSize struct{ bytes, effects, frames float64 }

// buildLog evaluates, logs and applies SETs as an active does, without waiting for each, and leaves the log for replayLog.
func buildLog(ctx context.Context, o options, records int) (perSecond float64, size logSize, err error) {
	store, err := kv.Open(kv.Options{Dir: filepath.Join(o.dir, "built")})
	if err != nil {
		return 0, size, err
	}
	defer store.Close()
	log, _, err := wal.Open(wal.Options{Dir: filepath.Join(o.dir, "log"), Identity: benchIdentity})
	if err != nil {
		return 0, size, err
	}
	defer log.Close()
	w, err := log.NewWriter(wal.WriterOptions{Epoch: 1})
	if err != nil {
		return 0, size, err
	}
	defer w.Close()
	r, err := log.NewReader(0)
	if err != nil {
		return 0, size, err
	}
	defer r.Close()
	b := &builder{seq: store.NewSequencer(), writer: w, work: newWork(3, o.keys, o.value)}
	start := time.Now()
	for done := 0; done < records; done += chunk {
		last, err := b.chunk(min(chunk, records-done))
		if err != nil {
			return 0, size, err
		}
		if err := applyTo(ctx, r, store, last); err != nil {
			return 0, size, err
		}
		b.seq.Applied(last)
	}
	st := log.Stats()
	return float64(records) / time.Since(start).Seconds(), logSize{float64(st.Bytes), b.effects, float64(st.Frames)}, nil
}

// builder evaluates SETs of random keys.
type builder struct {
	seq     *kv.Sequencer
	writer  *wal.Writer
	work    *work
	effects float64 // bytes of all effects
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
		b.effects += float64(len(t.Effects()))
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
