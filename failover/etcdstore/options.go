package etcdstore

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"repld/failover"
)

// Options say where the key is.
type Options struct {
	Endpoints []string      // URLs or host:port of the etcd cluster, required
	Key       string        // required; the same on all nodes of a group, of no other group
	Username  string        // empty: no authentication
	Password  string        // of Username
	TLS       *tls.Config   // nil: plain text
	Timeout   time.Duration // longest that Load and CompareAndSet take, default 5 s
	Logger    *slog.Logger  // default discards
}

// EnsureDefaults fills what is unset.
func (o *Options) EnsureDefaults() {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first option that cannot work.
func (o *Options) Validate() error {
	if len(o.Endpoints) == 0 || o.Key == "" || o.Timeout < 0 {
		return fmt.Errorf("etcd store: endpoints %v, key %q, timeout %s: %w", o.Endpoints, o.Key, o.Timeout, failover.ErrInvalid)
	}
	return nil
}
