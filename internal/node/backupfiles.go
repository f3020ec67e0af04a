package node

import (
	"context"
	"errors"
	"io"

	"repld/internal/archive"
	"repld/snapshot"
)

// fetchBackup brings the files of a backup into a directory of the group. Every file is checked by its hashes; one that is here, whole, is not fetched again. got, if not nil, is told of bytes as they come.
func (g *group) fetchBackup(ctx context.Context, ar *archive.Archive, b archive.Backup, dir string, got func(int64)) (*snapshot.Receiver, snapshot.Manifest, error) {
	m := snapshot.Manifest{Format: snapshot.Format, Cluster: g.o.Cluster, Group: g.o.Group, ID: b.ID, Position: b.Position, Created: b.Created}
	objects := map[string]archive.File{}
	for _, f := range b.Files {
		m.Files = append(m.Files, snapshot.File{Name: f.Name, Size: f.Size, Hash: f.Hash})
		objects[f.Name] = f
	}
	r := snapshot.NewReceiver(g.o.FS, g.path(dir))
	have, err := r.Begin(m)
	if err != nil {
		return nil, m, err
	}
	for i, f := range m.Files {
		if n, ok := have[f.Name]; ok {
			if got != nil {
				got(n)
			}
			continue
		}
		w, err := r.File(f.Name)
		if err != nil {
			return nil, m, err
		}
		err = ar.Read(ctx, objects[f.Name], counted{w, got})
		if err = errors.Join(err, w.Close()); errors.Is(err, snapshot.ErrCorrupt) {
			err = errors.Join(archive.ErrDamaged, err)
		}
		if err != nil {
			return nil, m, err
		}
		g.logger.Info("seeding from the archive", "backup", b.ID, "file", i+1, "of", len(m.Files), "bytes", f.Size)
	}
	return r, m, nil
}

// counted tells how many bytes pass.
type counted struct {
	io.Writer
	got func(int64)
}

// Write implements io.Writer.
func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	if c.got != nil {
		c.got(int64(n))
	}
	return n, err
}
