package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/internal/admin"
)

var nodeNames = [machineCount]string{"a", "b", "c"}

// settle is between rounds: a failure that follows another one within a second is another matter.
const settle = 500 * time.Millisecond

// repldTimeout is how long a writer waits: its node's socket forwards, and says by itself what became of a write.
const repldTimeout = time.Second

// repldCluster is three repld processes; with witness the third holds no data.
type repldCluster struct {
	m       *machines
	witness bool
}

func startRepld(o options, m *machines, witness bool) (cluster, error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	c := &repldCluster{m: m, witness: witness}
	if err := os.MkdirAll(m.path("token"), 0o700); err != nil {
		return nil, err
	}
	for i, n := range nodeNames {
		if err := os.WriteFile(m.path(n+".yml"), []byte(c.config(o, i)), 0o600); err != nil {
			return nil, err
		}
		if err := m.start(n, i, filepath.Join(bin, "repld"), "--config", m.path(n+".yml")); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// config has the defaults, apart from the back-off, which would spread the rounds, and forwarding, so that writers stay on the socket of their own host.
func (c *repldCluster) config(o options, i int) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("cluster: bench\nnode: %s\ndata: %s\ninsecure: true\npeers:", nodeNames[i], c.m.path(nodeNames[i]))
	for j, n := range nodeNames {
		role := ""
		if c.witness && j == 2 {
			role = ", role: witness"
		}
		line("  - {name: %s, addr: %q%s}", n, c.m.hostport(j, 7600), role)
	}
	if c.witness && i == 2 {
		line("role: witness")
	} else {
		policy := "block"
		if c.witness {
			policy = "shrink" // with one of two data nodes gone nobody is left to ack
		}
		line("sync: {k: 1, policy: %s}", policy)
		line("client: {socket: %s, forward: on}", c.socket(i))
	}
	line("admin: {socket: %s}", c.admin(i))
	if o.token == "raft" {
		line("token: {store: raft}")
	} else {
		line("token: {path: %s, shared: true}", c.m.path("token"))
	}
	line("failover: {mode: automatic, backoff: 0s}")
	return b.String()
}

func (c *repldCluster) socket(i int) string { return c.m.path(nodeNames[i] + ".sock") }
func (c *repldCluster) admin(i int) string  { return c.m.path(nodeNames[i] + ".adm") }

func (c *repldCluster) dial(i int) (conn, error) {
	if c.witness && i == 2 {
		return nil, &refusal{"a witness"}
	}
	return dialRedis(c.socket(i), repldTimeout, false)
}

func (c *repldCluster) process(i int) string { return nodeNames[i] }

// data are the nodes that hold data.
func (c *repldCluster) data() []int {
	if c.witness {
		return []int{0, 1}
	}
	return []int{0, 1, 2}
}

func (c *repldCluster) status(i int) (admin.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	a := admin.NewClient(c.admin(i))
	defer a.Close()
	s, err := a.Status(ctx, true)
	if err != nil || len(s.Nodes) != 1 {
		return admin.NodeStatus{}, fmt.Errorf("status of %s: %w", nodeNames[i], err)
	}
	return s.Nodes[0], nil
}

// active is the node that is active in the highest epoch: a frozen or cut-off one may still say so of an older one.
func (c *repldCluster) active() (int, error) {
	best, found := admin.NodeStatus{}, -1
	for _, i := range c.data() {
		if s, err := c.status(i); err == nil && s.Role == admin.RoleActive && (found < 0 || s.Epoch > best.Epoch) {
			best, found = s, i
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("nobody is active")
	}
	return found, nil
}

func (c *repldCluster) healthy() error {
	a, err := c.active()
	if err != nil {
		return err
	}
	active, err := c.status(a)
	if err != nil {
		return err
	}
	if active.Sync.K < 1 {
		return fmt.Errorf("the sync set has not grown back: %s", active.Sync) // losing the active now could lose writes, so nobody would follow it (R5)
	}
	following := 0
	for _, s := range active.Standbys {
		if s.InSync && s.State == "stream" {
			following++
		}
	}
	if following < len(c.data())-1 {
		return fmt.Errorf("%d standbys follow %s", following, nodeNames[a])
	}
	return nil
}

func (c *repldCluster) switchover() error {
	a, err := nowActive(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	api := admin.NewClient(c.admin(a))
	defer api.Close()
	_, err = api.Switchover(ctx, admin.SwitchoverRequest{Reason: "benchmark"}, nil)
	return err
}
