package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/durable"
	"repld/internal/events"
	"repld/internal/sentinel"
	"repld/internal/server"
	"repld/replicate"
)

// Node is one repld process's worth of a cluster: Open recovers what is on disk, Run works until told to stop.
type Node struct {
	o      Options
	logger *slog.Logger
	lock   io.Closer
	id     identity
	mesh   *replicate.Mesh
	group  *group
	server *server.Server
	admin  http.Handler
	events *events.Log

	sentinel *sentinel.Server

	certificate certificate

	failed    chan struct{} // closed by fail
	forwarder *forwarder

	failure error // why; set before failed is closed
	once    sync.Once
	ready   chan struct{} // closed once everything runs
}

// Open locks the data directory and recovers log, state and epoch. The caller calls Run next, or Close.
func Open(o Options) (_ *Node, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	n := &Node{o: o, logger: o.Logger.With("node", o.Name), failed: make(chan struct{}), ready: make(chan struct{})}
	n.o.Logger = n.logger
	defer func() {
		if err != nil && n.lock != nil {
			err = errors.Join(err, n.lock.Close())
		}
	}()
	if err := durable.MakeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	n.lock, err = o.FS.Lock(o.FS.PathJoin(o.Dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another process: %w", o.Dir, err)
	}
	if exists(o.FS, o.FS.PathJoin(o.Dir, restoringDir)) {
		return nil, fmt.Errorf("%s: %w: run replctl restore again, or empty the directory", o.Dir, ErrRestoring)
	}
	var fresh bool
	n.id, fresh, err = openIdentity(o.FS, o.Dir, o.Cluster, o.Name, time.Now())
	if err != nil {
		return nil, err
	}
	if err := n.openEvents(); err != nil {
		return nil, err
	}
	n.mesh, err = replicate.NewMesh(n.meshOptions(n.peerChanged))
	if err != nil {
		return nil, err
	}
	n.o.repairMesh = func() (*replicate.Mesh, error) { return replicate.NewMesh(n.meshOptions(nil)) }
	n.group, err = openGroup(&n.o, n.id, fresh, n.mesh, n.events, n.fail)
	if err != nil {
		return nil, err
	}
	n.certificate.id, n.certificate.events, n.certificate.alarms = o.TLS, n.events, n.group.alarms
	if err := n.newServers(); err != nil {
		return nil, errors.Join(err, n.group.closeDisk())
	}
	n.logger.Info("node opened", "incarnation", n.id.Incarnation, "epoch", n.group.fence.Epoch(), "log", n.group.log.End(), "applied", n.group.state.applied(),
		"clean", n.group.recovery.Clean)
	n.opened()
	return n, nil
}

// meshOptions are those of a mesh of this node. Only one of its meshes runs at a time.
func (n *Node) meshOptions(onPeer func(string, bool)) replicate.MeshOptions {
	o := &n.o
	m := replicate.MeshOptions{
		Cluster: o.Cluster, Node: o.Name, Incarnation: n.id.incarnation(), Peers: o.meshPeers(), Listen: o.Listen, LinkListen: o.ListenHeartbeat, Dial: o.Dial,
		OnPeer: onPeer, Logger: n.logger,
	}
	secure(&m, o.TLS, n.events)
	return m
}

func (n *Node) newServers() (err error) {
	opts := n.o.Client
	opts.Backend, opts.Logger, opts.OnReply = newBackend(n.group), n.logger, n.group.phases.replied
	n.forwarder = &forwarder{group: n.group}
	if n.o.Forward {
		opts.Forward = n.forwarder
	}
	n.server, err = server.New(opts)
	if err != nil {
		return err
	}
	n.mesh.Handle(streamForward, n.serveForwarded)
	n.group.clients = func() int { return n.server.Stats().Clients }
	n.group.commands = func() uint64 { return n.server.Stats().Commands }
	n.admin = admin.NewHandler(adminAPI{n.group}, n.logger)
	return n.newSentinel()
}

// fail stops the node with the reason: what is on disk decides when it is started again (R10).
func (n *Node) fail(err error) {
	n.once.Do(func() {
		n.logger.Error("node stops", "error", err)
		n.failure = err
		close(n.failed)
	})
}

// peerChanged is called for each session that comes up or goes away.
func (n *Node) peerChanged(name string, up bool) {
	n.events.Record(events.Peer, "session with a peer changed", slog.String("peer", name), slog.Bool("up", up))
	if g := n.group; up && g != nil {
		g.follower.kick()
		select {
		case g.met <- struct{}{}:
		default:
		}
	}
}

// Handler is what the admin socket serves: the admin API, and Go's profiles below /debug/pprof/.
func (n *Node) Handler() http.Handler { return adminMux(n.admin) }

func adminMux(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", api)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// Ready is closed once all parts run.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// ServeClients serves the Redis protocol on l until the node stops; with auth, clients must give the password first.
func (n *Node) ServeClients(l net.Listener, auth bool) error {
	err := n.server.Serve(l, auth)
	if errors.Is(err, server.ErrClosed) {
		return nil
	}
	return err
}

// SetACL puts the users of an ACL file that was read again in force, where there is one. It returns how many connections were closed for it.
func (n *Node) SetACL(a *server.ACL) int { return n.server.SetACL(a) }

// Promote makes this node the active: what `replctl promote` does.
func (n *Node) Promote(ctx context.Context, req admin.PromoteRequest) (admin.PromoteResult, error) {
	return adminAPI{n.group}.Promote(ctx, req, func(admin.Event) {})
}

// Status describes the cluster as this node sees it; with local only this node.
func (n *Node) Status(ctx context.Context, local bool) admin.ClusterStatus {
	return n.group.clusterStatus(ctx, local)
}

// part is one goroutine of the node.
type part struct {
	name string
	run  func(context.Context) error
}

// parts lists every long-lived goroutine, in the order in which they start; they stop in reverse.
func (n *Node) parts() []part {
	g := n.group
	peerHTTP := &http.Server{Handler: g.peerHandler(n.admin), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug), ConnContext: admin.WithCaller}
	parts := []part{
		{"events", n.journal},
		{"digests", g.digests.run},
		{"pause guard", g.guard.run},
		{"applier", g.applier.run},
		{"role runner", g.runner.Run},
		{"peer calls", func(ctx context.Context) error { return serveHTTP(ctx, peerHTTP, n.mesh.Listener(streamHTTP)) }},
		{"sessions", n.mesh.Run},
		{"token store", g.runToken},
		{"follower", g.follower.run},
		{"gossip", g.gossip},
		{"roster", g.roster.run},
		{"links to the active", n.forwarder.run},
		{"client moves", func(ctx context.Context) error { return g.moveClients(ctx, n.server) }},
		{"sentinel", n.sentinel.Run},
		{"expiry", g.expire},
		{"log trimming", g.retention.run},
		{"scrub", g.scrub.run},
		{"disk space", (&space{g: g, fs: n.o.FS, reserve: n.o.DiskReserve}).run},
		{"archiver", g.archiver.run},
		{"checkpoints", g.keepCheckpoints},
		{"drills", g.drillNow},
		{"watchdog", g.watch},
		{"answer bound", func(ctx context.Context) error { return g.seq.sweep(ctx, n.o.CommitTimeout) }},
	}
	if n.o.TLS != nil {
		parts = append(parts, part{"certificates", n.certificate.run})
	}
	switch {
	case g.ship != nil:
		parts = append(parts, part{"log shipping", g.ship.run})
	case len(n.o.Peers) == 0:
		parts = append(parts, part{"serving alone", g.serveAlone})
	}
	if h := n.o.Hooks; len(h.OnRoleChange)+len(h.OnAlarm) > 0 {
		parts = append(parts, part{"hooks", g.hooks})
	}
	if len(n.o.Peers) > 0 {
		parts = append(parts, part{"chain heads", g.compareHeads}, part{"self-verification", g.selfVerify}, part{"sync set", (&syncSet{group: g}).run}, part{"scheduled switchover", g.keepSchedule}, part{"application probe", g.probe.run},
			part{"sightings", g.sightings.run}, part{"failure detector", g.voter.run}, part{"heartbeats", g.voter.agent.Run})
	}
	return parts
}

// running is a part at work.
type running struct {
	part
	cancel context.CancelFunc
	done   chan error
}

// start sets parts to work. They are stopped one by one, so ctx ends none of them; one that ends by itself with an error is told to fail.
func start(ctx context.Context, parts []part, fail func(error)) []running {
	all := make([]running, 0, len(parts))
	for _, p := range parts {
		pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{part: p, cancel: cancel, done: make(chan error, 1)}
		go func() {
			err := p.run(pctx)
			if err != nil && pctx.Err() == nil {
				fail(fmt.Errorf("%s: %w", p.name, err))
			}
			r.done <- err
		}()
		all = append(all, r)
	}
	return all
}

// Run works until ctx ends or something fails that only a restart can mend, then stops gracefully: clients are drained, the log and the state are
// closed cleanly. It returns nil after a stop that was asked for.
func (n *Node) Run(ctx context.Context) error {
	all := start(ctx, n.parts(), n.fail)
	n.group.begin()
	close(n.ready)
	select {
	case <-ctx.Done():
		n.group.handOverAtStop(n.o.StallLimit)
	case <-n.failed:
	}
	n.group.stopping.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- n.stop(all) }()
	select {
	case err := <-ended:
		return err
	case <-n.failed:
	}
	// A disk that hangs would hang the stop too: leave with the reason, and let recovery do the rest (R10, R12).
	late := time.NewTimer(n.o.StallLimit + failedStop)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return fmt.Errorf("%w (and the node could not be closed cleanly)", n.failure)
	}
}

// failedStop is what a node that failed may take to close, beyond its stall limit.
const failedStop = 3 * time.Second

// stop ends everything in reverse.
func (n *Node) stop(all []running) error {
	n.closes()
	n.stopClients()
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		all[i].cancel()
		if all[i].name == "role runner" {
			errs = append(errs, n.group.stopWriter())
		}
		select {
		case <-all[i].done:
		case <-time.After(stopTimeout):
			errs = append(errs, fmt.Errorf("%s does not stop", all[i].name))
		}
	}
	return n.close(errs)
}

// stopTimeout bounds the wait for each part at the end.
const stopTimeout = 10 * time.Second

// stopClients lets running batches finish and then refuses writes.
func (n *Node) stopClients() {
	g := n.group
	g.seq.refuse(server.Errorf("LOADING", "node %s is shutting down", n.o.Name))
	ctx, cancel := context.WithTimeout(context.Background(), n.o.StallLimit)
	defer cancel()
	if err := n.server.Shutdown(ctx); err != nil {
		n.logger.Warn("clients did not finish", "error", err)
	}
	g.shut(server.Errorf("LOADING", "node %s is shutting down", n.o.Name))
}

func (n *Node) close(errs []error) error {
	n.group.peers.close()
	errs = append(errs, n.server.Close(), n.group.sender.Close(), n.mesh.Close())
	select {
	case <-n.failed:
		errs = append([]error{n.failure}, errs...)
	default:
	}
	errs = append(errs, n.group.closeDisk(), n.lock.Close())
	err := errors.Join(errs...)
	n.logger.Info("node closed", "error", err)
	return err
}

// Close closes a node that was opened but not run.
func (n *Node) Close() error { return n.close(nil) }

// begin takes the role that the epoch file says: a node starts as a standby of the holder it knows. A node without peers has nobody to follow: see serveAlone.
func (g *group) begin() {
	if len(g.o.Peers) > 0 {
		g.follower.follow(g.holder())
	}
}

// serveAlone promotes a node without peers, at once. A token store that does not answer now may do so later: nobody else would try again (R12).
func (g *group) serveAlone(ctx context.Context) error {
	const alarm = "not-promoted"
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for said := false; ctx.Err() == nil; {
		_, err := g.runner.Promote(ctx, failover.PromoteOptions{Reason: "single node", Bootstrap: true}, func(string) {})
		if err == nil {
			g.alarms.clear(alarm)
			return nil
		}
		if !said && ctx.Err() == nil {
			g.logger.Error("single node not promoted, trying again", "error", err)
			said = true
		}
		g.alarms.raise(alarm, fmt.Sprintf("this node has no peers and could not take over: %v", err))
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// watch steps down when the log's present write or sync has been running for longer than StallLimit (FAULTS D16, D17): nothing that it completes later
// is acked (R10).
func (g *group) watch(ctx context.Context) error {
	every := g.o.StallLimit / 10
	t := time.NewTicker(every)
	defer t.Stop()
	var seen time.Duration // how long the present write was seen to run; a process that stood still saw one tick of it
	for {
		select {
		case <-t.C:
			busy := g.log.Busy()
			if seen = min(seen+every, busy); seen >= g.o.StallLimit {
				err := fmt.Errorf("log write has been running for %s", busy.Round(time.Millisecond))
				g.log.Fail(err)
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	err := s.Serve(l)
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
