package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"path/filepath"
	"regexp"
	"time"
)

// Algorithms of keys.
const (
	Ed25519 = "ed25519"
	P256    = "p256"
)

// Names of the authority's files in its folder; those of a node are NAME.crt and NAME.key.
const (
	CACert = "ca.crt"
	CAKey  = "ca.key"
)

// Default lifetimes.
const (
	CAValid   = 10 * 365 * 24 * time.Hour
	NodeValid = 365 * 24 * time.Hour
)

// backdate is how long before now a certificate begins, for clocks that are behind.
const backdate = 5 * time.Minute

// Request says what to make.
type Request struct {
	Dir       string        // where the authority's files are, and the new ones will be
	Cluster   string        // required for the authority; a node's is the authority's
	Node      string        // for a node
	Algorithm string        // of the key; default ed25519
	Valid     time.Duration // default CAValid or NodeValid
	Now       time.Time     // default now
	Rand      io.Reader     // default crypto/rand
}

func (r *Request) defaults(valid time.Duration) {
	if r.Algorithm == "" {
		r.Algorithm = Ed25519
	}
	if r.Valid == 0 {
		r.Valid = valid
	}
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	if r.Rand == nil {
		r.Rand = rand.Reader
	}
}

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// InitCA makes a certificate authority: ca.crt and ca.key in r.Dir. It refuses to replace files.
func InitCA(r Request) (*x509.Certificate, error) {
	r.defaults(CAValid)
	if !namePattern.MatchString(r.Cluster) {
		return nil, fmt.Errorf("%q is not the name of a cluster (a-z, 0-9 and -, at most 32 characters)", r.Cluster)
	}
	if err := makeFolder(r.Dir); err != nil {
		return nil, err
	}
	key, err := newKey(r)
	if err != nil {
		return nil, err
	}
	t, err := template(r)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: "repld CA of " + r.Cluster}
	t.URIs = []*url.URL{{Scheme: scheme, Host: r.Cluster, Path: "/ca"}}
	t.IsCA, t.MaxPathLenZero = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(r.Rand, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	if err := createPair(filepath.Join(r.Dir, CAKey), key, filepath.Join(r.Dir, CACert), der); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Issue makes key and certificate of a node, NAME.key and NAME.crt in r.Dir, signed by the authority there. It refuses to replace files.
func Issue(r Request) (*x509.Certificate, error) {
	r.defaults(NodeValid)
	ca, caKey, err := r.authority()
	if err != nil {
		return nil, err
	}
	key, err := newKey(r)
	if err != nil {
		return nil, err
	}
	der, err := r.sign(ca, caKey, key.Public())
	if err != nil {
		return nil, err
	}
	if err := createPair(filepath.Join(r.Dir, r.Node+".key"), key, filepath.Join(r.Dir, r.Node+".crt"), der); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Renew replaces a node's certificate by one with a new lifetime, for the key that is there. The change is atomic: whoever reads the file has the old
// certificate or the new one, and both fit the key.
func Renew(r Request) (*x509.Certificate, error) {
	r.defaults(NodeValid)
	ca, caKey, err := r.authority()
	if err != nil {
		return nil, err
	}
	key, err := readKey(filepath.Join(r.Dir, r.Node+".key"))
	if err != nil {
		return nil, err
	}
	der, err := r.sign(ca, caKey, key.Public())
	if err != nil {
		return nil, err
	}
	if err := replaceFile(filepath.Join(r.Dir, r.Node+".crt"), certPEM(der)); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// authority reads the CA that signs. The cluster is the one that the CA was made for.
func (r *Request) authority() (*x509.Certificate, crypto.Signer, error) {
	if !namePattern.MatchString(r.Node) || r.Node == "ca" {
		return nil, nil, fmt.Errorf("%q is not the name of a node here (a-z, 0-9 and -, at most 32 characters, not ca)", r.Node)
	}
	all, err := ReadCerts(filepath.Join(r.Dir, CACert))
	if err != nil {
		return nil, nil, err
	}
	ca := all[0] // a bundle holds the signing one first
	key, err := readKey(filepath.Join(r.Dir, CAKey))
	if err != nil {
		return nil, nil, err
	}
	if p, ok := ca.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !p.Equal(key.Public()) {
		return nil, nil, fmt.Errorf("%s does not belong to %s", CAKey, CACert)
	}
	for _, u := range ca.URIs {
		if u.Scheme == scheme {
			r.Cluster = u.Host
		}
	}
	if r.Cluster == "" {
		return nil, nil, fmt.Errorf("%s does not say of which cluster it is: it was not made by replctl certs init", CACert)
	}
	if end := r.Now.Add(r.Valid); end.After(ca.NotAfter) {
		r.Valid = ca.NotAfter.Sub(r.Now) // no certificate outlives its authority
	}
	if r.Valid <= 0 {
		return nil, nil, fmt.Errorf("the authority in %s expired at %s", r.Dir, ca.NotAfter.UTC().Format(time.RFC3339))
	}
	return ca, key, nil
}

func (r Request) sign(ca *x509.Certificate, caKey crypto.Signer, pub crypto.PublicKey) ([]byte, error) {
	t, err := template(r)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: r.Node}
	t.URIs, t.DNSNames = []*url.URL{nodeURI(r.Cluster, r.Node)}, []string{r.Node}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(r.Rand, t, ca, pub, caKey)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}

func template(r Request) (*x509.Certificate, error) {
	serial, err := rand.Int(r.Rand, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return &x509.Certificate{SerialNumber: serial, NotBefore: r.Now.Add(-backdate), NotAfter: r.Now.Add(r.Valid), BasicConstraintsValid: true}, nil
}

func newKey(r Request) (crypto.Signer, error) {
	switch r.Algorithm {
	case Ed25519:
		_, key, err := ed25519.GenerateKey(r.Rand)
		return key, err
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), r.Rand)
	}
	return nil, fmt.Errorf("algorithm %q is not one of: %s, %s", r.Algorithm, Ed25519, P256)
}
