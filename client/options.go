package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Options say where the nodes are. The zero value of a field means its default.
type Options struct {
	// Addrs are the nodes: host:port, or the path of a unix socket. A socket of a node that forwards is enough.
	Addrs []string
	// Sentinels are Sentinel endpoints, host:port; the nodes that they name are added to Addrs.
	Sentinels []string
	// Name is the group's name at the Sentinels. Required with Sentinels.
	Name string
	// User is whom to log in as, with Password. Default: the user "default".
	User string
	// Password is given to nodes that ask for one; "" to none.
	Password string
	// TLS is how to talk to nodes over TCP; unix sockets are used as they are. ServerName is the host of the address unless it is set. nil: plain text.
	TLS *tls.Config
	// SentinelTLS is the same for Sentinels.
	SentinelTLS *tls.Config
	// SentinelPassword is given to Sentinels that ask for one.
	SentinelPassword string
	// Timeout ends a call whose context has no earlier deadline. Default 30 s.
	Timeout time.Duration
	// Retention is how long the active keeps the result of Do. Longer than the longest Timeout, at most 7 days. Default 10 min.
	Retention time.Duration
	// Attempt bounds one try: connecting, and waiting for an answer. It must be longer than the node's commit_timeout. Default 15 s.
	Attempt time.Duration
	// Probe bounds the question who is active, to one node. Default 1 s.
	Probe time.Duration
	// MinRetry and MaxRetry are the pause between two tries, doubled each time. Default 2 ms and 250 ms.
	MinRetry, MaxRetry time.Duration
	// PoolSize is how many connections there may be to the active. Default 16.
	PoolSize int
	// Dial opens a connection. Default: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// EnsureDefaults fills in the fields that are zero.
func (o *Options) EnsureDefaults() {
	def := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.Timeout, 30*time.Second)
	def(&o.Retention, 10*time.Minute)
	def(&o.Attempt, 15*time.Second)
	def(&o.Probe, time.Second)
	def(&o.MinRetry, 2*time.Millisecond)
	def(&o.MaxRetry, 250*time.Millisecond)
	if o.PoolSize == 0 {
		o.PoolSize = 16
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
}

const maxRetention = 7 * 24 * time.Hour

// Validate reports everything that cannot be worked with.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("client options: "+format, args...)) }
	if len(o.Addrs)+len(o.Sentinels) == 0 {
		bad("no addresses")
	}
	if len(o.Sentinels) > 0 && o.Name == "" {
		bad("sentinels without the group's name")
	}
	if o.Retention < time.Millisecond || o.Retention > maxRetention {
		bad("retention %s is not between 1ms and %s", o.Retention, maxRetention)
	}
	if o.Retention < o.Timeout {
		bad("retention %s is shorter than timeout %s: a repetition could come too late", o.Retention, o.Timeout)
	}
	if o.Timeout <= 0 || o.Attempt <= 0 || o.Probe <= 0 || o.MinRetry <= 0 || o.MaxRetry < o.MinRetry || o.PoolSize <= 0 {
		bad("timeouts and sizes must be positive, and max retry not below min retry")
	}
	if o.User != "" && o.Password == "" {
		bad("user %s without a password", o.User)
	}
	return errors.Join(errs...)
}
