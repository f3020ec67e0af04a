package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const writerCount = 16

// writers are clients that each write one new key after the other and remember which writes were acknowledged.
type writers struct {
	target  atomic.Pointer[node]
	acked   atomic.Int64
	unknown atomic.Int64 // the outcome is not known: connection lost, timeout, -UNKNOWN (R13)
	refused atomic.Int64 // surely not written: -READONLY and the like
	first   atomic.Int64 // unix ns of the first acknowledgement since moved

	cancel context.CancelFunc
	wg     sync.WaitGroup
	each   [writerCount]*writer
}

// writer is owned by its goroutine until stop has returned.
type writer struct {
	id     int
	next   int
	acked  []int // sequence numbers
	conn   *redis.Client
	connTo *node
}

func key(writer, seq int) string { return fmt.Sprintf("w%02d:%07d", writer, seq) }

// value is different for each write, so that a value in the wrong place is found.
func value(writer, seq int) string { return fmt.Sprintf("%s by writer %d", key(writer, seq), writer) }

// quiet takes what go-redis would print about lost connections, which are what this is about.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// dial returns a client with one connection that never repeats a command by itself: each write is counted once.
func dial(n *node) *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: n.client, PoolSize: 1, MaxRetries: -1,
		DialTimeout: time.Second, DialerRetries: 1, ReadTimeout: time.Second, WriteTimeout: time.Second, DisableIdentity: true})
}

func (w *writers) start(ctx context.Context, to *node) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.move(to)
	for i := range w.each {
		one := &writer{id: i}
		w.each[i] = one
		w.wg.Go(func() { w.loop(ctx, one) })
	}
}

// move sends all writers to another node with their next write.
func (w *writers) move(to *node) {
	w.first.Store(0)
	w.target.Store(to)
}

// stop ends all writers and waits for them.
func (w *writers) stop() {
	if w.cancel != nil {
		w.cancel()
		w.wg.Wait()
	}
}

func (w *writers) loop(ctx context.Context, one *writer) {
	defer one.close()
	for ctx.Err() == nil {
		to := w.target.Load()
		one.connect(to)
		seq := one.next
		one.next++
		err := one.conn.Set(ctx, key(one.id, seq), value(one.id, seq), 0).Err()
		switch {
		case err == nil:
			one.acked = append(one.acked, seq)
			w.acked.Add(1)
			if w.target.Load() == to {
				w.first.CompareAndSwap(0, time.Now().UnixNano())
			}
			continue
		case surelyRefused(err):
			w.refused.Add(1)
		default:
			w.unknown.Add(1)
		}
		pause(ctx, 10*time.Millisecond)
	}
}

func (one *writer) connect(to *node) {
	if one.connTo == to {
		return
	}
	one.close()
	one.conn, one.connTo = dial(to), to
}

func (one *writer) close() {
	if one.conn != nil {
		_ = one.conn.Close() // nothing is buffered
		one.conn = nil
	}
}

// surelyRefused: the node said that the write was not taken, or nobody was there to send it to. Everything else, a lost
// connection above all, leaves it open.
func surelyRefused(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	var fault redis.Error
	return errors.As(err, &fault) && !strings.HasPrefix(err.Error(), "UNKNOWN")
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// missing reads every acknowledged write from n and returns the keys that are not there or hold something else.
func (w *writers) missing(ctx context.Context, n *node) (total int, lost []string, err error) {
	c := dial(n)
	defer c.Close()
	for _, one := range w.each {
		gone, err := absent(ctx, c, one.acked, func(seq int) (string, string) { return key(one.id, seq), value(one.id, seq) })
		if err != nil {
			return total, lost, err
		}
		total += len(one.acked)
		lost = append(lost, gone...)
	}
	return total, lost, nil
}

// absent returns the keys of acked writes that do not hold what was written.
func absent(ctx context.Context, c *redis.Client, acked []int, write func(seq int) (key, value string)) (lost []string, err error) {
	for part := range slices.Chunk(acked, 500) {
		keys := make([]string, len(part))
		want := make([]string, len(part))
		for i, seq := range part {
			keys[i], want[i] = write(seq)
		}
		values, err := c.MGet(ctx, keys...).Result()
		if err != nil {
			return lost, fmt.Errorf("read acknowledged writes back: %w", err)
		}
		for i, v := range values {
			if v != want[i] {
				lost = append(lost, keys[i])
			}
		}
	}
	return lost, nil
}
