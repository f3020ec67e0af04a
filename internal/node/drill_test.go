package node

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/kv"
)

func (m *member) drilled(t *testing.T) (admin.DrillResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return m.group.drill(ctx, false, func(string) {})
}

// tables reads the live tables of a node.
func (c *cluster) tables(name string) map[string]string {
	c.t.Helper()
	fs, dir := c.disks[name], "data/groups/default/state"
	names, err := fs.List(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]string{}
	for _, n := range names {
		if strings.HasSuffix(n, ".sst") {
			all[n] = string(whole(c.t, fs, fs.PathJoin(dir, n)))
		}
	}
	return all
}

func whole(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

// A lagged standby's drill replays what is not applied, serves, and leaves nothing behind: neither in its state, nor in its log, nor on the disk; and the cluster has not noticed.
func TestDrill(t *testing.T) {
	t.Parallel()
	c := three(t, func(name string, o *Options) {
		laggedC(name, o)
		o.Drill = DrillOptions{RTO: time.Minute}
	})
	a, lag := c.nodes["a"], c.nodes["c"]
	a.load(t, 2000)
	c.settled("a")
	before, digest := c.tables("c"), lag.group.state.applied()
	log := lag.group.log.End()
	r, err := lag.drilled(t)
	if err != nil || !r.OK || r.Error != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Records == 0 || r.End != log || r.Keys != 2000+1 || r.ReplayRate <= 0 || r.RTO <= 0 || r.RPORecords != 0 || r.Probe != "SET and GET" {
		t.Errorf("%+v", r)
	}
	if r.Epoch <= log.Epoch {
		t.Errorf("the fork wrote in epoch %d", r.Epoch)
	}
	if got := lag.group.state.applied(); got != digest {
		t.Errorf("the live state moved from %s to %s", digest, got)
	}
	if e := a.group.fence.Epoch(); e != log.Epoch || lag.group.fence.Epoch() != e {
		t.Errorf("epochs after the drill: %d and %d, before %d", e, lag.group.fence.Epoch(), log.Epoch)
	}
	after := c.tables("c")
	for n, text := range before {
		if after[n] != text {
			t.Errorf("table %s was changed", n)
		}
	}
	if exists(c.disks["c"], "data/drill") {
		t.Error("the fork is still there")
	}
	a.mustSet("goes on")
	c.settled("a")
	if s := lag.group.nodeStatus().Drill; s == nil || !s.OK {
		t.Errorf("status: %+v", s)
	}
	if _, err := a.drilled(t); !refused(err) {
		t.Errorf("a drill on the active: %v", err)
	}
	// Asked of the active, a standby drills.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if r, err := a.api().Drill(ctx, admin.DrillRequest{}, ignore); err != nil || r.Node == "a" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := a.api().Drill(ctx, admin.DrillRequest{Node: "c"}, ignore); err != nil || r.Node != "c" {
		t.Errorf("%+v, %v", r, err)
	}
}

// Objectives that cannot be met are missed, with an alarm that the next good drill clears; an active that is not heard makes the RPO unknown, which is no success.
func TestDrillMisses(t *testing.T) {
	t.Parallel()
	c := three(t, func(_ string, o *Options) { o.Drill = DrillOptions{RTO: time.Nanosecond} })
	b := c.nodes["b"]
	c.nodes["a"].load(t, 200)
	c.settled("a")
	r, err := b.drilled(t)
	if err != nil || r.OK || len(r.Missed) != 1 || !strings.HasPrefix(r.Missed[0], "RTO: ") {
		t.Fatalf("%+v, %v", r, err)
	}
	if b.group.alarms.get(alarmDrill) == "" {
		t.Error("no alarm")
	}
	b.group.o.Drill.RTO = time.Minute
	if r, err := b.drilled(t); err != nil || !r.OK {
		t.Fatalf("%+v, %v", r, err)
	}
	if text := b.group.alarms.get(alarmDrill); text != "" {
		t.Error(text)
	}
	c.wire.partition()
	if r, err := b.drilled(t); err != nil || r.OK || !slices.Contains(r.Missed, "RPO: not known") {
		t.Fatalf("%+v, %v", r, err)
	}
	c.wire.heal()
}

// The command gets the fork's socket and its failure is the drill's.
func TestDrillCommand(t *testing.T) {
	t.Parallel()
	c := three(t, func(_ string, o *Options) {
		o.Drill = DrillOptions{RTO: time.Minute, Command: []string{"/bin/sh", "-c", "cat; exit 7"}}
	})
	c.settled("a")
	r, err := c.nodes["b"].drilled(t)
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || r.OK || !strings.Contains(r.Probe, "socket") {
		t.Fatalf("%+v, %v", r, err)
	}
	if exists(c.disks["b"], "data/drill") {
		t.Error("the fork of a drill that failed is still there")
	}
}

// Killed at any stage of a drill (a clone of the disk as kill -9 leaves it), the node opens as if there had been none: the fork is gone, the live state and log are what they were.
func TestDrillKilled(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	c := newCluster(t, 1, func(name string, o *Options) {
		laggedC(name, o)
		o.Drill = DrillOptions{RTO: time.Minute}
	}, "a", "b", "c")
	c.disks["c"] = mem
	c.start()
	c.promote("a")
	c.settled("a")
	a, lag := c.nodes["a"], c.nodes["c"]
	a.load(t, 500)
	c.settled("a")
	clones := map[string]*vfs.MemFS{}
	lag.group.drills.at = func(stage string) {
		clones[stage] = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	}
	if r, err := lag.drilled(t); err != nil || !r.OK {
		t.Fatalf("%+v, %v", r, err)
	}
	end, applied := lag.group.log.End(), lag.group.state.applied()
	if len(clones) != 3 {
		t.Fatalf("stages: %v", clones)
	}
	for stage, fs := range clones {
		t.Run(stage, func(t *testing.T) {
			if !exists(fs, "data/drill/groups/default/state") {
				t.Fatal("there is no fork: the test shows nothing")
			}
			o := c.options("c")
			o.FS = fs
			o.Listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
			o.Logger = nil
			if _, err := kv.VerifyDir(t.Context(), fs, "data/groups/default/state", nil); err != nil {
				t.Fatal(err)
			}
			n, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if exists(fs, "data/drill") {
				t.Error("the fork is still there")
			}
			if n.group.log.End() != end || n.group.state.applied() != applied || n.group.fence.Epoch() != lag.group.fence.Epoch() {
				t.Errorf("log %s, state %s, epoch %d; want %s, %s, %d", n.group.log.End(), n.group.state.applied(), n.group.fence.Epoch(), end, applied, lag.group.fence.Epoch())
			}
		})
	}
}

// Nobody writes into a table of a fork.
func TestLinkedFS(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.Create("live.sst", vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write([]byte("rows"))
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = mem.Link("live.sst", "fork.sst")
	}
	if err != nil {
		t.Fatal(err)
	}
	fs := linkedFS{mem}
	if _, err := fs.OpenReadWrite("fork.sst", vfs.WriteCategoryUnspecified); err == nil {
		t.Error("a linked table was opened for writing")
	}
	if _, err := fs.ReuseForWrite("fork.sst", "other.sst", vfs.WriteCategoryUnspecified); err == nil {
		t.Error("a linked table was used again")
	}
	f, err = fs.Create("fork.sst", vfs.WriteCategoryUnspecified)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := string(whole(t, mem, "live.sst")); got != "rows" {
		t.Errorf("the live table holds %q", got)
	}
}
