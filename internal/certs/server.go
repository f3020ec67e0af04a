package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// ServerOptions configure a listener for clients. The zero value of a field means its default.
type ServerOptions struct {
	Cert, Key string        // PEM files, required
	ClientCA  string        // clients have to show a certificate of this authority; empty: they show none
	Timeout   time.Duration // of a handshake. Default 10 s
	Max       int           // handshakes in flight; one more is closed at once. Default 64
	Logger    *slog.Logger  // default: discards
}

// Server is a listener whose connections have done their TLS handshake, 1.2 or newer, before Accept returns them. Handshakes run beside each other, so that
// one that stands still holds up nobody, and are bounded in number and time.
type Server struct {
	net.Listener
	o     ServerOptions
	ready chan net.Conn
	slots chan struct{}
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	err   error // why accepting ended; set before ended is closed
	ended chan struct{}
	wg    sync.WaitGroup

	mu struct {
		sync.Mutex
		config *tls.Config
		tried  stamps
	}
}

// NewServer reads the files and serves l. Close ends it and l.
func NewServer(l net.Listener, o ServerOptions) (*Server, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Max == 0 {
		o.Max = 64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{Listener: l, o: o, ready: make(chan net.Conn), slots: make(chan struct{}, o.Max), ended: make(chan struct{})}
	s.mu.tried = stamp(s.files())
	config, err := s.read()
	if err != nil {
		return nil, err
	}
	s.mu.config = config
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Go(s.accept)
	return s, nil
}

func (s *Server) files() Files { return Files{CA: s.o.ClientCA, Cert: s.o.Cert, Key: s.o.Key} }

func (s *Server) read() (*tls.Config, error) {
	chain, err := ReadCerts(s.o.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readKey(s.o.Key)
	if err != nil {
		return nil, err
	}
	if err := belongs(key, chain[0]); err != nil {
		return nil, fmt.Errorf("key %s and certificate %s: %w", s.o.Key, s.o.Cert, err)
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if s.o.ClientCA != "" {
		cas, err := ReadCerts(s.o.ClientCA)
		if err != nil {
			return nil, err
		}
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		for _, c := range cas {
			config.ClientCAs.AddCert(c)
		}
	}
	return config, nil
}

// current is the configuration of the files as they are; files that do not fit leave the one before in force.
func (s *Server) current() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := stamp(s.files()); now != s.mu.tried {
		s.mu.tried = now
		config, err := s.read()
		if err != nil {
			s.o.Logger.Error("certificates for clients not reloaded, the old ones stay in force", "error", err)
		} else {
			s.mu.config = config
			s.o.Logger.Info("certificates for clients reloaded")
		}
	}
	return s.mu.config
}

// acceptRetry is the pause after running out of file descriptors, say.
const acceptRetry = 50 * time.Millisecond

func (s *Server) accept() {
	defer close(s.ended)
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			var t interface{ Temporary() bool }
			if s.ctx.Err() == nil && errors.As(err, &t) && t.Temporary() {
				select {
				case <-time.After(acceptRetry):
				case <-s.ctx.Done():
				}
				continue
			}
			s.err = err
			return
		}
		select {
		case s.slots <- struct{}{}:
		default: // a flood of connections must not become a flood of goroutines
			_ = c.Close()
			continue
		}
		s.wg.Go(func() { s.shake(c) })
	}
}

func (s *Server) shake(c net.Conn) {
	ctx, cancel := context.WithTimeout(s.ctx, s.o.Timeout)
	defer cancel()
	t := tls.Server(c, s.current())
	err := t.HandshakeContext(ctx)
	<-s.slots
	if err != nil {
		s.o.Logger.Debug("client's tls handshake failed", "addr", c.RemoteAddr().String(), "error", err)
		_ = c.Close()
		return
	}
	select {
	case s.ready <- &Conn{Conn: t}:
	case <-s.ctx.Done():
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (s *Server) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.ended:
		return nil, s.err
	}
}

// Close implements net.Listener. Connections that Accept returned stay open.
func (s *Server) Close() error {
	s.stop()
	err := s.Listener.Close()
	s.wg.Wait()
	return err
}
