package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"repld/internal/admin"
	"repld/test/cluster"
)

// TestRaftKillActive holds R1, R2, R5 and R15 with real processes and the token in the nodes' own raft log: the active is killed with SIGKILL under
// writers, another node is promoted by hand, the old one comes back by itself, a standby that was wiped is taken in again as a voter.
func TestRaftKillActive(t *testing.T) {
	rnd := seed(t)
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Token: "{store: raft}"})
	active := c.Node("a")
	epoch := active.MustPromote().Epoch
	writers := cluster.StartWriters(t, c, 8, active)
	for range rounds(t, 4) {
		writers.WaitAcked(50+rnd.IntN(300), 30*time.Second)
		active.Kill()
		others := c.Others(active.Name)
		next := others[rnd.IntN(len(others))]
		r := next.MustPromote()
		if r.Epoch != epoch+1 {
			t.Fatalf("promotion of %s came out at epoch %d after %d", next.Name, r.Epoch, epoch)
		}
		epoch = r.Epoch
		writers.Move(next)
		if rnd.IntN(2) == 0 {
			active.Wipe() // its voter has a new disk too (R11)
		}
		active.Start()
		active.WaitCaughtUp(next, 60*time.Second)
		waitVoters(t, active, 3)
		active = next
	}
	writers.Stop()
	writers.Check(active)
	active.Verify()
}

// waitVoters waits until a node sees a leader and so many voters of the token log, itself among them.
func waitVoters(t *testing.T, n *cluster.Node, want int) {
	t.Helper()
	cluster.Until(t, 60*time.Second, func() error {
		s, err := n.Status()
		if err != nil {
			return err
		}
		if s.Token == nil || !s.Token.Started || s.Token.Leader == "" || len(s.Token.Voters) != want {
			return fmt.Errorf("token log as %s sees it: %+v", n.Name, s.Token)
		}
		return nil
	})
}

// TestWitnessFailover: two data nodes and a witness as real processes. The active is killed, the other one takes over by itself with the witness's vote, goes on alone
// once the smaller sync set is recorded in the token, and is caught up with when the killed one is back. Any node, the witness too, says who may be promoted
// without loss, also while nobody is active. The witness is small.
func TestWitnessFailover(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{
		Nodes: append(cluster.Hot("a", "b"), cluster.Witness("w")), K: 1, Automatic: true, Token: "{store: raft}", Shrink: time.Second, Failover: "  startup: 1s",
	})
	active, status := c.WaitActive(0, 60*time.Second)
	w := c.Node("w")
	writers := cluster.StartWriters(t, c, 4, active)
	promised := func() { // without a second copy only the active may lead, as R5 demands; the first epoch too may begin alone
		t.Helper()
		cluster.Until(t, 60*time.Second, func() error {
			s, err := active.Status()
			if err == nil && s.Sync.K != 1 {
				err = fmt.Errorf("sync %s", s.Sync)
			}
			return err
		})
	}
	promised()
	for range rounds(t, 2) {
		writers.WaitAcked(50, 60*time.Second)
		other := map[string]*cluster.Node{"a": c.Node("b"), "b": c.Node("a")}[active.Name]
		other.WaitCaughtUp(active, 60*time.Second)
		killed := active
		killed.Kill()
		active, status = c.WaitActive(status.Epoch, 60*time.Second, killed.Name)
		writers.Move(active)
		writers.WaitAcked(20, 60*time.Second) // alone, after the set was made smaller
		if s, err := active.Status(); err != nil || s.Sync.K != 0 {
			t.Fatalf("acked alone under %s, %v", s.Sync, err)
		}
		killed.Start()
		killed.WaitCaughtUp(active, 60*time.Second)
		promised()
	}
	writers.Stop()
	writers.Check(active)
	active.Verify()
	said, err := clusterStatus(w)
	if err != nil || said.Active != active.Name || len(said.AtRisk.Lossless) != 1 {
		t.Fatalf("the witness says %+v, %v", said, err)
	}
	rss := residentKiB(t, w)
	t.Logf("the witness has %.1f MiB resident", float64(rss)/1024)
	if rss > 50<<10 {
		t.Errorf("the witness has %d KiB resident, at most 50 MiB are promised", rss)
	}
}

func clusterStatus(n *cluster.Node) (admin.ClusterStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	a := n.Admin()
	defer a.Close()
	return a.Status(ctx, false)
}

// residentKiB is what the kernel says of a node's memory.
func residentKiB(t *testing.T, n *cluster.Node) int {
	t.Helper()
	s, err := n.Status()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestEtcdToken: three data nodes whose token is in a real etcd. While etcd is away the active goes on and nobody is promoted (W15); when it is back, another node
// is promoted and takes the token.
func TestEtcdToken(t *testing.T) {
	url, etcd := startEtcd(t)
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Token: fmt.Sprintf("{store: etcd, etcd: {endpoints: [%q]}}", url)})
	a, b := c.Node("a"), c.Node("b")
	first := a.MustPromote()
	writers := cluster.StartWriters(t, c, 4, a)
	writers.WaitAcked(50, 60*time.Second)
	etcd.stop()
	writers.WaitAcked(50, 60*time.Second)
	if r, err := b.Promote(admin.PromoteRequest{Reason: "test"}); err == nil {
		t.Fatalf("promoted without a token: %+v", r)
	}
	etcd.start()
	a.Kill()
	second := b.MustPromote()
	if second.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	writers.Move(b)
	writers.WaitAcked(50, 60*time.Second)
	a.Start()
	a.WaitCaughtUp(b, 60*time.Second)
	writers.Stop()
	writers.Check(b)
	b.Verify()
}

// etcdProcess is a real etcd of one member.
type etcdProcess struct {
	t    *testing.T
	args []string
	cmd  *exec.Cmd
}

func startEtcd(t *testing.T) (url string, p *etcdProcess) {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs etcd (Debian package etcd-server)")
		}
		t.Skip("no etcd here (Debian package etcd-server)")
	}
	client, peer := "http://"+cluster.FreeAddr(t), "http://"+cluster.FreeAddr(t)
	p = &etcdProcess{t: t, args: []string{bin, "--name", "t", "--data-dir", filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "t=" + peer, "--log-level", "error"}}
	p.start()
	t.Cleanup(p.stop)
	return client, p
}

func (p *etcdProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *etcdProcess) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}
