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
func (g *group) expireResults(ctx context.Context) (n int) {
	now := time.Now()
	done := make(chan error, 1)
	g.seq.submit(ctx, func(seq server.Sequence) error {
		due, err := seq.(*sequence).s.mu.overlay.ExpiredResults(now, expireKeys)
		if err != nil || len(due) == 0 {
			return err
		}
		n = len(due)
		return seq.Record(now, func(t *kv.Txn) error {
			for _, id := range due {
				if _, err := t.DropResult(id); err != nil {
					return err
				}
			}
			return nil
		})
	}, func(_ wal.LSN, err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			g.logger.Debug("expired results not dropped", "error", err)
			return 0
		}
		return n
	case <-ctx.Done():
		return 0
	}
}

// expireSome deletes up to expireKeys due keys in one record, waits for it to be applied, and returns how many they were.
func (g *group) expireSome(ctx context.Context) (n int) {
	now := time.Now()
	done := make(chan error, 1)
	g.seq.submit(ctx, func(seq server.Sequence) error {
		due, err := seq.(*sequence).s.mu.overlay.Expired(now, expireKeys)
		if err != nil || len(due) == 0 {
			return err
		}
		n = len(due)
		return seq.Record(now, func(t *kv.Txn) error {
			for _, key := range due {
				if _, err := t.DeleteExpired(key); err != nil {
					return err
				}
			}
			return nil
		})
	}, func(_ wal.LSN, err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			g.logger.Debug("expired keys not deleted", "error", err)
			return 0
		}
		g.expired.Add(uint64(n))
		return n
	case <-ctx.Done():
		return 0
	}
}
