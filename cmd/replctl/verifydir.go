package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/config"
	"repld/internal/kv"
	"repld/internal/node"
	"repld/snapshot"
	"repld/wal"
)

// Verdicts of a check.
const (
	verdictOK      = "ok"
	verdictDamaged = "DAMAGED"
	verdictUnknown = "unknown" // could not be looked at
	verdictSkipped = "skipped" // does not apply here
)

// check is one thing that was looked at.
type check struct {
	What    string `json:"what"`
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
}

// dirReport is what verifying a data directory found.
type dirReport struct {
	Dir    string        `json:"dir"`
	OK     bool          `json:"ok"`
	Groups []groupReport `json:"groups"`
}

type groupReport struct {
	Group  string       `json:"group"`
	Log    wal.Position `json:"log_end"`
	Start  wal.Position `json:"log_start"`
	State  wal.Position `json:"state"`
	Checks []check      `json:"checks"`
}

func (g *groupReport) add(what, verdict, format string, args ...any) {
	g.Checks = append(g.Checks, check{What: what, Verdict: verdict, Detail: fmt.Sprintf(format, args...)})
}

// fault adds err as damage, or as unknown when it says that nothing could be looked at.
func (g *groupReport) fault(what string, err error) {
	verdict := verdictDamaged
	if errors.Is(err, kv.ErrInUse) || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		verdict = verdictUnknown
	}
	g.add(what, verdict, "%v", err)
}

// verifyDir verifies every group below dir, which may also be the directory of one group.
func (a *app) verifyDir(ctx context.Context, dir string, replay bool) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	groups, err := groupDirs(dir)
	if err != nil {
		return err
	}
	report := dirReport{Dir: dir}
	for _, path := range groups {
		g := verifyGroup(ctx, path, replay)
		if path != dir {
			verifyIdentity(&g, dir)
		}
		report.Groups = append(report.Groups, g)
	}
	return a.emitDir(report)
}

// dirCode: damage weighs more than what could not be looked at.
func dirCode(r dirReport) int {
	code := exitOK
	for _, g := range r.Groups {
		for _, c := range g.Checks {
			switch c.Verdict {
			case verdictDamaged:
				return exitDifference
			case verdictUnknown:
				code = exitError
			}
		}
	}
	return code
}

// groupDirs finds the groups of a data directory; a directory with a log of its own is a group.
func groupDirs(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, "wal")); err == nil {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(filepath.Join(dir, "groups"))
	if err != nil {
		return nil, fmt.Errorf("%s is no data directory of repld: %w", dir, err)
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, "groups", e.Name()))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no group", dir)
	}
	return out, nil
}

func verifyGroup(ctx context.Context, dir string, replay bool) groupReport {
	g := groupReport{Group: filepath.Base(dir)}
	verifyEpoch(&g, dir)
	state, haveState := verifyState(ctx, &g, dir)
	verifyLog(ctx, &g, dir, state, haveState, replay)
	verifyIncoming(&g, dir)
	verifyDiverged(&g, dir)
	verifyCheckpoints(ctx, &g, dir)
	return g
}

func verifyIdentity(g *groupReport, dir string) {
	who, err := node.CheckIdentity(vfs.Default, dir)
	if errors.Is(err, fs.ErrNotExist) {
		g.add("identity", verdictSkipped, "there is none: no node has run here")
		return
	}
	if err != nil {
		g.fault("identity", err)
		return
	}
	g.add("identity", verdictOK, "%s", who)
}

// verifyEpoch opens a copy of the slots in memory, because opening repairs.
func verifyEpoch(g *groupReport, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "epoch"))
	if err != nil {
		g.fault("epoch", err)
		return
	}
	mem := vfs.NewMem()
	f, err := mem.Create("epoch", vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		g.fault("epoch", err)
		return
	}
	slots, rec, err := failover.OpenSlots(failover.SlotsOptions{FS: mem, Dir: "/"})
	if err != nil {
		g.fault("epoch", err)
		return
	}
	defer slots.Close()
	if len(rec.Bad) > 0 {
		g.fault("epoch", errors.Join(rec.Bad...))
		return
	}
	s := slots.State()
	g.add("epoch", verdictOK, "epoch %d held by %s, sync set %s, voter %v", s.Epoch(), dash(s.Holder()), s.Sync(), s.Voter)
}

func verifyState(ctx context.Context, g *groupReport, dir string) (kv.Digest, bool) {
	path := filepath.Join(dir, "state")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		g.add("state", verdictSkipped, "there is none yet")
		return kv.Digest{}, false
	}
	start := time.Now()
	rep, err := kv.VerifyDir(ctx, vfs.Default, path, nil)
	g.State = rep.Position
	for _, p := range rep.Problems {
		g.add("state", verdictDamaged, "%s", p)
	}
	if err != nil {
		if len(rep.Problems) == 0 {
			g.fault("state", err)
		}
		return kv.Digest{}, false
	}
	d := rep.Digest
	g.add("state", verdictOK, "%s, %.1f s", stateText(rep, false), time.Since(start).Seconds())
	return d, true
}

func verifyIncoming(g *groupReport, dir string) {
	path := filepath.Join(dir, "state.new")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return
	}
	m, err := snapshot.ReadManifest(vfs.Default, path)
	if err == nil {
		err = snapshot.Check(vfs.Default, path, m)
	}
	if err != nil {
		g.fault("snapshot", err)
		return
	}
	g.add("snapshot", verdictOK, "%s at %s waits for installation, %d files, %s", m.ID, m.Position, len(m.Files), bytesText(m.Bytes()))
}

// verifyDiverged reads every frame that was set aside.
func verifyDiverged(g *groupReport, dir string) {
	all, err := wal.ListDiverged(vfs.Default, filepath.Join(dir, "diverged"))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(all) == 0) {
		return
	}
	if err != nil {
		g.fault("diverged", err)
		return
	}
	for _, d := range all {
		if err := eachDiverged(d.Path, func(*wal.Frame) error { return nil }); err != nil {
			g.fault("diverged", fmt.Errorf("%s: %w", filepath.Base(d.Path), err))
			continue
		}
		g.add("diverged", verdictOK, "%s: LSN %d to %d, %s", filepath.Base(d.Path), d.From.LSN+1, d.To.LSN, plural(d.Records, "record"))
	}
}

func dirTable(w io.Writer, r dirReport) {
	for _, g := range r.Groups {
		fmt.Fprintf(w, "%s, group %s\n", r.Dir, g.Group)
		rows := make([][]string, 0, len(g.Checks))
		for _, c := range g.Checks {
			rows = append(rows, []string{c.What, c.Verdict, c.Detail})
		}
		table(w, []string{"CHECK", "VERDICT", "DETAIL"}, rows)
	}
	switch dirCode(r) {
	case exitOK:
		fmt.Fprintln(w, "\nverify: ok")
	case exitError:
		fmt.Fprintln(w, "\nverify: INCOMPLETE, not everything could be looked at")
	default:
		fmt.Fprintln(w, "\nverify: FAILED, see above")
	}
}

// parseRate reads --rate.
func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := config.ParseSize(text)
	if err != nil {
		return 0, usageError("--rate: %v", err)
	}
	return int64(n), nil
}
