package torture

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

var built struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set("6") // scenarios mostly wait
	}
	redis.SetLogger(&logging.VoidLogger{}) // clients of killed nodes have much to say
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// repld builds the daemon with failpoints, once.
func repld(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "torturebin"); built.err != nil {
			return
		}
		if out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", built.dir+"/", "repld/cmd/repld").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "repld")
}

// runShort runs the short form of a scenario: one round of each of its faults. NIGHTLY=1 gives each a minute.
func runShort(t *testing.T, name string, inShort bool) {
	t.Parallel() // mostly waiting
	if testing.Short() && !inShort {
		t.Skip("takes too long for -short")
	}
	o := Options{Repld: repld(t), Dir: t.TempDir(), Budget: time.Second, Pace: 4 * time.Millisecond, Scenarios: []string{name}}
	if testing.Short() {
		o.Budget = 200 * time.Millisecond
	}
	if os.Getenv("NIGHTLY") == "1" {
		o.Budget, o.Pace = time.Minute, 0
	}
	if s := os.Getenv("REPLD_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		o.Seed = n
	}
	var said bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	r.Table(&table)
	t.Logf("again with REPLD_SEED=%d go test ./internal/torture -run '^%s$'\n%s", r.Seed, t.Name(), table.String())
	switch row := r.Rows[0]; {
	case row.Result == Skipped:
		t.Skipf("%s: %s", name, row.Why)
	case row.Result != Passed:
		t.Errorf("%s\n%s", row.Why, said.String())
	case row.Acked == 0 || row.Rounds == 0:
		t.Errorf("nothing happened: %+v", row)
	}
}

// TestKill holds R1, R2, R7, R13 and R15 while nodes are killed at random moments and while they recover.
// Faults: P1, P2 (SIGKILL of real processes at random); P5 (the SIGKILL that the kernel would send)
func TestKill(t *testing.T) { runShort(t, "kill", true) }

// TestFailpoints holds the same at named steps.
// Faults: P1 (SIGKILL of real processes at named steps of write, sync, send, ack, apply, flush, manifest, promotion)
func TestFailpoints(t *testing.T) { runShort(t, "failpoints", false) }

// TestRestartLoop holds that a crash loop uses up no epoch and no disk.
// Faults: P6 (real processes in a crash loop, standby and active); P2 (killed while they start)
func TestRestartLoop(t *testing.T) { runShort(t, "restart-loop", false) }

// TestFreeze holds R2, R3, R9 and R15 for an active that stood still.
// Faults: P3 (SIGSTOP and SIGCONT of the active, promotion in between); H9 (its suffix is set aside)
func TestFreeze(t *testing.T) { runShort(t, "freeze", true) }

// TestAutomatic holds R1, R2, R5, R14 and R15 without a person.
// Faults: P1 (SIGKILL of the active, automatic failover); P3 (SIGSTOP and SIGCONT of the active, automatic failover, reads linearizable)
func TestAutomatic(t *testing.T) { runShort(t, "automatic", false) }

// TestAutomaticFile holds the same with the token in a shared folder: no two actives commit in overlapping time (R2).
// Faults: P1, P3 (automatic failover with the file store)
func TestAutomaticFile(t *testing.T) { runShort(t, "automatic-file", false) }

// TestAutomaticEtcd holds the same with the token in etcd.
// Faults: P1, P3 (automatic failover with the etcd store)
func TestAutomaticEtcd(t *testing.T) { runShort(t, "automatic-etcd", false) }

// TestSaturation holds that a cluster which is slow or hears badly does not fail over with the defaults.
// Faults: P4 (CPU and disk saturated: no false failover); W5 (20 % of all packets lost, automatic failover: none happens)
func TestSaturation(t *testing.T) { runShort(t, "saturation", false) }

// TestPowerAlone holds R1 and R8 on a real ext4.
// Faults: D2, D21 (power cuts by FS_IOC_SHUTDOWN, all threads stopped, one node on one disk)
func TestPowerAlone(t *testing.T) { runShort(t, "power-alone", true) }

// TestPower holds R1, R3 and R8 on a real ext4, promotions included.
// Faults: D2, D21 (power cuts of one node of three, also at failpoints); D22 (of a candidate: its epoch file is not older than what it was granted)
func TestPower(t *testing.T) { runShort(t, "power", false) }

// TestLossy holds R1 and R10 on a disk that keeps unsynced writes in any order, or drops what a failed sync was to make durable.
// Faults: D2 (FUSE: power cuts that keep any of the unsynced writes); D4 (FUSE: a failed sync that drops its pages); D16 (FUSE: slow syncs)
func TestLossy(t *testing.T) { runShort(t, "lossy", false) }

// TestWire holds R1, R2, R4 and R12 over bad links.
// Faults: W1, W2 (links held by a proxy); W4 (reset and refused at random); W6 (delay); W7 (20 bytes a second); W8 (both directions held); W11 (bits flipped)
func TestWire(t *testing.T) { runShort(t, "wire", false) }

// TestPartition holds R2 and R5 in network namespaces.
// Faults: W1, W2 (nftables, both ways and one way); W5 (1 to 20 % of packets dropped); H8 (promotion on both sides)
func TestPartition(t *testing.T) { runShort(t, "partition", false) }

// TestStrace holds R10 and R12 with system calls that fail or hang.
// Faults: D4 (EIO of fdatasync); D5 (ENOSPC of pwrite64); D17 (fdatasync that does not return)
func TestStrace(t *testing.T) { runShort(t, "strace", false) }

// TestFullDisk holds R10 and R12 on disks that are full or read-only.
// Faults: D3, D5, D6 (tmpfs that is full, its last write cut short); D18 (ext4 remounted with abort)
func TestFullDisk(t *testing.T) { runShort(t, "full-disk", false) }

// TestOperator holds R5 and R11 against what people do.
// Faults: H2 (an old copy of the node's directory put back); D23 (directory removed); H10 (a second process); H3 (another node's directory); P7 (descriptors taken);
// P8 (a command of a real process panics under the sequencer's lock)
func TestOperator(t *testing.T) { runShort(t, "operator", false) }

// TestReport holds that a skipped scenario covers nothing, and a failed one neither.
func TestReport(t *testing.T) {
	r := &Report{Rows: []Row{
		{Scenario: "x", Result: Passed, Faulted: []string{"P10", "P2"}, Kills: 3, Acked: 5},
		{Scenario: "y", Result: Skipped, Why: "no root", Faulted: []string{"D2", "P2"}},
		{Scenario: "z", Result: Failed, Why: "lost", Faulted: []string{"D4"}, Lost: 1, Acked: 2},
	}}
	r.finish()
	if got := fmt.Sprint(r.Covered, r.Not, r.OK(), r.Total.Kills, r.Total.Acked, r.Total.Lost); got != "[P2 P10] [D2 D4] false 3 7 1" {
		t.Error(got)
	}
	var b bytes.Buffer
	r.Table(&b)
	for _, want := range []string{"covered: P2 P10\n", "not covered: D2 D4\n", "y skipped: no root\n", "z FAILED: lost\n"} {
		if !bytes.Contains(b.Bytes(), []byte(want)) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

// TestOptions holds that what cannot work is said before anything is started.
func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no binary": {Dir: t.TempDir()}, "no folder": {Repld: os.Args[0]}, "no such binary": {Repld: "/no/such/repld", Dir: t.TempDir()},
		"no such scenario": {Repld: os.Args[0], Dir: t.TempDir(), Scenarios: []string{"earthquake"}},
	} {
		o.EnsureDefaults()
		if err := o.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestRestore holds that a restore has the digest that was recorded at its moment, whoever is killed on the way: nodes that make backups, the object store, restoring processes; all nodes are
// wiped in each round.
// Faults: P1, P2 (SIGKILL of real processes); D23 (all nodes wiped)
func TestRestore(t *testing.T) {
	dir := filepath.Dir(repld(t))
	if out, err := exec.Command("go", "build", "-o", dir+"/", "repld/cmd/replctl", "repld/tools/s3store").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	runShort(t, "restore", false)
}
