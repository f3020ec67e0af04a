package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"repld/internal/admin"
	"repld/internal/certs"
	"repld/internal/node"
	"repld/internal/server"
)

// inProcess runs a node in this process, on real files and sockets.
type inProcess struct {
	node   *Node
	cancel context.CancelFunc
	done   chan error
}

func (p *inProcess) start() error {
	if p.alive() {
		return errors.New("it runs already")
	}
	n := p.node
	out, err := os.OpenFile(n.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	o := n.options()
	if n.c.secure() {
		if o.TLS, err = certs.Load(certs.Options{Files: n.tls(), Cluster: "test", Node: n.Name}); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	o.Logger = slog.New(slog.NewTextHandler(out, nil))
	x, err := node.Open(o)
	if err != nil {
		return err
	}
	clients, err := server.ListenUnix(n.Socket, 0o660)
	if err != nil {
		return errors.Join(err, x.Close())
	}
	adm, err := admin.Listen(n.admin, 0o600)
	if err != nil {
		return errors.Join(err, clients.Close(), x.Close())
	}
	var tcp []net.Listener
	for _, addr := range []string{n.TCP, n.Guide} {
		if addr == "" {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return errors.Join(err, adm.Close(), clients.Close(), x.Close())
		}
		tcp = append(tcp, l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p.cancel, p.done = cancel, done
	web := &http.Server{Handler: x.Handler()}
	go func() { _ = web.Serve(adm) }()
	go func() { _ = x.ServeClients(clients, false) }()
	if len(tcp) == 2 {
		go func() { _ = x.ServeClients(tcp[0], false) }()
		go func() { _ = x.ServeSentinel(tcp[1]) }()
	}
	go func() {
		err := x.Run(ctx)
		done <- errors.Join(err, web.Close(), out.Close())
		close(done)
	}()
	return nil
}

func (n *Node) options() node.Options {
	s := n.c.Spec
	o := node.Options{
		Cluster: "test", Name: n.Name, Dir: n.Dir, StandbyReads: s.StandbyReads, ApplyDelay: n.spec.Delay, Sync: node.SyncOptions{K: s.K},
		SegmentBytes: s.Segment, LogBudget: s.Retain, CommitTimeout: s.Commit, StallLimit: s.Stall,
		Listen: func() (net.Listener, error) { return net.Listen("tcp", n.Addr) },
	}
	o.Forward, o.Client.ForwardWait = s.Forward, time.Minute
	if s.Sentinel {
		o.Reach, o.Sentinel.Announce = n.TCP, n.Guide
	}
	if n.spec.Delay > 0 {
		o.Mode = node.ModeLagged
	}
	for _, p := range n.c.Others(n.Name) {
		o.Peers = append(o.Peers, node.Peer{Name: p.Name, Addr: p.Addr})
	}
	return o
}

func (p *inProcess) stop() error {
	if !p.alive() {
		return errors.New("it does not run")
	}
	p.cancel()
	err := <-p.done
	p.done = nil
	return err
}

func (p *inProcess) alive() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *inProcess) kill() error   { return errNotAProcess }
func (p *inProcess) pause() error  { return errNotAProcess }
func (p *inProcess) resume() error { return nil }
