package clients

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"repld/client"
	"repld/test/cluster"
)

// TestOnceOverKill holds that a write with an id is executed exactly once, although the active is killed again and again while it is on its way: each of many
// counters ends at the number of increments that were asked for, and the answers of one counter are 1, 2, 3 …
//
// Faults: R6 (INCR by id over SIGKILL of the active and a promotion), P1
func TestOnceOverKill(t *testing.T) {
	const clients = 8
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1})
	active := c.Node("a")
	active.MustPromote()
	var addrs []string
	for _, n := range c.Nodes() {
		addrs = append(addrs, n.Socket)
	}
	cl, err := client.New(client.Options{Addrs: addrs, Timeout: 2 * time.Minute, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	stop := make(chan struct{})
	var all sync.WaitGroup
	counts := make([]int64, clients)
	var progress sync.Mutex
	total := func() (n int64) {
		progress.Lock()
		defer progress.Unlock()
		for _, x := range counts {
			n += x
		}
		return n
	}
	for i := range clients {
		all.Go(func() {
			for n := int64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				v, err := cl.Do(context.Background(), client.NewID(), "INCR", fmt.Sprint("n", i))
				if err != nil || v != n {
					t.Errorf("increment %d of n%d: %v, %v", n, i, v, err)
					return
				}
				progress.Lock()
				counts[i] = n
				progress.Unlock()
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		from := total()
		cluster.Until(t, limit, func() error {
			if got := total() - from; got < n && !t.Failed() {
				return fmt.Errorf("%d increments, want %d", got, n)
			}
			return nil
		})
	}
	rounds := rounds()
	for range rounds {
		more(100)
		active.Kill()
		next := c.Others(active.Name)[0]
		next.MustPromote()
		more(50)
		active.Start()
		active.WaitCaughtUp(next, limit)
		active = next
	}
	close(stop)
	all.Wait()
	for i, want := range counts {
		got, err := active.Redis().Get(context.Background(), fmt.Sprint("n", i)).Int64()
		if err != nil || got != want {
			t.Errorf("n%d is %d (%v), want %d", i, got, err, want)
		}
	}
	active.Verify()
	t.Logf("%d increments by id over %d kills", total(), rounds)
}
