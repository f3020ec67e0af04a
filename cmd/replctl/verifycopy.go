package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/archive"
	"repld/internal/kv"
	"repld/snapshot"
)

// What can be verified without a node is told by what it holds:
//
//	file://… or s3://…        an archive: every object of every backup, all of the archived log
//	DIR/CLUSTER/GROUP/about.json   the same archive, by its folder
//	DIR/snapshot.json         a checkpoint or snapshot with its manifest: every file by its hash, then the state in it
//	DIR/marker.manifest…      a bare state
//	DIR/groups, DIR/wal       the data directory of a node, or of one group
func (a *app) verifyCopy(ctx context.Context, what string, f archiveFlags) (bool, error) {
	if strings.Contains(what, "://") {
		f.url = what
		return true, a.verifyArchives(ctx, f)
	}
	has := func(pattern string) bool {
		found, err := filepath.Glob(filepath.Join(what, pattern))
		return err == nil && len(found) > 0
	}
	switch {
	case has(snapshot.ManifestName), has("marker.manifest.*"):
		g := groupReport{Group: filepath.Base(what)}
		verifyStateCopy(ctx, &g, what)
		return true, a.emitDir(dirReport{Dir: what, Groups: []groupReport{g}})
	case has(filepath.Join("*", "*", "about.json")):
		abs, err := filepath.Abs(what)
		if err != nil {
			return true, err
		}
		f.url = "file://" + abs
		return true, a.verifyArchives(ctx, f)
	}
	return false, nil
}

// verifyStateCopy checks a directory that holds a state and, perhaps, the manifest of its files.
func verifyStateCopy(ctx context.Context, g *groupReport, dir string) {
	m, err := snapshot.ReadManifest(vfs.Default, dir)
	manifest := err == nil
	switch {
	case manifest:
		if err := snapshot.Check(vfs.Default, dir, m); err != nil {
			g.fault("manifest", err)
			return
		}
		g.add("manifest", verdictOK, "%s at %s of cluster %s, group %s: %d files of %s, each as its hash says", m.ID, m.Position, m.Cluster, m.Group, len(m.Files), bytesText(m.Bytes()))
	case errors.Is(err, fs.ErrNotExist):
		g.add("manifest", verdictSkipped, "there is none: tables are checked by the checksums of their blocks")
	default:
		g.fault("manifest", err)
		return
	}
	rep, err := kv.VerifyDir(ctx, vfs.Default, dir, nil)
	g.State = rep.Position
	for _, p := range rep.Problems {
		g.add("state", verdictDamaged, "%s", p)
	}
	switch {
	case err != nil && len(rep.Problems) == 0:
		g.fault("state", err)
	case err == nil && manifest && rep.Position != m.Position:
		g.add("state", verdictDamaged, "it is at %s, its manifest says %s", rep.Position, m.Position)
	case err == nil:
		g.add("state", verdictOK, "%s", stateText(rep, manifest))
	}
}

func stateText(rep kv.VerifyReport, manifest bool) string {
	d := rep.Digest
	text := fmt.Sprintf("applied up to %s, %d keys (%d expire), %d files of %s, %d rows of %s, digest %s", d.Position, rep.Keys, rep.Expiring,
		rep.Tables, bytesText(rep.TableBytes), d.Rows, bytesText(d.Bytes), d.Hash)
	if len(rep.Ignored) > 0 && !manifest {
		text += "; not part of it, not looked at: " + strings.Join(rep.Ignored, ", ")
	}
	return text
}

// emitDir prints a report and ends with its exit code.
func (a *app) emitDir(r dirReport) error {
	r.OK = dirCode(r) == exitOK
	if err := a.emit(r, func(w io.Writer) { dirTable(w, r) }); err != nil {
		return err
	}
	return silent(dirCode(r))
}

// verifyArchives reads back all that lies at a URL, of one cluster if that is said.
func (a *app) verifyArchives(ctx context.Context, f archiveFlags) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	if path, local := strings.CutPrefix(f.url, "file://"); local {
		if _, err := os.Stat(path); err != nil {
			return err // opening a store would make its folder
		}
	}
	all := []archive.Place{{Cluster: f.cluster, Group: f.group}}
	if f.cluster == "" {
		var err error
		if all, err = archive.Find(ctx, f.url); err != nil {
			return err
		}
		if len(all) == 0 {
			return fmt.Errorf("there is no archive at %s", f.url)
		}
	}
	r := dirReport{Dir: f.url}
	for _, p := range all {
		g := groupReport{Group: p.Cluster + "/" + p.Group}
		if err := a.verifyArchive(ctx, &g, f, p); err != nil {
			return err
		}
		r.Groups = append(r.Groups, g)
	}
	return a.emitDir(r)
}

func (a *app) verifyArchive(ctx context.Context, g *groupReport, f archiveFlags, p archive.Place) error {
	ar, err := archive.Open(ctx, archive.Options{URL: f.url, KeyFile: f.keyFile, Cluster: p.Cluster, Group: p.Group})
	if errors.Is(err, archive.ErrDamaged) || errors.Is(err, archive.ErrVersion) {
		g.fault("archive", err)
		return nil
	}
	if err != nil {
		return err
	}
	last := a.now()
	rep, err := ar.Check(ctx, true, func(p archive.Progress) {
		if now := a.now(); now.Sub(last) > time.Second {
			last = now
			a.progress(admin.Event{Message: fmt.Sprintf("%d of %d objects", p.Files, p.FilesTotal), Percent: 100 * float64(p.Bytes) / float64(max(p.Total, 1))})
		}
	})
	if err != nil && !errors.Is(err, archive.ErrDamaged) {
		return err
	}
	for _, text := range rep.Problems {
		g.add("archive", verdictDamaged, "%s", text)
	}
	if len(rep.Problems) == 0 {
		g.add("archive", verdictOK, "%d backups of %d objects, %s; %d pieces of log; every moment from LSN %d to LSN %d can be restored", rep.Backups, rep.Objects, bytesText(rep.Bytes), rep.Chunks, rep.From.LSN, rep.To.LSN)
	}
	return nil
}

// verifyCheckpoints checks every copy of the state that the group's directory keeps with a manifest.
func verifyCheckpoints(ctx context.Context, g *groupReport, dir string) {
	found, err := filepath.Glob(filepath.Join(dir, "*", "*", snapshot.ManifestName))
	if err != nil {
		return // the pattern is ours
	}
	for _, path := range found {
		copyDir := filepath.Dir(path)
		rel, _ := filepath.Rel(dir, copyDir) // it was found below dir
		if _, err := os.Stat(copyDir); err != nil {
			continue // removed meanwhile
		}
		if base := filepath.Base(copyDir); base == "making" || strings.HasPrefix(base, "gone-") {
			continue // of the ring of checkpoints: not whole yet, or not any more
		}
		var c groupReport
		verifyStateCopy(ctx, &c, copyDir)
		for _, x := range c.Checks {
			g.add(rel+" "+x.What, x.Verdict, "%s", x.Detail)
		}
	}
}
