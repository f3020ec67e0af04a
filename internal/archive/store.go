package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("no such object")
	// ErrDamaged: an object does not hold what its name says.
	ErrDamaged = errors.New("object is damaged")
	// ErrVersion: the archive was written in a format that this program does not know.
	ErrVersion = errors.New("unknown archive format")
	// ErrKey: the archive is encrypted and the key is missing or another one, or the reverse.
	ErrKey = errors.New("wrong archive key")
	// ErrGap: the archive does not hold the log up to where it is needed.
	ErrGap = errors.New("gap in the archived log")
)

// Info is one object of a store.
type Info struct {
	Key      string
	Size     int64     // bytes as stored
	Modified time.Time // by the store's clock
}

// Store is where objects lie. Keys are relative paths of [A-Za-z0-9._/-]. It is safe for concurrent use.
type Store interface {
	// Put makes an object durable, whole or not at all. size is that of r.
	Put(ctx context.Context, key string, r io.Reader, size int64) error
	// Get opens an object. ErrNotFound.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// Stat describes an object. ErrNotFound.
	Stat(ctx context.Context, key string) (Info, error)
	// List calls fn with each object whose key begins with prefix, in the order of keys, until fn returns an error.
	List(ctx context.Context, prefix string, fn func(Info) error) error
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// OpenStore opens the store that a URL names:
//
//	file:///backup/repld
//	s3://bucket/prefix?endpoint=host:port&region=eu-west-1&insecure=true
//
// Credentials of S3 come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a shared credentials file, or the machine's role.
func OpenStore(text string) (Store, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("archive url: %w", err)
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" {
			return nil, fmt.Errorf("archive url %q: want file:///an/absolute/path", text)
		}
		return newFileStore(u.Path), nil
	case "s3":
		return newS3(u)
	}
	return nil, fmt.Errorf("archive url %q: want file:///path or s3://bucket/prefix?endpoint=host", text)
}

// fileStore keeps objects as files below a folder.
type fileStore struct{ dir string }

const tmpMark = ".tmp-"

// newFileStore makes nothing: a folder whose name is misspelt is not to be there because somebody has looked into it. Put makes it.
func newFileStore(dir string) *fileStore { return &fileStore{dir: dir} }

func (s *fileStore) path(key string) string { return filepath.Join(s.dir, filepath.FromSlash(key)) }

// Put implements Store: written aside, synced, renamed, and the folder synced.
func (s *fileStore) Put(ctx context.Context, key string, r io.Reader, _ int64) (err error) {
	path := s.path(key)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if err := makeSynced(filepath.Dir(path), s.dir); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), tmpMark+"*")
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	_, err = io.Copy(f, ctxReader{ctx, r})
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says it
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncFolder(filepath.Dir(path))
}

// makeSynced makes the folders below base and makes each durable in its parent.
func makeSynced(dir, base string) error {
	if _, err := os.Stat(dir); err == nil || len(dir) <= len(base) {
		return nil
	}
	if err := makeSynced(filepath.Dir(dir), base); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(dir))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Store.
func (s *fileStore) Get(_ context.Context, key string) (io.ReadCloser, error) {
	f, err := os.Open(s.path(key))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", s.path(key), ErrNotFound)
	}
	return f, err
}

// Stat implements Store.
func (s *fileStore) Stat(_ context.Context, key string) (Info, error) {
	st, err := os.Stat(s.path(key))
	if errors.Is(err, os.ErrNotExist) {
		return Info{}, fmt.Errorf("%s: %w", s.path(key), ErrNotFound)
	}
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: st.Size(), Modified: st.ModTime()}, nil
}

// List implements Store.
func (s *fileStore) List(ctx context.Context, prefix string, fn func(Info) error) error {
	err := filepath.WalkDir(s.path(prefix[:strings.LastIndexByte(prefix, '/')+1]), func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(s.dir, path)
		key := filepath.ToSlash(rel)
		if err != nil || d.IsDir() || !strings.HasPrefix(key, prefix) || strings.HasPrefix(d.Name(), tmpMark) {
			return err
		}
		st, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return fn(Info{Key: key, Size: st.Size(), Modified: st.ModTime()})
	})
	return err
}

// Delete implements Store.
func (s *fileStore) Delete(_ context.Context, key string) error {
	err := os.Remove(s.path(key))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
