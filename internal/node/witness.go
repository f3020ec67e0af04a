package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"repld/failover"
	"repld/failover/raftstore"
	"repld/internal/admin"
	"repld/internal/durable"
	"repld/internal/events"
	"repld/internal/heartbeat"
	"repld/internal/sentinel"
	"repld/replicate"
	"repld/wal"
)

// Witness is a node without data: it votes on the token and on who is alive, remembers the highest epoch (R3), and tells clients and people what it sees.
// It is never promoted and never counts for R5.
type Witness struct {
	o        Options
	dir      string
	logger   *slog.Logger
	lock     io.Closer
	id       identity
	started  time.Time
	mesh     *replicate.Mesh
	fence    *failover.Fence
	raft     *raftstore.Store // nil when the token is elsewhere
	voter    *voter
	peers    *peers
	roster   *roster
	alarms   *alarms
	events   *events.Log
	sentinel *sentinel.Server
	admin    http.Handler

	maintenance maintenance
	certificate certificate

	failed  chan struct{} // closed by fail
	failure error         // why; set before failed is closed
	once    sync.Once
	ready   chan struct{} // closed once everything runs
}

// OpenWitness locks the data directory and recovers epoch and token log. The caller calls Run next, or Close.
func OpenWitness(o Options) (_ *Witness, err error) {
	o.EnsureDefaults()
	if err := o.validateWitness(); err != nil {
		return nil, err
	}
	w := &Witness{
		o: o, logger: o.Logger.With("node", o.Name), started: time.Now(), failed: make(chan struct{}), ready: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.closeDisk())
		}
	}()
	if err := w.openDisk(); err != nil {
		return nil, err
	}
	if err := w.openParts(); err != nil {
		return nil, err
	}
	w.logger.Info("witness opened", "incarnation", w.id.Incarnation, "epoch", w.fence.Epoch())
	w.events.Record(events.Start, "witness opened", slog.String("node", o.Name), slog.String("version", o.Version), slog.String("incarnation", w.id.Incarnation),
		slog.Uint64("epoch", uint64(w.fence.Epoch())), slog.String("holder", w.fence.Holder()))
	return w, nil
}

// validateWitness reports what a witness cannot work with.
func (o *Options) validateWitness() error {
	data := 0
	for _, p := range o.Peers {
		if !p.Witness {
			data++
		}
	}
	switch {
	case o.Cluster == "" || o.Name == "" || o.Dir == "" || o.Listen == nil:
		return errors.New("witness options: cluster, name, dir and a listener for peers are required")
	case data == 0:
		return errors.New("witness options: no peer holds data")
	case !o.tokenShared():
		return errors.New("witness options: the token store is one that a witness has no part in")
	}
	return nil
}

// openDisk recovers what the witness has promised.
func (w *Witness) openDisk() error {
	o := &w.o
	w.dir = o.FS.PathJoin(o.Dir, "groups", o.Group)
	if err := durable.MakeDir(o.FS, o.Dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	var err error
	if w.lock, err = o.FS.Lock(o.FS.PathJoin(o.Dir, "LOCK")); err != nil {
		return fmt.Errorf("data directory %s is in use by another process: %w", o.Dir, err)
	}
	id, fresh, err := openIdentity(o.FS, o.Dir, o.Cluster, o.Name, time.Now())
	if err != nil {
		return err
	}
	w.id = id
	for _, d := range []string{o.FS.PathJoin(o.Dir, "groups"), w.dir, o.FS.PathJoin(o.Dir, "events")} {
		if err := durable.MakeDir(o.FS, d); err != nil {
			return err
		}
	}
	if exists(o.FS, o.FS.PathJoin(w.dir, "wal")) {
		return fmt.Errorf("data directory %s holds the log of a data node: give the witness an empty one", o.Dir)
	}
	slots, rec, err := failover.OpenSlots(failover.SlotsOptions{FS: o.FS, Dir: w.dir, Name: "epoch", Create: fresh})
	if err != nil {
		return fmt.Errorf("open epoch file: %w", err)
	}
	for _, bad := range rec.Bad {
		w.logger.Warn("epoch slot damaged, the other one is used", "error", bad)
	}
	w.fence = failover.NewFence(slots)
	if fresh {
		if err := writeIdentity(o.FS, o.Dir, id); err != nil {
			return err
		}
	}
	if err := w.maintenance.open(o.FS, w.dir); err != nil {
		return err
	}
	w.events, err = events.Open(events.Options{FS: o.FS, Dir: o.FS.PathJoin(o.Dir, "events"), Logger: w.logger, OnTrouble: func(err error) {
		w.alarms.clear(alarmJournal)
		if err != nil {
			w.alarms.raise(alarmJournal, fmt.Sprintf("the event journal cannot be written: %v", err))
		}
	}})
	w.alarms = newAlarms(w.events)
	return err
}

// openParts makes what talks to the other nodes.
func (w *Witness) openParts() (err error) {
	o := &w.o
	mesh := replicate.MeshOptions{
		Cluster: o.Cluster, Node: o.Name, Incarnation: w.id.incarnation(), Peers: o.meshPeers(), Listen: o.Listen, LinkListen: o.ListenHeartbeat, Dial: o.Dial,
		OnPeer: func(name string, up bool) {
			w.events.Record(events.Peer, "session with a peer changed", slog.String("peer", name), slog.Bool("up", up))
		},
		Logger: w.logger,
	}
	secure(&mesh, o.TLS, w.events)
	w.certificate.id, w.certificate.events, w.certificate.alarms = o.TLS, w.events, w.alarms
	if w.mesh, err = replicate.NewMesh(mesh); err != nil {
		return err
	}
	if o.Raft != nil && o.Token == nil {
		parent := o.FS.PathJoin(w.dir, "token")
		if w.raft, err = openRaft(o, parent, o.FS.PathJoin(parent, "raft"), w.mesh, w.logger, w.fail, func(peer string) bool { return w.voter.suspected(peer) }); err != nil {
			return err
		}
	}
	w.fence.OnRise(func(e wal.Epoch, holder string) {
		w.events.Record(events.Epoch, "epoch promised", slog.Uint64("epoch", uint64(e)), slog.String("holder", holder))
		w.roster.bump()
	})
	w.peers = newPeers(w.mesh, o.dataPeers())
	w.roster = newRoster(w.profile, w.peers, o.peerNames(), o.Gossip)
	if err := w.newVoter(); err != nil {
		return err
	}
	w.admin = admin.NewHandler(witnessAPI{w}, w.logger)
	s := o.Sentinel
	def(&s.Name, o.Cluster)
	w.sentinel, err = sentinel.New(sentinel.Options{
		Name: s.Name, View: sentinelView{w.roster, o}, Failover: s.failover(o.Name, witnessAPI{w}), Password: s.Password, RedisVersion: o.Client.RedisVersion, DownAfter: w.roster.window(), Logger: w.logger,
	})
	return err
}

func (w *Witness) newVoter() (err error) {
	o, f := &w.o, &w.o.Failover
	mono := func(d time.Duration) failover.Mono { return failover.Mono(max(0, d)) }
	var witnesses []string
	for _, p := range o.Peers {
		if p.Witness {
			witnesses = append(witnesses, p.Name)
		}
	}
	w.voter, err = newVoter(voterOptions{
		peers: o.peerNames(), interval: o.Heartbeat, lease: f.Lease, clock: o.Clock, logger: w.logger,
		detector: failover.DetectorOptions{
			Node: o.Name, Nodes: o.dataPeers(), Witnesses: append(witnesses, o.Name), Automatic: f.Mode == FailoverAutomatic,
			Interval: mono(o.Heartbeat), Suspect: mono(f.Suspect), Lease: mono(f.Lease), StepDown: mono(f.StepDown), Startup: mono(f.Startup),
			Stagger: mono(o.Heartbeat), Backoff: mono(f.Backoff), Preferred: f.Preferred, TakeBack: mono(f.TakeBack), PreferZone: f.PreferZone,
		},
		dial: func(ctx context.Context, peer string) (net.Conn, error) {
			return w.mesh.DialLink(ctx, peer, linkHeartbeat)
		},
		self: w.self,
		obeys: func() (wal.Epoch, string) {
			st := w.fence.State()
			return st.Epoch(), st.Holder()
		},
		heard: func(b failover.Beat) {
			w.observe(nodeState{Epoch: b.Epoch, Holder: b.Holder, Sync: b.Sync})
			w.adopt(b.Paused)
		},
		acked: func(_ string, a heartbeat.Ack, _ failover.Mono) {
			w.observe(nodeState{Epoch: a.Epoch, Holder: a.Holder})
		},
		gone:    leaderGone(w.raft),
		leased:  func() bool { return false },
		traffic: func() (string, wal.Epoch, bool) { return "", 0, false },
		do:      func(context.Context, failover.Measure, *voter) {}, // it is no candidate
	})
	if err == nil {
		w.voter.listen(w.mesh)
	}
	return err
}

// self is what the witness says of itself with each heartbeat.
func (w *Witness) self() failover.Self {
	st := w.fence.State()
	return failover.Self{Beat: failover.Beat{
		Node: w.o.Name, Role: failover.RoleWitness, Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync(), Zone: w.o.Failover.Zone, Paused: w.maintenance.get(),
	}}
}

// observe persists a newer epoch before it is answered (R3).
func (w *Witness) observe(s nodeState) {
	if s.Epoch == 0 || s.Holder == "" || s.Epoch < w.fence.Epoch() {
		return
	}
	err := w.fence.Observe(s.Epoch, s.Holder, s.Sync)
	switch {
	case errors.Is(err, failover.ErrFailed):
		w.fail(fmt.Errorf("epoch file: %w", err))
	case err != nil && !errors.Is(err, failover.ErrStaleEpoch) && !errors.Is(err, failover.ErrConflict):
		w.logger.Warn("epoch not noted", "epoch", s.Epoch, "holder", s.Holder, "error", err)
	}
}

// adopt takes over a newer word about maintenance.
func (w *Witness) adopt(next failover.Maintenance) {
	if next.Version == 0 || !next.Newer(w.maintenance.get()) {
		return
	}
	if _, err := w.maintenance.set(next); err != nil {
		w.logger.Warn("maintenance not noted", "error", err) // the next heartbeat brings it again
	}
}

// exchange takes note of a peer's epoch and tells it ours.
func (w *Witness) exchange(_ context.Context, theirs nodeState) (nodeState, error) {
	w.observe(theirs)
	st := w.fence.State()
	return nodeState{Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync()}, nil
}

// survey is what the witness answers to those who ask all nodes.
func (w *Witness) survey(context.Context, struct{}) (failover.Answer, error) {
	a := w.fence.State().Answer(w.o.Name)
	a.Incarnation, a.Role, a.Voter, a.Blank = w.id.Incarnation, failover.RoleWitness, false, true
	a.LeaseOf, a.LeaseLeft = w.voter.left(a.Epoch)
	return a, nil
}

// profile is what the witness tells the others of itself.
func (w *Witness) profile() profile {
	st := w.fence.State()
	return profile{Node: w.o.Name, Incarnation: w.id.Incarnation, Epoch: st.Epoch(), Holder: st.Holder(), Sentinel: w.o.Sentinel.Announce}
}

// status is the witness's own row of the status table.
func (w *Witness) status() admin.NodeStatus {
	st := w.fence.State()
	return admin.NodeStatus{
		Node: w.o.Name, Role: admin.RoleWitness, Incarnation: w.id.Incarnation, Version: w.o.Version, PID: os.Getpid(), Started: w.started,
		Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync(), Alarms: w.alarms.list(), CertificateEnd: w.o.certificateEnd(), Token: tokenStatus(w.raft),
	}
}

// Status describes the cluster as the witness sees it; with local only itself.
func (w *Witness) Status(ctx context.Context, local bool) admin.ClusterStatus {
	c := gatherStatus(ctx, &w.o, w.status(), w.peers, local)
	token := w.o.Token
	if w.raft != nil {
		token = w.raft
	}
	if !local {
		addPromotable(ctx, &c, token, func(ctx context.Context) []failover.Answer {
			return w.peers.survey(ctx, false, surveyTerms{}, func(ctx context.Context, peer string) (a failover.Answer, err error) {
				err = w.peers.call(ctx, peer, peerSurvey, nil, &a)
				return a, err
			})
		})
	}
	return c
}

func (w *Witness) peerHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+peerState, answerTo(w.exchange))
	mux.HandleFunc("GET "+peerSurvey, answerTo(w.survey))
	mux.HandleFunc("GET "+peerStatus, answerTo(func(context.Context, struct{}) (admin.NodeStatus, error) { return w.status(), nil }))
	mux.HandleFunc("POST "+peerRoster, answerTo(w.roster.answer))
	mux.Handle(peerAdmin+"/", http.StripPrefix(peerAdmin, w.admin))
	return mux
}

// parts lists every long-lived goroutine, in the order in which they start; they stop in reverse.
func (w *Witness) parts() []part {
	peerHTTP := &http.Server{Handler: w.peerHandler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(w.logger.Handler(), slog.LevelDebug)}
	parts := []part{
		{"events", w.events.Run},
		{"peer calls", func(ctx context.Context) error { return serveHTTP(ctx, peerHTTP, w.mesh.Listener(streamHTTP)) }},
		{"sessions", w.mesh.Run},
		{"roster", w.roster.run},
		{"sentinel", w.sentinel.Run},
		{"failure detector", w.voter.run},
		{"heartbeats", w.voter.agent.Run},
	}
	if w.o.TLS != nil {
		parts = append(parts, part{"certificates", w.certificate.run})
	}
	if w.raft != nil {
		parts = append(parts, part{"token store", w.raft.Run})
	}
	return parts
}

// Run works until ctx ends or the disk fails. It returns nil after a stop that was asked for.
func (w *Witness) Run(ctx context.Context) error {
	all := start(ctx, w.parts(), w.fail)
	close(w.ready)
	select {
	case <-ctx.Done():
		w.events.Record(events.Stop, "witness stops as asked")
	case <-w.failed:
		w.events.Record(events.Stop, "witness stops because it failed", slog.Any("error", w.failure))
	}
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		all[i].cancel()
		select {
		case <-all[i].done:
		case <-time.After(stopTimeout):
			errs = append(errs, fmt.Errorf("%s does not stop", all[i].name))
		}
	}
	return w.close(errs)
}

// fail stops the witness with the reason (R10).
func (w *Witness) fail(err error) {
	w.once.Do(func() {
		w.logger.Error("witness stops", "error", err)
		w.failure = err
		close(w.failed)
	})
}

func (w *Witness) close(errs []error) error {
	w.peers.close()
	errs = append(errs, w.mesh.Close())
	select {
	case <-w.failed:
		errs = append([]error{w.failure}, errs...)
	default:
	}
	err := errors.Join(append(errs, w.closeDisk())...)
	w.logger.Info("witness closed", "error", err)
	return err
}

func (w *Witness) closeDisk() error {
	var errs []error
	if w.raft != nil {
		errs = append(errs, w.raft.Close())
	}
	if w.o.CloseToken != nil {
		errs = append(errs, w.o.CloseToken())
	}
	if w.fence != nil {
		errs = append(errs, w.fence.Close())
	}
	if w.lock != nil {
		errs = append(errs, w.lock.Close())
	}
	return errors.Join(errs...)
}

// Close closes a witness that was opened but not run.
func (w *Witness) Close() error { return w.close(nil) }

// Ready is closed once all parts run.
func (w *Witness) Ready() <-chan struct{} { return w.ready }

// Handler is what the admin socket serves.
func (w *Witness) Handler() http.Handler { return adminMux(w.admin) }

// ServeSentinel serves the Sentinel API on l until the witness stops.
func (w *Witness) ServeSentinel(l net.Listener) error {
	err := w.sentinel.Serve(l)
	if errors.Is(err, sentinel.ErrClosed) {
		return nil
	}
	return err
}
