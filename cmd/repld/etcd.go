package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"repld/failover/etcdstore"
	"repld/internal/config"
	"repld/internal/node"
)

// etcdStore opens the token in etcd, which need not answer yet.
func etcdStore(c *config.Config, o *node.Options, logger *slog.Logger) error {
	e := &c.Token.Etcd
	secured, err := etcdTLS(e)
	if err != nil {
		return fmt.Errorf("token store etcd: %w", err)
	}
	store, err := etcdstore.Open(etcdstore.Options{
		Endpoints: e.Endpoints, Key: fmt.Sprintf("%s/%s/default/token", e.Prefix, c.Cluster), Username: e.User, Password: e.Password, TLS: secured, Logger: logger,
	})
	if err != nil {
		return fmt.Errorf("token store etcd: %w", err)
	}
	o.Token, o.CloseToken = store, store.Close
	return nil
}

// etcdTLS is how to talk to https endpoints.
func etcdTLS(e *config.Etcd) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CA != "" {
		pem, err := os.ReadFile(e.CA)
		if err != nil {
			return nil, err
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", e.CA)
		}
	}
	if e.Cert != "" {
		pair, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
