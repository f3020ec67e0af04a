package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"repld/internal/certs"
	"repld/internal/events"
	"repld/replicate"
)

// secure puts TLS between this node and its peers, if it has certificates.
func (n *Node) secure(o *replicate.MeshOptions) {
	o.OnRefused = func(peer, addr string, err error) {
		n.events.Record(events.Refused, "connection between nodes refused", slog.String("peer", peer), slog.String("addr", addr), slog.Any("reason", err))
	}
	if id := n.o.TLS; id != nil {
		o.WrapServer, o.WrapClient, o.Authenticate = id.WrapServer, id.WrapClient, certs.Verify
	}
}

const (
	alarmCertificate = "certificate"
	certificateLook  = 10 * time.Second // how often the end of a certificate is looked at
)

// certificates reloads changed files and says when they end.
func (n *Node) certificates(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.o.TLS.Run(ctx) // nil
	}()
	defer func() {
		cancel()
		<-done
	}()
	t := time.NewTicker(certificateLook)
	defer t.Stop()
	for {
		n.lookAtCertificate(time.Now())
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) lookAtCertificate(now time.Time) {
	if end := n.o.TLS.NotAfter(); n.certificateEnd.Swap(end.UnixNano()) != end.UnixNano() {
		n.events.Record(events.Security, "certificate in force", slog.Time("not_after", end))
	}
	if text := n.o.TLS.Problem(now); text != "" {
		n.group.alarms.raise(alarmCertificate, text)
		return
	}
	n.group.alarms.clear(alarmCertificate)
}

// ReloadCertificates reads the certificates of the connections between nodes again. If they do not fit, the old ones stay in force.
func (n *Node) ReloadCertificates() error {
	if n.o.TLS == nil {
		return nil
	}
	err := n.o.TLS.Reload()
	if err != nil {
		err = fmt.Errorf("reload certificates: %w", err)
		n.events.Record(events.Security, "certificates not reloaded", slog.Any("error", err))
	}
	n.lookAtCertificate(time.Now())
	return err
}

// certificateEnd is when this node's certificate ends, zero without one.
func (g *group) certificateEnd() time.Time {
	if g.o.TLS == nil {
		return time.Time{}
	}
	return g.o.TLS.NotAfter()
}
