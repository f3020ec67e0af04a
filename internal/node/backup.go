package node

import (
	"context"
	"fmt"
	"time"

	"repld/internal/admin"
	"repld/internal/archive"
	"repld/internal/kv"
	"repld/snapshot"
)

// newSnapshot makes a checkpoint of the state as it is now.
func (g *group) newSnapshot(ctx context.Context) (*snapshot.Snapshot, error) {
	g.snapshots.Lock()
	m := g.snapshots.m
	g.snapshots.Unlock()
	return m.AcquireNew(ctx)
}

// Backup implements admin.Handler: it copies a checkpoint of this node's state into the archive while writes go on.
func (a adminAPI) Backup(ctx context.Context, req admin.BackupRequest, emit func(admin.Event)) (admin.BackupResult, error) {
	if other := req.Node; other != "" && other != a.o.Name {
		req.Node = ""
		end, err := a.forward(ctx, other, admin.PathBackup, req, emit)
		return value(end.Backup), err
	}
	if !a.o.Archive.on() {
		return admin.BackupResult{}, usage("node %s has no archive: set archive.url in its configuration", a.o.Name)
	}
	began := time.Now()
	ar, err := a.archiver.opened(ctx)
	if err != nil {
		return admin.BackupResult{}, err
	}
	snap, err := a.newSnapshot(ctx)
	if err != nil {
		return admin.BackupResult{}, err
	}
	defer snap.Release()
	m := snap.Manifest()
	emit(admin.Event{Message: fmt.Sprintf("checkpoint at LSN %d: %d files, %d bytes", m.Position.LSN, len(m.Files), m.Bytes())})
	// Reading it all proves that what is sent is sound, and gives the digest that a restore has to arrive at.
	rep, err := kv.VerifyDir(ctx, a.o.FS, snap.Dir(), nil)
	if err != nil {
		return admin.BackupResult{}, fmt.Errorf("checkpoint: %w", err)
	}
	src := archive.Source{FS: a.o.FS, Dir: snap.Dir(), Node: a.o.Name, Position: m.Position, Digest: rep.Digest.Hash, Keys: rep.Keys, Note: req.Note}
	for _, f := range m.Files {
		src.Files = append(src.Files, archive.File{Name: f.Name, Size: f.Size, Hash: f.Hash})
	}
	last := time.Now()
	b, err := ar.Create(ctx, src, func(p archive.Progress) {
		if time.Since(last) < 200*time.Millisecond && p.Files < p.FilesTotal {
			return
		}
		last = time.Now()
		emit(admin.Event{Message: fmt.Sprintf("file %d of %d, %d bytes sent", p.Files, p.FilesTotal, p.Sent), Percent: 100 * float64(p.Bytes) / float64(max(p.Total, 1))})
	})
	if err != nil {
		return admin.BackupResult{}, err
	}
	a.archiver.backedUp(b.Position)
	a.logger.Info("backup made", "id", b.ID, "position", b.Position, "files", len(b.Files), "bytes", b.Bytes(), "sent", b.Sent, "duration", time.Since(began))
	return admin.BackupResult{ID: b.ID, Node: a.o.Name, URL: a.o.Archive.URL, Position: b.Position, Digest: b.Digest, Keys: b.Keys, Files: len(b.Files), Bytes: b.Bytes(), Sent: b.Sent,
		Seconds: time.Since(began).Seconds()}, nil
}
