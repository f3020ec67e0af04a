package certs

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// echo serves lines over TLS until the test ends.
func echo(t *testing.T, o ServerOptions) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(l, o)
	if err != nil {
		t.Fatal(errors.Join(err, l.Close()))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
					_, _ = c.Write([]byte(line))
				}
			}()
		}
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

func say(addr string, c *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "hello\n" {
		err = errors.New("wrong echo " + line)
	}
	return err
}

// Clients get in with TLS 1.2 or newer, with the certificate that is asked for, and while strangers hold half-open handshakes; a certificate that is replaced is
// shown to those who come then.
//
// Faults: R3 (half-open TLS handshakes), R5 (handshake flood at the client port)
func TestServer(t *testing.T) {
	dir, other := authority(t, "shop", P256, "a", "cli"), authority(t, "shop", P256, "cli")
	pool := x509.NewCertPool()
	ca, err := ReadCerts(filepath.Join(dir, CACert))
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(ca[0])
	good := func() *tls.Config { return &tls.Config{RootCAs: pool, ServerName: "a"} }
	addr := echo(t, ServerOptions{Cert: filepath.Join(dir, "a.crt"), Key: filepath.Join(dir, "a.key"), Max: 4, Timeout: time.Second})
	var strangers []net.Conn
	for range 4 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, c)
	}
	until(t, "a client gets in although all places are taken by those who say nothing", func() bool { return say(addr, good()) == nil })
	for _, c := range strangers {
		_ = c.Close()
	}
	old := good()
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	if err := say(addr, old); err == nil {
		t.Error("TLS 1.1 gets in")
	}
	c, err := Renew(Request{Dir: dir, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	seen := good()
	seen.VerifyConnection = func(s tls.ConnectionState) error {
		if s.PeerCertificates[0].SerialNumber.Cmp(c.SerialNumber) != 0 {
			return errors.New("the old certificate is shown")
		}
		return nil
	}
	if err := say(addr, seen); err != nil {
		t.Error(err)
	}

	asks := echo(t, ServerOptions{Cert: filepath.Join(dir, "a.crt"), Key: filepath.Join(dir, "a.key"), ClientCA: filepath.Join(dir, CACert)})
	if err := say(asks, good()); err == nil {
		t.Error("a client without a certificate gets in")
	}
	for from, ok := range map[string]bool{dir: true, other: false} {
		cfg := good()
		pair, err := tls.LoadX509KeyPair(filepath.Join(from, "cli.crt"), filepath.Join(from, "cli.key"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
		if err := say(asks, cfg); (err == nil) != ok {
			t.Errorf("certificate of %s: %v", from, err)
		}
	}
	if _, err := NewServer(nil, ServerOptions{Cert: filepath.Join(dir, "a.crt"), Key: filepath.Join(dir, "cli.key")}); err == nil || !strings.Contains(err.Error(), "belong") {
		t.Errorf("key of another certificate: %v", err)
	}
}
