package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// Files are where a node finds who it is and whom it believes.
type Files struct {
	CA, Cert, Key string // paths of PEM files; CA may hold several certificates, while one replaces another
}

// Options configure an Identity.
type Options struct {
	Files
	Cluster, Node string
	// Soon is how long before its end a certificate is said to end. Default 30 days.
	Soon time.Duration
	// Every is how often the files are looked at for a change. Default 10 s.
	Every time.Duration
	// OnReload is told of each reload, by hand or by a change: err is nil when the new files are in force. May be nil.
	OnReload func(err error)
	Logger   *slog.Logger // default: discards
}

// EnsureDefaults fills in the fields that are zero.
func (o *Options) EnsureDefaults() {
	if o.Soon == 0 {
		o.Soon = 30 * 24 * time.Hour
	}
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	if o.OnReload == nil {
		o.OnReload = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Identity is this node's certificate and the authorities that it believes, as they are in its files now.
type Identity struct {
	o Options

	mu struct {
		sync.Mutex
		now   material
		tried stamps // of the files at the last attempt to read them
		err   error  // why the files that are there are not in force
	}
}

// material is what one reading of the files gave. It is not changed.
type material struct {
	cert  tls.Certificate
	leaf  *x509.Certificate
	roots *x509.CertPool
	cas   []*x509.Certificate
}

// Load reads the files. Contents that do not fit each other or this node are an error; a certificate that has expired is not, because it can be renewed while
// the node runs: peers refuse it, and Problem says so.
func Load(o Options) (*Identity, error) {
	o.EnsureDefaults()
	i := &Identity{o: o}
	i.mu.tried = stamp(o.Files)
	m, err := read(o)
	if err != nil {
		return nil, err
	}
	i.mu.now = m
	return i, nil
}

func read(o Options) (m material, err error) {
	m.cas, err = ReadCerts(o.CA)
	if err != nil {
		return m, err
	}
	m.roots = x509.NewCertPool()
	for _, c := range m.cas {
		m.roots.AddCert(c)
	}
	chain, err := ReadCerts(o.Cert)
	if err != nil {
		return m, err
	}
	key, err := readKey(o.Key)
	if err != nil {
		return m, err
	}
	m.leaf = chain[0]
	m.cert = tls.Certificate{PrivateKey: key, Leaf: m.leaf}
	for _, c := range chain {
		m.cert.Certificate = append(m.cert.Certificate, c.Raw)
	}
	if err := belongs(key, m.leaf); err != nil {
		return m, fmt.Errorf("key %s and certificate %s: %w", o.Key, o.Cert, err)
	}
	if err := checkName(m.leaf, o.Cluster, o.Node); err != nil {
		return m, fmt.Errorf("%s: %w", o.Cert, err)
	}
	// Within the certificate's own time: whether it has expired is another question.
	at := time.Now()
	if at.After(m.leaf.NotAfter) {
		at = m.leaf.NotAfter
	}
	if at.Before(m.leaf.NotBefore) {
		at = m.leaf.NotBefore
	}
	if err := verify(m.roots, chain, at); err != nil {
		return m, fmt.Errorf("%s is not of the authority in %s: %w", o.Cert, o.CA, err)
	}
	return m, nil
}

// belongs reports whether key is the certificate's.
func belongs(key crypto.Signer, c *x509.Certificate) error {
	if p, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool }); !ok || !p.Equal(c.PublicKey) {
		return errors.New("they do not belong together")
	}
	return nil
}

// verify checks that chain leads to a root, now, for both ends of a connection.
func verify(roots *x509.CertPool, chain []*x509.Certificate, now time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			return err
		}
	}
	return nil
}

func (i *Identity) current() material {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mu.now
}

// Reload reads the files again. What is read is for connections that are made from now on; if it does not fit, what was read before stays in force.
func (i *Identity) Reload() error {
	at := stamp(i.o.Files) // before reading: a change in between is seen as one
	m, err := read(i.o)
	i.mu.Lock()
	i.mu.tried, i.mu.err = at, err
	if err == nil {
		i.mu.now = m
	}
	i.mu.Unlock()
	i.o.OnReload(err)
	if err != nil {
		i.o.Logger.Error("certificates not reloaded, the old ones stay in force", "error", err)
		return err
	}
	i.o.Logger.Info("certificates reloaded", "not_after", m.leaf.NotAfter.UTC())
	return nil
}

// Run reloads the files when they change, until ctx ends.
func (i *Identity) Run(ctx context.Context) error {
	t := time.NewTicker(i.o.Every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			i.look()
		case <-ctx.Done():
			return nil
		}
	}
}

// look reloads if a file is another than at the last attempt.
func (i *Identity) look() {
	i.mu.Lock()
	same := i.mu.tried == stamp(i.o.Files)
	i.mu.Unlock()
	if !same {
		_ = i.Reload() // said by Reload
	}
}

// NotAfter is when this node's certificate, or the last of its authorities, ends; the earlier of both.
func (i *Identity) NotAfter() time.Time {
	m := i.current()
	var ca time.Time
	for _, c := range m.cas {
		if c.NotAfter.After(ca) {
			ca = c.NotAfter
		}
	}
	if ca.Before(m.leaf.NotAfter) {
		return ca
	}
	return m.leaf.NotAfter
}

// Problem is a sentence on what a person should do about the certificates, "" if nothing.
func (i *Identity) Problem(now time.Time) string {
	end := i.NotAfter()
	at := end.UTC().Format(time.RFC3339)
	i.mu.Lock()
	err := i.mu.err
	i.mu.Unlock()
	switch {
	case !now.Before(end):
		return fmt.Sprintf("the certificate of this node expired at %s: no node talks to it any more once it reconnects; renew it", at)
	case end.Sub(now) < i.o.Soon:
		return fmt.Sprintf("the certificate of this node expires at %s, in %.1f days: renew it", at, end.Sub(now).Hours()/24)
	case err != nil:
		return fmt.Sprintf("the certificate files were changed and do not fit, the old ones stay in force: %v", err)
	}
	return ""
}

// stamps tell whether files have changed. The inode is among them because two files of one size may be written within one tick of the file system's clock.
type stamps [3]struct {
	mod  int64
	size int64
	ino  uint64
	gone bool
}

func stamp(f Files) (s stamps) {
	for i, path := range []string{f.CA, f.Cert, f.Key} {
		info, err := os.Stat(path)
		if err != nil {
			s[i].gone = errors.Is(err, fs.ErrNotExist)
			continue
		}
		s[i].mod, s[i].size = info.ModTime().UnixNano(), info.Size()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			s[i].ino = st.Ino
		}
	}
	return s
}
