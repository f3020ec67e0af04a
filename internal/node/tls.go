package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"repld/internal/certs"
	"repld/internal/events"
	"repld/replicate"
)

const (
	alarmCertificate = "certificate"
	certificateLook  = 10 * time.Second // how often the end of a certificate is looked at
)

// certificate is what a node shows its peers, watched; id is nil in a cluster that talks in plain text.
type certificate struct {
	id     *certs.Identity
	events *events.Log
	alarms *alarms
	told   atomic.Int64 // its end, as told to the journal, unix nanoseconds
}

// secure puts TLS between this node and its peers, if it has certificates.
func secure(o *replicate.MeshOptions, id *certs.Identity, journal *events.Log) {
	o.OnRefused = func(peer, addr string, err error) {
		journal.Record(events.Refused, "connection between nodes refused", slog.String("peer", peer), slog.String("addr", addr), slog.Any("reason", err))
	}
	if id != nil {
		o.WrapServer, o.WrapClient, o.Authenticate = id.WrapServer, id.WrapClient, certs.Verify
	}
}

// run reloads changed files and says when they end.
func (c *certificate) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.id.Run(ctx) // nil
	}()
	defer func() {
		cancel()
		<-done
	}()
	t := time.NewTicker(certificateLook)
	defer t.Stop()
	for {
		c.look(time.Now())
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *certificate) look(now time.Time) {
	if end := c.id.NotAfter(); c.told.Swap(end.UnixNano()) != end.UnixNano() {
		c.events.Record(events.Security, "certificate in force", slog.Time("not_after", end))
	}
	if text := c.id.Problem(now); text != "" {
		c.alarms.raise(alarmCertificate, text)
		return
	}
	c.alarms.clear(alarmCertificate)
}

// reload reads the files again. If they do not fit, the old ones stay in force.
func (c *certificate) reload() error {
	if c.id == nil {
		return nil
	}
	err := c.id.Reload()
	if err != nil {
		err = fmt.Errorf("reload certificates: %w", err)
		c.events.Record(events.Security, "certificates not reloaded", slog.Any("error", err))
	}
	c.look(time.Now())
	return err
}

// ReloadCertificates reads the certificates of the connections between nodes again. If they do not fit, the old ones stay in force.
func (n *Node) ReloadCertificates() error { return n.certificate.reload() }

// ReloadCertificates reads the certificates of the connections between nodes again. If they do not fit, the old ones stay in force.
func (w *Witness) ReloadCertificates() error { return w.certificate.reload() }

// certificateEnd is when a node's certificate ends, zero without one.
func (o *Options) certificateEnd() time.Time {
	if o.TLS == nil {
		return time.Time{}
	}
	return o.TLS.NotAfter()
}
