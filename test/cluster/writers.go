package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Writers are concurrent clients that write as fast as they are answered, each to keys of its own, and remember what was acked. They move to another node
// when told to.
type Writers struct {
	t       testing.TB
	c       *Cluster
	target  atomic.Pointer[Node]
	moved   sync.Cond // the target changed, or stop
	movedMu sync.Mutex
	stopped atomic.Bool
	all     []*writer
	wg      sync.WaitGroup
}

type writer struct {
	id      int
	acked   []int // sequence numbers, rising
	next    int
	unknown int
	refused int
	last    atomic.Int64 // acked in all
}

// StartWriters starts n writers on node target.
func StartWriters(t testing.TB, c *Cluster, n int, target *Node) *Writers {
	w := &Writers{t: t, c: c}
	w.moved.L = &w.movedMu
	w.target.Store(target)
	for i := range n {
		one := &writer{id: i}
		w.all = append(w.all, one)
		w.wg.Go(func() { w.run(one) })
	}
	return w
}

// Move sends the writers to another node.
func (w *Writers) Move(to *Node) {
	w.movedMu.Lock()
	w.target.Store(to)
	w.movedMu.Unlock()
	w.moved.Broadcast()
}

// Stop ends the writers after their present command and returns how many writes were acked.
func (w *Writers) Stop() int {
	w.stopped.Store(true)
	w.movedMu.Lock()
	w.moved.Broadcast()
	w.movedMu.Unlock()
	w.wg.Wait()
	return w.Acked()
}

// Acked is how many writes were acked so far.
func (w *Writers) Acked() int {
	n := 0
	for _, x := range w.all {
		n += int(x.last.Load())
	}
	return n
}

// WaitAcked waits until more writes have been acked than before.
func (w *Writers) WaitAcked(more int, limit time.Duration) {
	w.t.Helper()
	from := w.Acked()
	Until(w.t, limit, func() error {
		if got := w.Acked() - from; got < more {
			return fmt.Errorf("%d writes acked, want %d", got, more)
		}
		return nil
	})
}

func (w *Writers) run(x *writer) {
	for !w.stopped.Load() {
		node := w.target.Load()
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: node.Socket, MaxRetries: -1, PoolSize: 1, ReadTimeout: 20 * time.Second,
			DisableIdentity: true})
		w.writeTo(x, node, client)
		_ = client.Close()
		w.await(node)
	}
}

// writeTo writes until an error other than a refusal that is sure to be one.
func (w *Writers) writeTo(x *writer, node *Node, client *redis.Client) {
	for !w.stopped.Load() && w.target.Load() == node {
		n := x.next
		x.next++
		err := client.Set(context.Background(), key(x.id, n), n, 0).Err()
		switch {
		case err == nil:
			x.acked = append(x.acked, n)
			x.last.Add(1)
		case Refused(err):
			x.refused++
			return
		default:
			x.unknown++ // the connection broke, or -UNKNOWN: it may or may not be there
			return
		}
	}
}

// await waits a little, or until the target is another one.
func (w *Writers) await(node *Node) {
	wake := time.AfterFunc(5*time.Millisecond, func() {
		w.movedMu.Lock()
		defer w.movedMu.Unlock()
		w.moved.Broadcast()
	})
	defer wake.Stop()
	w.movedMu.Lock()
	defer w.movedMu.Unlock()
	if !w.stopped.Load() && w.target.Load() == node {
		w.moved.Wait()
	}
}

// Refused reports whether err says for sure that nothing was written.
func Refused(err error) bool {
	var r redis.Error
	if !errors.As(err, &r) {
		return false
	}
	for _, code := range []string{"READONLY", "LOADING", "TRYAGAIN", "NOREPLICAS", "MASTERDOWN"} {
		if strings.HasPrefix(r.Error(), code) {
			return true
		}
	}
	return false
}

func key(writer, n int) string { return fmt.Sprintf("w:%d:%d", writer, n) }

// Check reads every acked write on node and fails the test for each one that is missing (R1). It may be called once the writers are stopped.
func (w *Writers) Check(node *Node) {
	w.t.Helper()
	lost, unknown := 0, 0
	for _, x := range w.all {
		unknown += x.unknown
		for at := 0; at < len(x.acked); at += 500 {
			batch := x.acked[at:min(at+500, len(x.acked))]
			keys := make([]string, len(batch))
			for i, n := range batch {
				keys[i] = key(x.id, n)
			}
			values, err := node.Redis().MGet(context.Background(), keys...).Result()
			if err != nil {
				w.t.Fatalf("read back from %s: %v", node.Name, err)
			}
			for i, v := range values {
				if v != fmt.Sprint(batch[i]) {
					if lost++; lost <= 5 {
						w.t.Errorf("acked write %s is lost on %s: read %v", keys[i], node.Name, v)
					}
				}
			}
		}
	}
	if lost > 0 {
		w.t.Fatalf("%d acked writes lost (R1)", lost)
	}
	w.t.Logf("%d writes acked, %d of unknown outcome, 0 lost", w.Acked(), unknown)
}
