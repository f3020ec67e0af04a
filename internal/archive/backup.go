package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"repld/wal"
)

// Backup is the manifest of one backup: the state of a group at a position.
type Backup struct {
	Format   int          `json:"format"` // 1
	ID       string       `json:"id"`
	Cluster  string       `json:"cluster"`
	Group    string       `json:"group"`
	Node     string       `json:"node"` // that made it
	Position wal.Position `json:"position"`
	Digest   wal.Hash     `json:"digest"` // of the state's rows, see kv.Digest
	Keys     int64        `json:"keys"`
	Created  time.Time    `json:"created"`
	Note     string       `json:"note,omitempty"`
	Files    []File       `json:"files"`
	Sent     int64        `json:"sent"` // bytes that were not in the store before
}

// File is one file of a state, and the object that holds it.
type File struct {
	Name   string   `json:"name"`
	Size   int64    `json:"size"`
	Hash   wal.Hash `json:"hash"`   // xxhash64, as in the snapshot's manifest
	Object string   `json:"object"` // 64 hex digits
}

// Bytes is the size of all files.
func (b Backup) Bytes() (n int64) {
	for _, f := range b.Files {
		n += f.Size
	}
	return n
}

// Source is a state on disk that does not change.
type Source struct {
	FS       vfs.FS
	Dir      string
	Node     string
	Position wal.Position
	Digest   wal.Hash
	Keys     int64
	Note     string
	Files    []File // without Object
}

// Progress is how far a long piece of work is.
type Progress struct {
	Files, FilesTotal int
	Bytes, Total      int64 // looked at
	Sent              int64 // of these, that went over the wire
}

// parallel is how many objects are on their way at once.
const parallel = 4

// Create makes a backup of a state. Files whose content is in the store already are not sent. What an attempt before has sent is found, too: so it resumes.
func (a *Archive) Create(ctx context.Context, src Source, progress func(Progress)) (Backup, error) {
	id := make([]byte, 6)
	if _, err := rand.Read(id); err != nil {
		return Backup{}, err
	}
	b := Backup{Format: Format, ID: hex.EncodeToString(id), Cluster: a.o.Cluster, Group: a.o.Group, Node: src.Node, Position: src.Position, Digest: src.Digest, Keys: src.Keys,
		Created: time.Now().UTC(), Note: src.Note, Files: slices.Clone(src.Files)}
	known, err := a.knownObjects(ctx)
	if err != nil {
		return b, err
	}
	var sent atomic.Int64
	report := meter(len(b.Files), b.Bytes(), &sent, progress)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range b.Files {
		f := &b.Files[i]
		g.Go(func() error {
			path := src.FS.PathJoin(src.Dir, f.Name)
			f.Object = known[File{Name: f.Name, Size: f.Size, Hash: f.Hash}]
			n, err := a.send(gctx, src.FS, path, f)
			if err != nil {
				return fmt.Errorf("back up %s: %w", path, err)
			}
			sent.Add(n)
			report(f.Size)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return b, err
	}
	b.Sent = sent.Load()
	text, err := encode(b)
	if err != nil {
		return b, err
	}
	return b, a.put(ctx, b.name(), bytes.NewReader(text), int64(len(text)))
}

func (b Backup) name() string { return fmt.Sprintf("backups/%020d-%s.json", b.Position.LSN, b.ID) }

// knownObjects says by name, size and hash which object holds a file of the newest backup, so that unchanged files need not be read again.
func (a *Archive) knownObjects(ctx context.Context) (map[File]string, error) {
	known := map[File]string{}
	all, err := a.Backups(ctx)
	if err != nil || len(all) == 0 {
		return known, nil // a damaged one does not keep a new one from being made
	}
	for _, f := range all[len(all)-1].Files {
		known[File{Name: f.Name, Size: f.Size, Hash: f.Hash}] = f.Object
	}
	return known, nil
}

// send makes the object of a file exist and returns how many bytes that took.
func (a *Archive) send(ctx context.Context, fs vfs.FS, path string, f *File) (int64, error) {
	if f.Object == "" {
		h := a.hasher()
		if n, err := readFile(ctx, fs, path, h); err != nil || n != f.Size {
			return 0, errors.Join(err, sizeError(n, f.Size))
		}
		f.Object = sumOf(h)
	}
	_, err := a.store.Stat(ctx, a.key(objectName(f.Object)))
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	r, err := fs.Open(path)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	h := a.hasher()
	if err := a.put(ctx, objectName(f.Object), io.TeeReader(r, h), f.Size); err != nil {
		return 0, err
	}
	if got := sumOf(h); got != f.Object { // the disk gave other bytes than before
		return 0, errors.Join(fmt.Errorf("%w: read %s, then %s", ErrDamaged, f.Object, got), a.store.Delete(ctx, a.key(objectName(f.Object))))
	}
	return f.Size, nil
}

func sizeError(got, want int64) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%d bytes, want %d", got, want)
}

func readFile(ctx context.Context, fs vfs.FS, path string, into io.Writer) (int64, error) {
	r, err := fs.Open(path)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(into, ctxReader{ctx, r})
	return n, errors.Join(err, r.Close())
}

func objectName(object string) string { return "objects/" + object[:2] + "/" + object }

// meter reports progress from many goroutines, one call at a time.
func meter(files int, total int64, sent *atomic.Int64, progress func(Progress)) func(bytes int64) {
	var mu sync.Mutex
	p := Progress{FilesTotal: files, Total: total}
	return func(bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		p.Files, p.Bytes, p.Sent = p.Files+1, p.Bytes+bytes, sent.Load()
		if progress != nil {
			progress(p)
		}
	}
}

// Backups lists the backups in the order of their positions. Manifests that cannot be read are told in the error, beside the list of the others.
func (a *Archive) Backups(ctx context.Context) ([]Backup, error) {
	var names []string
	err := a.list(ctx, "backups", func(name string, _ Info) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []Backup
	var bad error
	for _, name := range names {
		b, err := a.backup(ctx, name)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s: %w", name, err))
			continue
		}
		all = append(all, b)
	}
	return all, bad
}

func (a *Archive) backup(ctx context.Context, name string) (Backup, error) {
	var b Backup
	r, err := a.get(ctx, name)
	if err != nil {
		return b, err
	}
	defer r.Close()
	if err := decode(r, &b); err != nil {
		return b, err
	}
	switch {
	case b.Format != Format:
		return b, fmt.Errorf("%w: backup of format %d, this program knows %d", ErrVersion, b.Format, Format)
	case b.Cluster != a.o.Cluster || b.Group != a.o.Group || b.name() != name:
		return b, fmt.Errorf("%w: it is %s of cluster %s", ErrDamaged, b.name(), b.Cluster)
	}
	for _, f := range b.Files {
		raw, err := hex.DecodeString(f.Object)
		if err != nil || len(raw) != 32 || f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") || f.Size < 0 {
			return b, fmt.Errorf("%w: file %q, object %q", ErrDamaged, f.Name, f.Object)
		}
	}
	return b, nil
}

// Fetch puts the files of a backup into an empty folder, checked and durable.
func (a *Archive) Fetch(ctx context.Context, b Backup, dir string, progress func(Progress)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var sent atomic.Int64
	report := meter(len(b.Files), b.Bytes(), &sent, progress)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, f := range b.Files {
		g.Go(func() error {
			if err := a.fetch(gctx, f, filepath.Join(dir, f.Name)); err != nil {
				return fmt.Errorf("fetch %s: %w", f.Name, err)
			}
			sent.Add(f.Size)
			report(f.Size)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return syncFolder(dir)
}

func (a *Archive) fetch(ctx context.Context, f File, path string) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = a.checkObject(ctx, f, out)
	return errors.Join(err, out.Sync(), out.Close())
}

// Read writes the content of a file of a backup to w and checks it by its hash. What w got counts only without an error.
func (a *Archive) Read(ctx context.Context, f File, w io.Writer) error {
	return a.checkObject(ctx, f, w)
}

// checkObject reads a file's object into w and compares it with its name.
func (a *Archive) checkObject(ctx context.Context, f File, w io.Writer) error {
	r, err := a.get(ctx, objectName(f.Object))
	if err != nil {
		return err
	}
	defer r.Close()
	h := a.hasher()
	n, err := io.Copy(io.MultiWriter(h, w), r) // w may be a vfs.File, which may change what it is given
	if err != nil {
		return damaged(f.Object, err)
	}
	if got := sumOf(h); got != f.Object || n != f.Size {
		return fmt.Errorf("%w: object %s holds %d bytes of %s, want %d", ErrDamaged, f.Object, n, got, f.Size)
	}
	return nil
}

// damaged marks what decryption found as damage; errors of the network and of contexts stay what they are.
func damaged(what string, err error) error {
	if strings.Contains(err.Error(), "age") || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
