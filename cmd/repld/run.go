package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
	"repld/internal/certs"
	"repld/internal/config"
	"repld/internal/node"
	"repld/internal/procs"
)

// run runs the node until a signal or a failure.
func (a *app) run(cmd *cobra.Command) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	syscall.Umask(0o077) // data is nobody else's; sockets get their modes by themselves
	level := new(slog.LevelVar)
	logger := newLogger(a.err, c.Log, level)
	for _, w := range c.Warnings {
		logger.Warn("odd configuration", "what", w)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(signals)
	d := &daemon{config: c, logger: logger, notify: newNotifier(logger)}
	reload := func() {
		next, err := a.load(cmd)
		if err != nil {
			logger.Error("configuration not reloaded", "error", err)
			return
		}
		if err := d.reloadACL(next); err != nil {
			logger.Error("users not reloaded", "error", err)
			return
		}
		level.Set(levelOf(next.Log.Level))
		_ = d.node.ReloadCertificates() // said by it
		logger.Info("configuration reloaded", "log_level", next.Log.Level, "note", "certificates and users were read again; other settings take effect at the next start")
	}
	if err := d.run(signals, reload); err != nil {
		return failure{err}
	}
	return nil
}

// errUnclean: the node did not end in time. The log and the state recover from that as from a crash.
var errUnclean = errors.New("no clean stop")

// daemon is a node with its sockets.
type daemon struct {
	config *config.Config
	logger *slog.Logger
	notify notifier
	node   process
	data   *node.Node // node, unless that is a witness
}

// process is a data node or a witness.
type process interface {
	Run(ctx context.Context) error
	Close() error
	ReloadCertificates() error
	Refused(what string, who admin.Caller)
	Ready() <-chan struct{}
	Handler() http.Handler
	Web() http.Handler
	ServeSentinel(l net.Listener) error
	Status(ctx context.Context, local bool) admin.ClusterStatus
}

// open opens the node that is configured.
func (d *daemon) open(o node.Options) (err error) {
	if d.config.Role == config.RoleWitness {
		d.node, err = node.OpenWitness(o)
		return err
	}
	d.data, err = node.Open(o)
	d.node = d.data
	return err
}

// run opens and serves the node. It returns nil after a stop that was asked for.
func (d *daemon) run(signals <-chan os.Signal, reload func()) error {
	o, err := nodeOptions(d.config, d.logger)
	if err != nil {
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		d.logger.Info("processors", "in_use", procs.Share(d.config.Limits.Processors), "of", runtime.NumCPU())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if d.config.Client.Shutdown {
		o.Client.OnShutdown = cancel // SHUTDOWN from a client is a clean stop too
	}
	d.notify.send("STATUS=recovering the log and the state")
	if err := d.open(o); err != nil {
		return err
	}
	services, err := d.listen()
	if err != nil {
		return errors.Join(err, d.node.Close())
	}
	ended := make(chan error, 1)
	go func() { ended <- d.node.Run(ctx) }()
	var wg sync.WaitGroup
	wg.Go(func() { d.tell(ctx) })
	for _, s := range services {
		wg.Go(func() {
			if err := s.serve(); err != nil {
				d.logger.Error("listener failed", "listener", s.name, "error", err)
				cancel()
			}
		})
	}
	err = d.wait(ctx, cancel, signals, reload, ended)
	cancel()
	if errors.Is(err, errUnclean) {
		return err // whatever hangs would hang here too
	}
	for _, s := range services {
		s.stop()
	}
	wg.Wait()
	return err
}

// wait returns when the node has ended. The first SIGTERM or SIGINT stops it; a second, or stop.timeout, gives up on a clean end.
func (d *daemon) wait(ctx context.Context, stop context.CancelFunc, signals <-chan os.Signal, reload func(), ended <-chan error) error {
	var deadline <-chan time.Time
	stopping := ctx.Done()
	begin := func() {
		if deadline == nil {
			deadline = time.After(d.config.Stop.Timeout)
			d.notify.send("STOPPING=1", "STATUS=draining clients")
		}
	}
	for {
		select {
		case err := <-ended:
			return err
		case <-stopping:
			stopping = nil
			begin()
		case <-deadline:
			return fmt.Errorf("%w within %v", errUnclean, d.config.Stop.Timeout)
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				reload()
			case deadline != nil:
				return fmt.Errorf("%w: second %v", errUnclean, s)
			default:
				d.logger.Info("stopping", "signal", s.String())
				begin()
				stop()
			}
		}
	}
}

// service is one listener at work.
type service struct {
	name  string
	serve func() error
	stop  func()
}

// listen opens all sockets; when one fails those before it are closed.
func (d *daemon) listen() (out []service, err error) {
	defer func() {
		if err != nil {
			for _, s := range out {
				s.stop()
			}
		}
	}()
	l, err := admin.Listen(d.config.Admin.Socket, d.config.Admin.Mode)
	if err != nil {
		return out, err
	}
	if l, err = d.restrict(l, "admin", "", d.config.Admin.Users, d.config.Admin.Groups); err != nil {
		return out, err
	}
	out = append(out, d.httpService("admin", l, d.node.Handler()))
	if d.config.Admin.HTTP != "" {
		l, err := net.Listen("tcp", d.config.Admin.HTTP)
		if err != nil {
			return out, fmt.Errorf("listen for health checks: %w", err)
		}
		out = append(out, d.httpService("health", l, d.node.Web()))
	}
	if s := d.config.Sentinel; s.Listen != "" {
		l, err := net.Listen("tcp", s.Listen)
		if err != nil {
			return out, fmt.Errorf("listen for sentinel clients: %w", err)
		}
		if l, err = secure("sentinel", l, certs.ServerOptions{Cert: s.TLSCert, Key: s.TLSKey, ClientCA: s.TLSCA, Logger: d.logger}); err != nil {
			return out, err
		}
		out = append(out, service{name: "sentinel", serve: func() error { return d.node.ServeSentinel(l) }, stop: func() { _ = l.Close() }})
	}
	if d.data == nil {
		return out, nil
	}
	listeners, err := d.clientListeners()
	if err != nil {
		return out, err
	}
	for _, l := range listeners {
		out = append(out, service{
			name:  "clients at " + l.Addr().String(),
			serve: func() error { return d.data.ServeClients(l.Listener, l.auth) },
			stop:  func() { _ = l.Close() }, // the node has closed it already unless it failed early
		})
	}
	return out, nil
}

func (d *daemon) httpService(name string, l net.Listener, h http.Handler) service {
	s := &http.Server{Handler: h, ConnContext: admin.WithCaller, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(d.logger.Handler(), slog.LevelDebug)}
	return service{
		name: name,
		serve: func() error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		stop: func() { _ = errors.Join(s.Close(), l.Close()) },
	}
}

// statusEvery is how often the service manager is told the role.
const statusEvery = 5 * time.Second

// tell reports readiness, then the role from time to time.
func (d *daemon) tell(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-d.node.Ready():
	}
	d.logger.Info("node runs", "clients", d.config.Client.Socket, "admin", d.config.Admin.Socket)
	d.notify.send("READY=1")
	if !d.notify.enabled() {
		return
	}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		for _, n := range d.node.Status(ctx, true).Nodes {
			d.notify.send(fmt.Sprintf("STATUS=%s in epoch %d, applied %d of %d records", n.Role, n.Epoch, n.Applied.LSN, n.End.LSN))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
