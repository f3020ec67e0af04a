package main

import (
	"fmt"
	"log/slog"
	"time"

	"repld/internal/certs"
	"repld/internal/config"
)

// identity reads the certificates of the connections between nodes.
func identity(c *config.Config, logger *slog.Logger) (*certs.Identity, error) {
	id, err := certs.Load(certs.Options{
		Files: certs.Files{CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key}, Cluster: c.Cluster, Node: c.Node, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return id, nil
}

// checkFiles says what is wrong with the files that the settings name: check-config looks at them, as a start would.
func checkFiles(c *config.Config) (warning string, err error) {
	if _, err := accessList(c); err != nil {
		return "", err
	}
	if !c.TLS.Set() {
		return "", nil
	}
	id, err := identity(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	return id.Problem(time.Now()), nil
}
