package clients

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
	"repld/test/cluster"
)

const limit = 60 * time.Second

// rounds is how often the active is killed or moved in each test.
func rounds() int {
	if os.Getenv("NIGHTLY") == "1" {
		return 20
	}
	return 1
}

// group starts three nodes with Sentinel endpoints and makes a the active, or, in automatic mode, waits for whoever is.
func group(t *testing.T, spec cluster.Spec) *cluster.Cluster {
	t.Helper()
	spec.Sentinel, spec.K = true, 1
	if spec.Nodes == nil {
		spec.Nodes = cluster.Hot("a", "b", "c")
	}
	c := cluster.Processes(t, spec)
	active := c.Node("a")
	if spec.Automatic {
		active, _ = c.WaitActive(0, limit)
	} else {
		active.MustPromote()
	}
	for _, n := range c.Nodes() {
		waitAddr(t, n, active.TCP)
	}
	return c
}

func guide(t *testing.T, n *cluster.Node) *redis.SentinelClient {
	s := redis.NewSentinelClient(&redis.Options{Addr: n.Guide, MaxRetries: -1, ReadTimeout: 5 * time.Second})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// waitAddr waits until a node's Sentinel endpoint names addr, "" for nobody.
func waitAddr(t *testing.T, n *cluster.Node, addr string) {
	t.Helper()
	s := guide(t, n)
	cluster.Until(t, limit, func() error {
		got, err := s.GetMasterAddrByName(context.Background(), "test").Result()
		if addr == "" && err == redis.Nil {
			return nil
		}
		if err != nil || strings.Join(got, ":") != addr {
			return fmt.Errorf("node %s names %v (%v), want %q", n.Name, got, err, addr)
		}
		return nil
	})
}

func switchover(t *testing.T, from, to *cluster.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	a := from.Admin()
	defer a.Close()
	cluster.Until(t, limit, func() error { // refused until the target has caught up
		_, err := a.Switchover(ctx, admin.SwitchoverRequest{To: to.Name, Reason: "test"}, nil)
		return err
	})
}

// TestSentinelView holds that an endpoint names the active only under a live view of a majority: not when its node is cut off, and not when it stood still
// while another one was promoted. Clients of the old active are disconnected once it knows.
//
// Faults: P3 (SIGSTOP of the active over a promotion), W1 (SIGSTOP of both standbys leaves the active alone)
func TestSentinelView(t *testing.T) {
	c := group(t, cluster.Spec{})
	a, b := c.Node("a"), c.Node("b")

	b.Pause()
	c.Node("c").Pause()
	waitAddr(t, a, "")
	b.Resume()
	c.Node("c").Resume()
	waitAddr(t, a, a.TCP)

	old := redis.NewClient(&redis.Options{Addr: a.TCP, MaxRetries: -1, PoolSize: 1, ReadTimeout: limit})
	defer old.Close()
	conn := old.Conn()
	defer conn.Close()
	if err := conn.Set(context.Background(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	a.Pause()
	b.MustPromote()
	waitAddr(t, b, b.TCP)
	waitAddr(t, c.Node("c"), b.TCP)
	a.Resume()
	s := guide(t, a)
	named := map[string]bool{}
	cluster.Until(t, limit, func() error {
		got, err := s.GetMasterAddrByName(context.Background(), "test").Result()
		if err != nil {
			return err
		}
		named[strings.Join(got, ":")] = true
		if !named[b.TCP] {
			return fmt.Errorf("a names %v", got)
		}
		return nil
	})
	if named[a.TCP] {
		t.Errorf("the old active named itself after it stood still: %v", named)
	}
	cluster.Until(t, limit, func() error { // answered -READONLY until the connection is closed
		err := conn.Set(context.Background(), "k", "w", 0).Err()
		if err == nil {
			t.Fatal("the old active took a write")
		}
		if cluster.Refused(err) || strings.HasPrefix(err.Error(), "UNKNOWN") {
			return fmt.Errorf("still connected: %w", err)
		}
		return nil
	})
}

// TestSwitchMaster holds the order of a switchover as clients see it: +switch-master comes from every endpoint, after the new active accepts writes.
func TestSwitchMaster(t *testing.T) {
	c := group(t, cluster.Spec{StandbyReads: true, Nodes: append(cluster.Hot("a", "b"), cluster.NodeSpec{Name: "c", Delay: time.Minute})})
	a, b := c.Node("a"), c.Node("b")
	type event struct{ node, payload string }
	events := make(chan event, 16)
	for _, n := range c.Nodes() {
		sub := guide(t, n).Subscribe(context.Background(), "+switch-master")
		defer sub.Close()
		if _, err := sub.Receive(context.Background()); err != nil {
			t.Fatal(err)
		}
		go func() {
			for m := range sub.Channel() {
				events <- event{n.Name, m.Payload}
			}
		}()
	}
	replicas := func() []map[string]string {
		r, err := guide(t, b).Replicas(context.Background(), "test").Result()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	cluster.Until(t, limit, func() error {
		if r := replicas(); len(r) != 1 || r[0]["ip"]+":"+r[0]["port"] != b.TCP || r[0]["flags"] != "slave" {
			return fmt.Errorf("replicas are %v, want b alone: c is lagged", r)
		}
		return nil
	})
	switchover(t, a, b)
	want := strings.ReplaceAll("test "+a.TCP+" "+b.TCP, ":", " ")
	seen := map[string]bool{}
	for len(seen) < 3 {
		select {
		case e := <-events:
			if e.payload != want || seen[e.node] {
				t.Fatalf("node %s published %q (again: %t), want %q once", e.node, e.payload, seen[e.node], want)
			}
			if len(seen) == 0 { // whoever follows the first publication may write at once
				fresh := redis.NewClient(&redis.Options{Addr: b.TCP, MaxRetries: -1})
				if err := fresh.Set(context.Background(), "k", "v", 0).Err(); err != nil {
					t.Errorf("the new active refuses a write after +switch-master: %v", err)
				}
				_ = fresh.Close()
			}
			seen[e.node] = true
		case <-time.After(limit):
			t.Fatalf("only %v published", seen)
		}
	}
	if r := replicas(); len(r) > 1 {
		t.Errorf("replicas %v", r)
	}
}

// TestWitnessGuides: the Sentinel endpoint of a witness, which holds no data, names the active, follows a SIGKILL that leaves it alone with one data node, and publishes +switch-master; clients
// of the witness alone find the new active.
//
// Faults: P1 (SIGKILL of the active, two data nodes and a witness: what the witness tells clients)
func TestWitnessGuides(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: append(cluster.Hot("a", "b"), cluster.Witness("w")), K: 1, Shrink: time.Second, Sentinel: true, Automatic: true, Token: "{store: raft}", Failover: "  backoff: 0s\n"})
	w := c.Node("w")
	data := []*cluster.Node{c.Node("a"), c.Node("b")}
	active, s := c.WaitActive(0, limit, "w")
	other := data[0]
	if other == active {
		other = data[1]
	}
	waitAddr(t, w, active.TCP)
	other.WaitCaughtUp(active, limit)
	cluster.Until(t, limit, func() error { // a first epoch may begin with one copy: then only the active may lead (R5)
		s, err := active.Status()
		if err == nil && s.Sync.K != 1 {
			err = fmt.Errorf("sync %s", s.Sync)
		}
		return err
	})
	sub := guide(t, w).Subscribe(context.Background(), "+switch-master")
	defer sub.Close()
	if _, err := sub.Receive(context.Background()); err != nil {
		t.Fatal(err)
	}
	plain := redis.NewClient(&redis.Options{Addr: w.Guide, MaxRetries: -1})
	defer plain.Close()
	if role, err := plain.Do(context.Background(), "ROLE").Slice(); err != nil || fmt.Sprint(role) != "[sentinel [test]]" {
		t.Errorf("ROLE of the witness' endpoint: %v, %v", role, err)
	}
	r := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "test", SentinelAddrs: []string{w.Guide}})
	defer r.Close()
	cluster.Until(t, limit, func() error { return r.Set(context.Background(), "k", "before", 0).Err() })
	active.Kill()
	next, _ := c.WaitActive(s.Epoch, limit, "w", active.Name)
	if next != other {
		t.Fatalf("%s took over", next.Name)
	}
	want := strings.ReplaceAll("test "+active.TCP+" "+other.TCP, ":", " ")
	select {
	case m := <-sub.Channel():
		if m.Payload != want {
			t.Errorf("published %q, want %q", m.Payload, want)
		}
	case <-time.After(limit):
		t.Fatal("the witness publishes nothing")
	}
	waitAddr(t, w, other.TCP)
	cluster.Until(t, limit, func() error { return r.Set(context.Background(), "k", "after", 0).Err() })
	if v, err := other.Redis().Get(context.Background(), "k").Result(); err != nil || v != "after" {
		t.Errorf("k is %q, %v", v, err)
	}
}
