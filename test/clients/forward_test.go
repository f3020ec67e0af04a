package clients

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/test/cluster"
)

// local is a client on the socket of one node that never reconnects: one connection, no retries.
func local(n *cluster.Node) (*redis.Client, *redis.Conn) {
	r := redis.NewClient(&redis.Options{Network: "unix", Addr: n.Socket, MaxRetries: -1, PoolSize: 1, ReadTimeout: 2 * time.Minute, DisableIdentity: true})
	return r, r.Conn()
}

// worker writes on one connection, checks each answer, and reads its own writes.
type worker struct {
	node string
	n    int64
	err  error
}

// step increments, appends to a list of what was done, within a transaction each third time, and reads back: the order of a connection is kept.
func (w *worker) step(conn *redis.Conn, key string) error {
	ctx := context.Background()
	w.n++
	var got int64
	switch w.n % 3 {
	case 0:
		var incr *redis.IntCmd
		_, err := conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
			incr = p.Incr(ctx, key)
			p.Append(ctx, key+":log", ".")
			return nil
		})
		if err != nil {
			return fmt.Errorf("transaction %d: %w", w.n, err)
		}
		got = incr.Val()
	case 1:
		p := conn.Pipeline()
		incr, _, read := p.Incr(ctx, key), p.Append(ctx, key+":log", "."), p.Get(ctx, key)
		if _, err := p.Exec(ctx); err != nil {
			return fmt.Errorf("pipeline %d: %w", w.n, err)
		}
		got = incr.Val()
		if seen, _ := read.Int64(); seen != got {
			return fmt.Errorf("pipeline read %d after writing %d", seen, got)
		}
	default:
		var err error
		if got, err = conn.Incr(ctx, key).Result(); err != nil {
			return fmt.Errorf("increment %d: %w", w.n, err)
		}
		if err := conn.Append(ctx, key+":log", ".").Err(); err != nil {
			return fmt.Errorf("append %d: %w", w.n, err)
		}
	}
	if got != w.n {
		return fmt.Errorf("increment %d was answered %d", w.n, got)
	}
	if seen, err := conn.Get(ctx, key).Int64(); err != nil || seen != w.n {
		return fmt.Errorf("read %d (%v) after writing %d", seen, err, w.n)
	}
	return nil
}

// TestForwardSwitchover holds that clients on local sockets of living nodes see no error at all while the group is handed over again and again under their load:
// nothing is lost, nothing is done twice, and each connection's order is kept.
func TestForwardSwitchover(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Forward: true})
	active := c.Node("a")
	active.MustPromote()
	stop := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	workers := map[string]*worker{}
	for _, n := range c.Nodes() {
		for i := range 3 {
			key := fmt.Sprint(n.Name, i)
			w := &worker{node: n.Name}
			workers[key] = w
			r, conn := local(n)
			all.Go(func() {
				defer r.Close()
				defer conn.Close()
				for {
					select {
					case <-stop:
						return
					default:
					}
					mu.Lock()
					next := *w
					mu.Unlock()
					err := next.step(conn, key)
					mu.Lock()
					*w = next
					w.err = err
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
	}
	progress := func(after string) {
		t.Helper()
		mu.Lock()
		from := map[string]int64{}
		for key, w := range workers {
			from[key] = w.n
		}
		mu.Unlock()
		cluster.Until(t, limit, func() error {
			mu.Lock()
			defer mu.Unlock()
			for key, w := range workers {
				if w.err != nil {
					t.Fatalf("after %s, client %s of node %s: %v", after, key, w.node, w.err)
				}
				if w.n-from[key] < 5 {
					return fmt.Errorf("after %s client %s of node %s made %d steps", after, key, w.node, w.n-from[key])
				}
			}
			return nil
		})
	}
	progress("the start")
	for range 2 * rounds() {
		next := c.Others(active.Name)[0]
		switchover(t, active, next)
		progress("the switchover from " + active.Name + " to " + next.Name)
		active = next
	}
	close(stop)
	all.Wait()
	steps := int64(0)
	for key, w := range workers {
		if w.err != nil {
			t.Errorf("client %s of node %s: %v", key, w.node, w.err)
		}
		steps += w.n
		log, err := active.Redis().Get(context.Background(), key+":log").Result()
		if n, err2 := active.Redis().Get(context.Background(), key).Int64(); err != nil || err2 != nil || n != w.n || int64(len(log)) != w.n {
			t.Errorf("%s: %d increments, %d appends (%v %v), want %d", key, n, len(log), err, err2, w.n)
		}
	}
	active.Verify()
	t.Logf("%d steps of %d clients over %d switchovers, no error", steps, len(workers), 2*rounds())
}

// TestForwardKill holds what a client on a standby's socket sees when the active is killed: it keeps its connection, is told -UNKNOWN at most for writes that were
// in flight, and goes on with the next active. Nothing that it was told of is missing, nothing that is not unknown is done twice.
//
// Faults: P1 (SIGKILL of the active under forwarded writes)
func TestForwardKill(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Forward: true})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	r, conn := local(c.Node("c"))
	defer r.Close()
	defer conn.Close()
	ctx := context.Background()
	stop, done := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var acked, unknown, last int64
	var failed error
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, err := conn.Incr(ctx, "n").Result()
			mu.Lock()
			var reply redis.Error
			switch {
			case err == nil && n <= last:
				failed = fmt.Errorf("answered %d after %d", n, last)
			case err == nil:
				acked++
				last = n
			case errors.As(err, &reply) && strings.HasPrefix(err.Error(), "UNKNOWN"):
				unknown++
			default:
				failed = err
			}
			bad := failed != nil
			mu.Unlock()
			if bad {
				return
			}
		}
	}()
	more := func(n int64) {
		t.Helper()
		mu.Lock()
		from := acked
		mu.Unlock()
		cluster.Until(t, limit, func() error {
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				t.Fatal(failed)
			}
			if acked-from < n {
				return fmt.Errorf("%d increments", acked-from)
			}
			return nil
		})
	}
	more(50)
	a.Kill()
	b.MustPromote()
	more(50)
	close(stop)
	<-done
	n, err := b.Redis().Get(ctx, "n").Int64()
	if err != nil || n < acked || n > acked+unknown {
		t.Errorf("the counter is %d (%v) after %d answered and %d unknown increments", n, err, acked, unknown)
	}
	if unknown > 1 {
		t.Errorf("%d increments were unknown, one was in flight", unknown)
	}
	t.Logf("%d answered, %d unknown", acked, unknown)
}

// TestForwardTransactions defines what a transaction is that spans a switch: queued before it, it is executed whole by the new active; with WATCH, EXEC answers nil as
// if a key had changed, and the client tries again.
func TestForwardTransactions(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b"), K: 1, Forward: true})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	ctx := context.Background()
	for _, on := range []*cluster.Node{a, b} {
		r, conn := local(on)
		defer r.Close()
		defer conn.Close()
		from, to := a, b
		if on == b {
			from, to = b, a // the second round goes back
		}
		do := func(args ...any) any {
			t.Helper()
			v, err := conn.Do(ctx, args...).Result()
			if err != nil && err != redis.Nil {
				t.Fatalf("%s on %s: %v", args, on.Name, err)
			}
			return v
		}
		key := "k" + on.Name
		do("SET", key, "1")
		do("MULTI")
		do("INCR", key)
		do("INCR", key)
		switchover(t, from, to)
		if v := fmt.Sprint(do("EXEC")); v != "[2 3]" {
			t.Errorf("EXEC after the switch: %v", v)
		}
		do("WATCH", key)
		if v := do("GET", key); v != "3" {
			t.Errorf("GET: %v", v)
		}
		switchover(t, to, from)
		do("MULTI")
		do("INCR", key)
		if v := do("EXEC"); v != nil {
			t.Errorf("EXEC of a watch that spans the switch: %v", v)
		}
		do("WATCH", key)
		do("MULTI")
		do("INCR", key)
		if v := fmt.Sprint(do("EXEC")); v != "[4]" {
			t.Errorf("EXEC of the second try: %v", v)
		}
		do("WATCH", key)
		do("UNWATCH")
		if on == a {
			switchover(t, a, b)
		}
		do("MULTI")
		do("INCR", key)
		if v := fmt.Sprint(do("EXEC")); v != "[5]" {
			t.Errorf("EXEC after UNWATCH: %v", v)
		}
		if v := do("WAIT", 1, 20000); v != int64(1) {
			t.Errorf("WAIT: %v", v)
		}
	}
}
