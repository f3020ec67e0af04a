package archive

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"time"

	"filippo.io/age"
)

// Format is the archive format of this version.
const Format = 1

// Options say which archive.
type Options struct {
	URL     string // see OpenStore
	KeyFile string // age identities, as age-keygen writes them; empty: not encrypted
	Cluster string // required
	Group   string // default "default"
	Rate    int64  // bytes a second read or sent, 0 = unlimited
	Store   Store  // instead of URL, for tests
	Create  bool   // make it if there is none
}

// Archive is the copies of one group.
type Archive struct {
	o     Options
	store Store
	keys  []age.Identity
	to    []age.Recipient
	head  int64  // bytes that encryption puts before content
	mac   []byte // names of content are keyed with it; nil if not encrypted
	pace  *pace
}

// about is the one object that says how to read the others.
type about struct {
	Format  int       `json:"format"`
	Cluster string    `json:"cluster"`
	Group   string    `json:"group"`
	Key     string    `json:"key,omitempty"` // fingerprint of the key, empty if not encrypted
	Created time.Time `json:"created"`
}

// Open opens an archive. Errors: ErrNotFound, ErrVersion, ErrKey, or what the store says.
func Open(ctx context.Context, o Options) (*Archive, error) {
	if o.Group == "" {
		o.Group = "default"
	}
	a := &Archive{o: o, store: o.Store, pace: newPace(o.Rate)}
	if a.store == nil {
		var err error
		if a.store, err = OpenStore(o.URL); err != nil {
			return nil, err
		}
	}
	fingerprint, err := a.loadKey()
	if err != nil {
		return nil, err
	}
	r, err := a.store.Get(ctx, a.key("about.json"))
	if errors.Is(err, ErrNotFound) && o.Create {
		text, err := encode(about{Format: Format, Cluster: o.Cluster, Group: o.Group, Key: fingerprint, Created: time.Now().UTC()})
		if err != nil {
			return nil, err
		}
		return a, a.store.Put(ctx, a.key("about.json"), bytes.NewReader(text), int64(len(text)))
	}
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("there is no archive of cluster %s, group %s at %s: %w", o.Cluster, o.Group, o.URL, err)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var have about
	if err := decode(r, &have); err != nil {
		return nil, fmt.Errorf("about.json of the archive: %w", err)
	}
	switch {
	case have.Format != Format:
		return nil, fmt.Errorf("%w: %d, this program knows %d", ErrVersion, have.Format, Format)
	case have.Cluster != o.Cluster || have.Group != o.Group:
		return nil, fmt.Errorf("about.json of the archive: %w: it is of cluster %q, group %q", ErrDamaged, have.Cluster, have.Group)
	case have.Key != "" && fingerprint == "":
		return nil, fmt.Errorf("%w: the archive is encrypted with key %s, and no key file is given", ErrKey, have.Key)
	case have.Key != fingerprint:
		return nil, fmt.Errorf("%w: the archive is of key %q, the key file holds %q", ErrKey, have.Key, fingerprint)
	}
	return a, nil
}

// loadKey reads the key file and returns the key's fingerprint.
func (a *Archive) loadKey() (string, error) {
	if a.o.KeyFile == "" {
		return "", nil
	}
	f, err := os.Open(a.o.KeyFile)
	if err != nil {
		return "", fmt.Errorf("archive key: %w", err)
	}
	defer f.Close()
	if a.keys, err = age.ParseIdentities(f); err != nil {
		return "", fmt.Errorf("archive key %s: %w", a.o.KeyFile, err)
	}
	first, ok := a.keys[0].(*age.X25519Identity)
	if !ok {
		return "", fmt.Errorf("archive key %s: %w: want an X25519 identity, as age-keygen writes it", a.o.KeyFile, ErrKey)
	}
	a.to = []age.Recipient{first.Recipient()}
	mac := sha256.Sum256([]byte("repld archive names\n" + first.String()))
	a.mac = mac[:]
	return first.Recipient().String(), a.measureHead()
}

// NewKey writes a key file that does not exist yet, readable by its owner only.
func NewKey(file string) (public string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(f, "# key of repld backups; public key: %s\n%s\n", id.Recipient(), id)
	return id.Recipient().String(), errors.Join(err, f.Sync(), f.Close())
}

// key is the store's key of a name within this archive.
func (a *Archive) key(name string) string { return path.Join(a.o.Cluster, a.o.Group, name) }

// hasher is the hash that names content.
func (a *Archive) hasher() hash.Hash {
	if a.mac != nil {
		return hmac.New(sha256.New, a.mac)
	}
	return sha256.New()
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// put stores content under a name, encrypted if there is a key.
func (a *Archive) put(ctx context.Context, name string, r io.Reader, size int64) error {
	r = a.pace.reader(ctx, r)
	if a.to == nil {
		return a.store.Put(ctx, a.key(name), r, size)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w, err := age.Encrypt(pw, a.to...)
		if err == nil {
			if _, err = io.Copy(w, r); err == nil {
				err = w.Close()
			}
		}
		pw.CloseWithError(err)
	}()
	err := a.store.Put(ctx, a.key(name), pr, a.sealed(size))
	pr.Close()
	<-done
	return err
}

// sealed is how many bytes age makes of n: its head, and 16 bytes for each 64 KiB.
func (a *Archive) sealed(n int64) int64 {
	const block, tag = 64 << 10, 16
	return a.head + n + tag*max(1, (n+block-1)/block)
}

// measureHead finds out how long age's head is.
func (a *Archive) measureHead() error {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, a.to...)
	if err == nil {
		err = w.Close()
	}
	a.head = int64(b.Len()) - 16
	return err
}

// get opens content by its name, decrypted.
func (a *Archive) get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := a.store.Get(ctx, a.key(name))
	if err != nil {
		return nil, err
	}
	src := a.pace.reader(ctx, r)
	if a.keys != nil {
		if src, err = age.Decrypt(src, a.keys...); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w: %w", name, ErrDamaged, err), r.Close())
		}
	}
	return readCloser{src, r}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// list calls fn with the names below a folder of this archive.
func (a *Archive) list(ctx context.Context, folder string, fn func(name string, i Info) error) error {
	base := a.key("") + "/"
	return a.store.List(ctx, base+folder+"/", func(i Info) error { return fn(i.Key[len(base):], i) })
}
