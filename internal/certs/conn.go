package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// Conn is a connection whose other end has shown a certificate of the authority.
type Conn struct {
	*tls.Conn
	cluster string
}

// Close closes the connection at once. tls.Conn would first send a farewell and wait for room in the socket's buffer, up to 5 s with a peer that stands
// still; between nodes the end of a connection says nothing that this would protect: streams resume by LSN.
func (c *Conn) Close() error { return c.Conn.NetConn().Close() }

// Verify reports whether the other end may call itself node.
func (c *Conn) Verify(node string) error {
	certs := c.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return errors.New("no certificate was shown")
	}
	return checkName(certs[0], c.cluster, node)
}

// Verify is Conn.Verify for a connection that WrapServer or WrapClient returned; any other has shown no certificate.
func Verify(c net.Conn, node string) error {
	wrapped, ok := c.(*Conn)
	if !ok {
		return errors.New("connection without TLS")
	}
	return wrapped.Verify(node)
}

// WrapServer runs the acceptor's handshake. Who is there is not known yet: the caller has to Verify the name that the other end will say.
func (i *Identity) WrapServer(ctx context.Context, c net.Conn) (net.Conn, error) {
	return i.shake(ctx, tls.Server(c, i.config()))
}

// WrapClient runs the dialer's handshake with the node that it wants to reach.
func (i *Identity) WrapClient(ctx context.Context, c net.Conn, peer string) (net.Conn, error) {
	cfg := i.config()
	cfg.ServerName = peer
	inner := cfg.VerifyConnection
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		if err := inner(s); err != nil {
			return err
		}
		return checkName(s.PeerCertificates[0], i.o.Cluster, peer)
	}
	return i.shake(ctx, tls.Client(c, cfg))
}

func (i *Identity) shake(ctx context.Context, c *tls.Conn) (net.Conn, error) {
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &Conn{Conn: c, cluster: i.o.Cluster}, nil
}

// config is the same for both ends but for the name. The standard verification is replaced, not skipped: Go's looks for the host name of the address that
// was dialed, ours for the name of the node.
func (i *Identity) config() *tls.Config {
	m := i.current()
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{m.cert},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate was shown")
			}
			if err := verify(m.roots, s.PeerCertificates, time.Now()); err != nil {
				return explain(err, s.PeerCertificates[0])
			}
			return nil
		},
	}
}

// explain says which certificate is refused: the other end's log and ours should be enough to find it.
func explain(err error, c *x509.Certificate) error {
	return fmt.Errorf("certificate of %v (serial %x) is refused: %w", Names(c), c.SerialNumber, err)
}
