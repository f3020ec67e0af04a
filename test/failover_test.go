package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"repld/internal/admin"
	"repld/test/cluster"
	"repld/wal"
)

// rounds is how often a torture test goes round, from the environment.
func rounds(t *testing.T, normal int) int {
	if testing.Short() {
		normal = min(normal, 5)
	}
	s := os.Getenv("REPLD_ROUNDS")
	if s == "" {
		return normal
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("REPLD_ROUNDS=%q: %v", s, err)
	}
	return n
}

// seed draws the test's seed, or takes it from the environment, and says how to repeat it.
func seed(t *testing.T) *rand.Rand {
	s := uint64(time.Now().UnixNano())
	if env := os.Getenv("REPLD_SEED"); env != "" {
		n, err := strconv.ParseUint(env, 10, 64)
		if err != nil {
			t.Fatalf("REPLD_SEED=%q: %v", env, err)
		}
		s = n
	}
	t.Logf("repeat with REPLD_SEED=%d go test ./test -run '^%s$'", s, t.Name())
	return rand.New(rand.NewPCG(s, s))
}

// TestKillActive holds R1, R2, R5 and R15 with real processes: the active is killed with SIGKILL at random moments under 16 writers with sync 1; no acked
// write is missing, every promotion is at the next epoch, the old active rejoins by itself, and the copies agree at the end.
// Faults: P1 (SIGKILL of the active under writes)
func TestKillActive(t *testing.T) {
	rnd := seed(t)
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1})
	active := c.Node("a")
	epoch := active.MustPromote().Epoch
	writers := cluster.StartWriters(t, c, 16, active)
	for range rounds(t, 20) {
		writers.WaitAcked(50+rnd.IntN(1000), 30*time.Second)
		active.Kill()
		others := c.Others(active.Name)
		next := others[rnd.IntN(len(others))]
		r := next.MustPromote()
		if r.Epoch != epoch+1 {
			t.Fatalf("promotion of %s came out at epoch %d after %d", next.Name, r.Epoch, epoch)
		}
		epoch = r.Epoch
		writers.Move(next)
		active.Start()
		active.WaitCaughtUp(next, 60*time.Second)
		active = next
	}
	writers.WaitAcked(100, 30*time.Second)
	writers.Stop()
	writers.Check(active)
	for _, n := range c.Others(active.Name) {
		n.WaitCaughtUp(active, 60*time.Second)
	}
	active.Verify()
}

// TestStoppedActive holds R2, R3, R9, R13 and R15: an active that stood still while another node was promoted acks nothing of its epoch any more, tells its
// clients READONLY, rejoins by itself, and keeps the suffix that nobody else had.
// Faults: P3 (SIGSTOP of the active, another one promoted, SIGCONT)
func TestStoppedActive(t *testing.T) {
	// The freeze is longer than the stall limit: waking up must not be taken for a stalled disk (P3).
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Stall: 800 * time.Millisecond})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	writers := cluster.StartWriters(t, c, 16, a)
	writers.WaitAcked(1000, 30*time.Second)
	a.Pause()
	// Whatever is acked from here on was acked by a before it stopped, and is only now read by its writer; once that is done nothing more may come.
	settled := writers.Acked()
	cluster.Until(t, 5*time.Second, func() error {
		if now := writers.Acked(); now != settled {
			settled = now
			return fmt.Errorf("acks still arrive")
		}
		return nil
	})
	r := b.MustPromote()
	before := writers.Acked()
	a.Resume()
	cluster.Until(t, 10*time.Second, func() error {
		err := a.Redis().Set(context.Background(), "stale", "write", 0).Err()
		if err == nil {
			t.Fatal("a stale active acked a write (R2)")
		}
		if !strings.HasPrefix(err.Error(), "READONLY") {
			return err
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("epoch %d, active b", r.Epoch)) {
			return fmt.Errorf("does not name epoch and active: %w", err)
		}
		return nil
	})
	// An answer that was decided before the freeze may have been on its way to the socket when it came: at most one a writer, and Check shows below that
	// each of them is in the new history.
	if late := writers.Acked() - before; late > 16 {
		t.Fatalf("%d writes of the old epoch were acked after another node was promoted (R2)", late)
	} else if late > 0 {
		t.Logf("%d answers of before the freeze arrived after it", late)
	}
	writers.Move(b)
	writers.WaitAcked(500, 30*time.Second)
	writers.Stop()
	a.WaitCaughtUp(b, 60*time.Second)
	writers.Check(b)
	b.Verify()
}

// TestDivergedSuffix holds R9: records that only the old active had are saved aside when it rejoins, listed, and exported.
func TestDivergedSuffix(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Commit: 500 * time.Millisecond})
	a, b, d := c.Node("a"), c.Node("b"), c.Node("c")
	a.MustPromote()
	ctx := context.Background()
	if err := a.Redis().Set(ctx, "kept", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	b.WaitCaughtUp(a, 30*time.Second)
	d.WaitCaughtUp(a, 30*time.Second)
	b.Pause()
	d.Pause()
	// Nobody acks: these writes go into a's log only, and their outcome is unknown (R13).
	for i := range 3 {
		err := a.Redis().Set(ctx, fmt.Sprintf("lost:%d", i), "x", 0).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN") {
			t.Fatalf("write without acks: %v, want UNKNOWN", err)
		}
	}
	a.Kill()
	b.Resume()
	d.Resume()
	b.MustPromote()
	if err := b.Redis().Set(ctx, "new", "2", 0).Err(); err != nil {
		t.Fatal(err)
	}
	a.Start()
	a.WaitCaughtUp(b, 30*time.Second)
	adm := a.Admin()
	defer adm.Close()
	saved, err := adm.Diverged(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(saved) == 0 {
		// The frozen standbys may have had the frames in their sockets and acked them in the new epoch; then nothing was given up.
		s, _ := b.Status()
		if n, err := b.Redis().Exists(ctx, "lost:0", "lost:1", "lost:2").Result(); err != nil || n != 3 {
			t.Fatalf("no suffix was saved and the records are not in the new history either: %d of 3 exist, %v, %+v", n, err, s)
		}
	} else {
		if saved[0].Records == 0 || saved[0].Reason == "" {
			t.Fatalf("saved suffix says too little: %+v", saved[0])
		}
		exportSuffix(t, a, saved[0].Name)
	}
	b.Verify()
}

// exportSuffix lists and exports a saved suffix with the real replctl.
func exportSuffix(t *testing.T, n *cluster.Node, name string) {
	t.Helper()
	replctl := func(args ...string) string {
		out, err := exec.Command(cluster.Binary(t, "replctl"), append([]string{"--socket", n.AdminSocket()}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("replctl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := replctl("diverged", "list"); !strings.Contains(out, name) {
		t.Errorf("replctl diverged list does not name %s:\n%s", name, out)
	}
	if out := replctl("diverged", "export", name); !strings.Contains(out, "lost:") {
		t.Errorf("replctl diverged export does not show the lost writes:\n%s", out)
	}
}

// TestSwitchover hands over under 16 writers, several times and in a circle: no acked write is lost and nobody is told that an outcome is unknown.
func TestSwitchover(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1})
	active := c.Node("a")
	active.MustPromote()
	for _, n := range c.Others("a") {
		n.WaitCaughtUp(active, 30*time.Second)
	}
	writers := cluster.StartWriters(t, c, 16, active)
	for _, name := range []string{"b", "c", "a"} {
		writers.WaitAcked(500, 30*time.Second)
		to := c.Node(name)
		adm := active.Admin()
		var r admin.PromoteResult
		cluster.Until(t, 30*time.Second, func() (err error) {
			r, err = adm.Switchover(context.Background(), admin.SwitchoverRequest{To: name}, nil)
			return err
		})
		adm.Close()
		if s, err := to.Status(); err != nil || s.Role != admin.RoleActive || s.Epoch != r.Epoch {
			t.Fatalf("after the switchover %s is %+v, %v", name, s, err)
		}
		writers.Move(to)
		active.WaitCaughtUp(to, 30*time.Second)
		active = to
	}
	writers.WaitAcked(100, 30*time.Second)
	writers.Stop()
	writers.Check(active)
	active.Verify()
}

// TestPromoteRefused holds R5: without the old active and with too few members of the sync set a promotion is refused with the reason, and consented
// to it says what is given up.
// Faults: H6 (the active and one of two members killed, the other one told to be promoted)
func TestPromoteRefused(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1})
	a, b := c.Node("a"), c.Node("b")
	a.MustPromote()
	b.WaitCaughtUp(a, 30*time.Second)
	c.Node("c").WaitCaughtUp(a, 30*time.Second)
	a.Kill()
	c.Node("c").Kill()
	before, err := b.Status()
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Promote(admin.PromoteRequest{})
	refused, ok := err.(*admin.Error)
	if !ok || refused.Code != admin.CodeRefused || len(r.Reasons) == 0 {
		t.Fatalf("promotion with 1 of 2 members: %+v, %v", r, err)
	}
	if after, err := b.Status(); err != nil || after.Epoch != before.Epoch {
		t.Fatalf("a refused promotion changed the epoch from %d to %d (%v)", before.Epoch, after.Epoch, err)
	}
	k := 0
	r, err = b.Promote(admin.PromoteRequest{AllowDataLoss: true, Sync: &k})
	if err != nil || !r.Allowed || r.LossSaid == "" {
		t.Fatalf("promotion with consent: %+v, %v", r, err)
	}
	if err := b.Redis().Set(context.Background(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestPromoteTwiceAtOnce holds R2 and H7: two nodes promoted at the same time end with one active in the highest epoch.
// Faults: H7 (two real nodes promoted at once)
func TestPromoteTwiceAtOnce(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1})
	c.Node("a").MustPromote()
	for _, n := range c.Others("a") {
		n.WaitCaughtUp(c.Node("a"), 30*time.Second)
	}
	c.Node("a").Kill()
	results := make(chan error, 2)
	for _, n := range c.Others("a") {
		go func() {
			_, err := n.Promote(admin.PromoteRequest{})
			results <- err
		}()
	}
	if first, second := <-results, <-results; first != nil && second != nil {
		t.Logf("each fenced the other: %v; %v", first, second)
		c.Others("a")[0].MustPromote() // nobody is active, and the next word of a person is obeyed
	}
	cluster.Until(t, 20*time.Second, func() error {
		var active []string
		var epochs []wal.Epoch
		for _, n := range c.Others("a") {
			s, err := n.Status()
			if err != nil {
				return err
			}
			epochs = append(epochs, s.Epoch)
			if s.Role == admin.RoleActive {
				active = append(active, n.Name)
			}
		}
		if len(active) != 1 || epochs[0] != epochs[1] {
			return fmt.Errorf("active %v, epochs %v", active, epochs)
		}
		return nil
	})
}
