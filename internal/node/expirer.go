package node

import (
	"context"
	"time"

	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// Expiry is decided on the active alone (DESIGN section 4, step 2): keys that are due are deleted by ordinary records. Readers hide them from the
// moment they are due, so the pace only bounds how long dead keys take space.
const (
	expireEvery = 100 * time.Millisecond
	expireKeys  = 1000 // in one record
)

// expire deletes due keys while this node is active.
func (g *group) expire(ctx context.Context) error {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			for g.active() && g.expireSome(ctx) == expireKeys && ctx.Err() == nil {
			}
			for g.active() && g.expireResults(ctx) == expireKeys && ctx.Err() == nil {
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// expireResults drops up to expireKeys results by id whose time is over, and returns how many they were.
func (g *group) expireResults(ctx context.Context) int {
	return expire(ctx, g, (*kv.Sequencer).ExpiredResults, (*kv.Txn).DropResult)
}

// expireSome deletes up to expireKeys due keys, and returns how many they were.
func (g *group) expireSome(ctx context.Context) int {
	n := expire(ctx, g, (*kv.Sequencer).Expired, (*kv.Txn).DeleteExpired)
	g.expired.Add(uint64(n))
	return n
}

// expire removes what is due in one record, waits for it to be applied, and returns how many they were.
func expire[K any](ctx context.Context, g *group, find func(*kv.Sequencer, time.Time, int) ([]K, error), remove func(*kv.Txn, K) (bool, error)) int {
	now := time.Now()
	type outcome struct {
		n   int
		err error
	}
	n, done := 0, make(chan outcome, 1)
	g.seq.submit(ctx, func(seq server.Sequence) error {
		due, err := find(seq.(*sequence).s.mu.overlay, now, expireKeys)
		if err != nil || len(due) == 0 {
			return err
		}
		n = len(due)
		return seq.Record(now, func(t *kv.Txn) error {
			for _, k := range due {
				if _, err := remove(t, k); err != nil {
					return err
				}
			}
			return nil
		})
	}, func(_ wal.LSN, err error) { done <- outcome{n, err} })
	select {
	case o := <-done:
		if o.err != nil {
			g.logger.Debug("what is due was not removed", "error", o.err)
			return 0
		}
		return o.n
	case <-ctx.Done():
		return 0
	}
}
