package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/durable"
	"repld/wal"
)

// A drill promotes a fork of a standby and measures how long that takes:
//
//	checkpoint of the state ──links──> DATA/drill/groups/GROUP/state     tables are hard links and never written; everything else is copied
//	log behind it ──────────copied──> DATA/drill/groups/GROUP/wal
//	                                  a node of its own on that: cluster "drill-…", no peers, no listener but one unix socket for the probe, its own epoch file and token
//
// The fork's epochs mean nothing to anybody else: no node of another cluster name is talked to (R11), and nothing of the fork can be reached from outside. The live state is read and
// linked, never opened. What a crash leaves is removed at the next start, before anything is opened, and before the next drill.

const (
	drillDir   = "drill"
	alarmDrill = "drill"

	// drillLimit bounds a drill.
	drillLimit = 30 * time.Minute
	// drillBatch is how much of the log is copied at once.
	drillBatch = 4 << 20
)

// DrillOptions say when a standby drills, and with what.
type DrillOptions struct {
	Every   time.Duration // between two drills. Default 0: only at a person's word
	Command []string      // after the fork answered SET and GET: program and arguments; it gets {"socket": …} on standard input
	Timeout time.Duration // of Command. Default 10 s
	RTO     time.Duration // objective: longest time from the loss of the active to the first answer. 0: none
	RPO     time.Duration // objective: longest time of writes that may be missing; negative: none
}

// newDrill describes this drill's fork.
func (g *group) newDrill() *drill {
	return &drill{g: g, fs: linkedFS{g.o.FS}, dir: g.o.FS.PathJoin(g.o.Dir, drillDir)}
}

type drill struct {
	g   *group
	fs  vfs.FS
	dir string
	out admin.DrillResult
}

// removeDrill removes what a drill left. The directory is this node's alone: nothing else is ever put there.
func removeDrill(fs vfs.FS, dir string) error {
	path := fs.PathJoin(dir, drillDir)
	if !exists(fs, path) {
		return nil
	}
	if err := fs.RemoveAll(path); err != nil {
		return fmt.Errorf("remove what a drill left in %s: %w", path, err)
	}
	return durable.SyncDir(fs, dir)
}

// errDrilling refuses a second drill.
var errDrilling = &admin.Error{Code: admin.CodeRefused, Message: "a drill is going on on this node already"}

// drill runs one drill on this node. An error is a drill that could not be carried through; objectives that are missed are in the result.
func (g *group) drill(ctx context.Context, scheduled bool, emit func(string)) (admin.DrillResult, error) {
	if g.active() && len(g.o.Peers) > 0 {
		return admin.DrillResult{}, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("node %s is the active: a drill is for a standby", g.o.Name)}
	}
	if why := g.state.lacking(); why != "" {
		return admin.DrillResult{}, &admin.Error{Code: admin.CodeRefused, Message: "this node has no state now: " + why}
	}
	if !g.drills.running.TryLock() {
		return admin.DrillResult{}, errDrilling
	}
	defer g.drills.running.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, drillLimit, fmt.Errorf("the drill took longer than %s", drillLimit))
	defer cancel()
	d := g.newDrill()
	d.out = admin.DrillResult{Node: g.o.Name, Scheduled: scheduled, At: time.Now(), ObjectiveRTO: g.o.Drill.RTO.Seconds(), ObjectiveRPO: g.o.Drill.RPO.Seconds()}
	err := removeDrill(g.o.FS, g.o.Dir)
	if err == nil {
		err = d.run(ctx, emit)
		err = errors.Join(err, removeDrill(g.o.FS, g.o.Dir))
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		d.out.Error = err.Error()
	}
	d.judge()
	g.drilled(d.out)
	return d.out, err
}

func (d *drill) run(ctx context.Context, emit func(string)) error {
	d.exposure(ctx)
	began := time.Now()
	at, end, err := d.fork(ctx)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	d.out.Position, d.out.End, d.out.Records, d.out.ForkSeconds = at, end, uint64(end.LSN-at.LSN), time.Since(began).Seconds()
	emit(fmt.Sprintf("forked: state at LSN %d, log up to LSN %d, in %.2f s", at.LSN, end.LSN, d.out.ForkSeconds))
	d.stage("forked")
	return d.serve(ctx, emit)
}

// stage is a place where tests look.
func (d *drill) stage(name string) {
	if at := d.g.drills.at; at != nil {
		at(name)
	}
}

// exposure notes what this node would lose if the active were gone now: committed there, not durable here. Nobody is asked in a real promotion either, if this node is all that is left.
func (d *drill) exposure(ctx context.Context) {
	g := d.g
	holder := g.otherHolder()
	if holder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s := g.peers.status(ctx, holder)
	have := g.log.Durable()
	switch {
	case s.Error != "":
		d.out.Unknown = append(d.out.Unknown, fmt.Sprintf("the active, %s, was not heard (%s): what it has that this node lacks is not known", holder, s.Error))
	case s.Committed > have.LSN:
		d.out.RPORecords, d.out.RPO = uint64(s.Committed-have.LSN), max(g.age(have.LSN), 1e-3)
	}
}

// fork makes the sandbox's files.
func (d *drill) fork(ctx context.Context) (at, end wal.Position, err error) {
	g := d.g
	if usage, err := g.o.FS.GetDiskUsage(g.o.Dir); err == nil && usage.AvailBytes < uint64(2*g.log.Bytes()+g.o.DiskReserve) {
		return at, end, fmt.Errorf("%d bytes free on the disk are too few for a copy of the log", usage.AvailBytes)
	}
	home := d.fs.PathJoin(d.dir, "groups", g.o.Group)
	if err := durable.MakeDir(d.fs, d.fs.PathJoin(home, "state")); err != nil {
		return at, end, err
	}
	if at, err = d.forkState(ctx, d.fs.PathJoin(home, "state")); err != nil {
		return at, end, err
	}
	id, err := newIdentity(d.cluster(), "drill", time.Now())
	if err != nil {
		return at, end, err
	}
	if end, err = d.forkLog(ctx, d.fs.PathJoin(home, "wal"), id, at); err != nil {
		return at, end, err
	}
	if err := writeIdentity(d.fs, d.dir, id); err != nil {
		return at, end, err
	}
	slots, _, err := failover.OpenSlots(failover.SlotsOptions{FS: d.fs, Dir: home, Name: "epoch", Create: true})
	if err != nil {
		return at, end, err
	}
	fence := failover.NewFence(slots)
	if end.Epoch > 0 {
		err = fence.Grant(end.Epoch, "drill", wal.SyncSet{Version: 1})
	}
	if err == nil {
		err = fence.SetVoter(true)
	}
	return at, end, errors.Join(err, fence.Close())
}

// cluster is the fork's name: no other cluster may have it, for a dash is followed by nothing that a person would choose.
func (d *drill) cluster() string {
	name := "drill-of-" + d.g.o.Cluster
	return name[:min(len(name), 32)]
}

// forkState links the tables of a checkpoint, and copies what Pebble may write to.
func (d *drill) forkState(ctx context.Context, to string) (wal.Position, error) {
	snap, err := d.g.newSnapshot(ctx)
	if err != nil {
		return wal.Position{}, err
	}
	defer snap.Release()
	fs := d.g.o.FS
	for _, f := range snap.Manifest().Files {
		from, into := fs.PathJoin(snap.Dir(), f.Name), fs.PathJoin(to, f.Name)
		if strings.HasSuffix(f.Name, ".sst") {
			err = fs.Link(from, into)
		} else {
			err = vfs.Copy(fs, from, into)
		}
		if err != nil {
			return wal.Position{}, err
		}
	}
	return snap.Manifest().Position, nil
}

// forkLog writes the log behind the state, durable frames only, as a log of the fork's own.
func (d *drill) forkLog(ctx context.Context, to string, id identity, at wal.Position) (wal.Position, error) {
	g := d.g
	if err := durable.MakeDir(d.fs, to); err != nil {
		return at, err
	}
	log, _, err := wal.Open(wal.Options{
		FS: d.fs, Dir: to, Identity: wal.Identity{Cluster: d.cluster(), Group: g.o.Group, Incarnation: id.incarnation()},
		SegmentBytes: g.o.SegmentBytes, MaxFrameBytes: g.o.MaxFrameBytes, Logger: g.logger,
	})
	if err != nil {
		return at, err
	}
	if err := log.Reset(at, wal.SaveOptions{}); err != nil {
		return at, errors.Join(err, log.Close())
	}
	err = d.copyFrames(ctx, log, at)
	end := log.End()
	return end, errors.Join(err, log.Close())
}

func (d *drill) copyFrames(ctx context.Context, log *wal.Log, at wal.Position) error {
	limit := d.g.log.Durable().LSN
	r, err := d.g.log.NewReader(at.LSN)
	if err != nil {
		return err
	}
	defer r.Close()
	var batch []*wal.Frame
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := log.AppendFrames(batch)
		batch, size = batch[:0], 0
		return err
	}
	for ctx.Err() == nil {
		f, err := r.TryNext()
		if err != nil {
			return err
		}
		if f == nil || f.Last() > limit {
			return flush()
		}
		batch = append(batch, f)
		if size += len(f.Bytes); size >= drillBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// serve opens the fork, lets it promote itself, and probes it.
func (d *drill) serve(ctx context.Context, emit func(string)) (err error) {
	opened := time.Now()
	n, err := Open(d.options())
	if err != nil {
		return fmt.Errorf("open the fork: %w", err)
	}
	d.out.OpenSeconds = time.Since(opened).Seconds()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var why error // of its end
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		why = n.Run(running)
	}()
	defer func() {
		stop()
		if <-ended; why != nil {
			err = errors.Join(err, fmt.Errorf("the fork ended with: %w", why))
		}
	}()
	select {
	case <-n.Ready():
	case <-ended:
		return errors.New("the fork could not be run")
	}
	d.stage("opened")
	socket, closeSocket, err := d.listen(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSocket()) }()
	if err := d.probe(ctx, socket, ended); err != nil {
		return err
	}
	d.out.ServeSeconds = time.Since(opened).Seconds()
	d.out.ReplaySeconds = time.Duration(n.group.replayTook.Load()).Seconds()
	if d.out.ReplaySeconds > 0 {
		d.out.ReplayRate = float64(d.out.Records) / d.out.ReplaySeconds
	}
	d.out.Epoch = n.group.fence.Epoch()
	d.out.Keys = n.group.nodeStatus().Keys
	emit(fmt.Sprintf("the fork served after %.3f s: opened in %.3f s, %d records replayed in %.3f s", d.out.ServeSeconds, d.out.OpenSeconds, d.out.Records, d.out.ReplaySeconds))
	d.stage("served")
	return d.command(ctx, socket)
}

// options are those of the fork: as this node's where it matters for time, and nothing of what reaches others.
func (d *drill) options() Options {
	o := d.g.o
	return Options{
		Cluster: d.cluster(), Name: "drill", Group: o.Group, Dir: d.dir, FS: d.fs, Version: o.Version, Codec: o.Codec, SegmentBytes: o.SegmentBytes, MaxFrameBytes: o.MaxFrameBytes,
		CacheBytes: min(o.CacheBytes, 32<<20), MemTableBytes: min(o.MemTableBytes, 16<<20), StallLimit: o.StallLimit, LogBudget: o.LogBudget,
		Verify: VerifyOptions{Every: -1}, Drill: DrillOptions{}, Logger: d.g.logger.With("drill", true),
	}
}

// judge holds the figures against the objectives.
func (d *drill) judge() {
	o, out := d.g.o, &d.out
	if len(o.Peers) > 0 && o.Failover.Mode == FailoverAutomatic {
		out.DetectSeconds = o.Failover.Suspect.Seconds()
	}
	out.RTO = out.DetectSeconds + out.ServeSeconds
	out.Took = time.Since(out.At).Seconds()
	if out.Error != "" {
		out.Missed = append(out.Missed, "the drill did not come to its end")
	} else if rto := o.Drill.RTO.Seconds(); rto > 0 && out.RTO > rto {
		out.Missed = append(out.Missed, fmt.Sprintf("RTO: %.3f s, the objective is %.3f s", out.RTO, rto))
	}
	switch rpo := o.Drill.RPO.Seconds(); {
	case rpo < 0:
	case len(out.Unknown) > 0:
		out.Missed = append(out.Missed, "RPO: not known")
	case out.RPO > rpo:
		out.Missed = append(out.Missed, fmt.Sprintf("RPO: %d committed records of %.3f s were missing, the objective is %.3f s", out.RPORecords, out.RPO, rpo))
	}
	out.OK = len(out.Missed) == 0
	slices.Sort(out.Missed)
}

// linkedFS keeps everybody from writing into a table, which may be a link to one of the live state.
type linkedFS struct{ vfs.FS }

var errLinked = errors.New("tables of a fork are links to live ones and are not written to")

// OpenReadWrite implements vfs.FS.
func (f linkedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") {
		return nil, fmt.Errorf("%s: %w", name, errLinked)
	}
	return f.FS.OpenReadWrite(name, c, opts...)
}

// ReuseForWrite implements vfs.FS.
func (f linkedFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(old, ".sst") {
		return nil, fmt.Errorf("%s: %w", old, errLinked)
	}
	return f.FS.ReuseForWrite(old, name, c)
}

// Create implements vfs.FS. A table that is there is unlinked first: making one anew must not cut the live one.
func (f linkedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") && exists(f.FS, name) {
		if err := f.FS.Remove(name); err != nil {
			return nil, err
		}
	}
	return f.FS.Create(name, c)
}
