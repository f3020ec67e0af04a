package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"repld/failover"
	"repld/internal/heartbeat"
	"repld/replicate"
	"repld/wal"
)

// FailoverMode says who promotes.
type FailoverMode string

// Modes of failover.
const (
	FailoverManual    FailoverMode = "manual"    // a person
	FailoverAutomatic FailoverMode = "automatic" // the nodes, by majority; a person may still
)

// MaxLoss is the consent, given beforehand, to lose so much when the rule R5 is not met (asynchronous replication). All limits that are set must hold; none set is no
// consent.
type MaxLoss struct {
	Records uint64        // that the old active is known to have had beyond what is left
	Bytes   int64         // of log, estimated from their number
	Time    time.Duration // since this node last had all that the active was known to have; grows until the promotion, so less than Suspect consents to nothing but proven deaths
}

func (m MaxLoss) set() bool { return m != MaxLoss{} }

// FailoverOptions say how failure is found and what follows.
type FailoverOptions struct {
	Mode       FailoverMode  // default manual
	Suspect    time.Duration // silence after which a node counts as gone. Default 500 ms
	Lease      time.Duration // for which a voter supports the active it heard. Default 500 ms
	StepDown   time.Duration // an active without lease gives up after so long (automatic). Default 5 s
	Startup    time.Duration // how long a node that started waits for the others before it takes over without them. Default 2 s
	Backoff    time.Duration // most that follows between failovers when there are more than five a minute; negative: none. Default 30 s
	Priority   int           // among standbys that are as good otherwise the highest goes first
	Zone       string        // of this node
	PreferZone string        // candidates of this zone go first
	Preferred  string        // node that takes the activity back
	TakeBack   time.Duration // once it has been well for so long; 0: not by itself
	MaxLoss    MaxLoss
	LocalReads bool // the active answers reads without a lease
}

func (o *FailoverOptions) ensureDefaults() {
	def(&o.Mode, FailoverManual)
	def(&o.Suspect, 500*time.Millisecond)
	def(&o.Lease, 500*time.Millisecond)
	def(&o.StepDown, 5*time.Second)
	def(&o.Startup, 2*time.Second)
	def(&o.Backoff, 30*time.Second)
}

// validate reports what cannot work, with the reason.
func (o *Options) validateFailover(bad func(string, ...any)) {
	f := &o.Failover
	witnesses := 0
	for _, p := range o.Peers {
		if p.Witness {
			witnesses++
		}
	}
	switch {
	case f.Mode != FailoverManual && f.Mode != FailoverAutomatic:
		bad("node options: failover mode %q", f.Mode)
	case f.Lease <= 0 || f.Lease < 3*o.Heartbeat:
		bad("node options: lease %s is less than three heartbeats of %s: one lost packet would end it", f.Lease, o.Heartbeat)
	case f.Suspect < 3*o.Heartbeat:
		bad("node options: suspicion after %s is less than three heartbeats of %s: one lost packet would cause a failover", f.Suspect, o.Heartbeat)
	case f.Lease > f.Suspect:
		bad("node options: lease %s is longer than the silence of %s that makes suspicious: voters could not support a candidate when it asks", f.Lease, f.Suspect)
	}
	if f.Mode != FailoverAutomatic {
		return
	}
	if len(o.Peers) > 0 && len(o.Peers)+1 < 3 {
		bad("node options: automatic failover with two voters: the one that is left is no majority; add a witness or a third node")
	}
	if len(o.Peers) > 0 && !o.tokenShared() {
		bad("node options: automatic failover needs a token store that all nodes share")
	}
	known := f.Preferred == "" || f.Preferred == o.Name
	for _, p := range o.Peers {
		known = known || p.Name == f.Preferred && !p.Witness
	}
	if !known {
		bad("node options: preferred active %q is not a data node", f.Preferred)
	}
}

// leaseMargin is what the active gives away of the lease for clocks that run at different speeds: a tenth.
func leaseMargin(lease time.Duration) failover.Mono { return failover.Mono(lease / 10) }

// newFailover makes the group's lease, voter and what belongs to them. Nothing runs yet.
func (g *group) newFailover(mesh *replicate.Mesh) error {
	o, f := g.o, &g.o.Failover
	clock := o.Clock
	var voters, witnesses []string
	for _, p := range o.Peers {
		voters = append(voters, p.Name)
		if p.Witness {
			witnesses = append(witnesses, p.Name)
		}
	}
	g.probe.o, g.probe.logger = o.Probe, g.logger
	if err := g.maintenance.open(o.FS, g.dir); err != nil {
		return err
	}
	g.sightings.open(o.FS, g.dir, g.logger)
	if bad, err := g.schedule.open(o.FS, g.path(scheduleFile)); err != nil {
		return err
	} else if bad != nil {
		g.logger.Warn("nothing is scheduled", "error", bad)
	}
	g.lease = newReadLease(failover.LeaseOptions{
		Voters: voters, Majority: g.majorityLease(), Length: failover.Mono(f.Lease), Margin: leaseMargin(f.Lease),
	}, f.LocalReads, clock)
	mono := func(d time.Duration) failover.Mono { return failover.Mono(max(0, d)) }
	v, err := newVoter(voterOptions{
		peers: voters, interval: o.Heartbeat, lease: f.Lease, clock: clock, logger: g.logger,
		detector: failover.DetectorOptions{
			Node: o.Name, Nodes: g.nodes(), Witnesses: witnesses, Automatic: f.Mode == FailoverAutomatic && len(o.Peers) > 0,
			Interval: mono(o.Heartbeat), Suspect: mono(f.Suspect), Lease: mono(f.Lease), StepDown: mono(f.StepDown), Startup: mono(f.Startup),
			Stagger: mono(o.Heartbeat), Backoff: mono(f.Backoff), Preferred: f.Preferred, TakeBack: mono(f.TakeBack), PreferZone: f.PreferZone,
		},
		dial: func(ctx context.Context, peer string) (net.Conn, error) {
			return mesh.DialLink(ctx, peer, linkHeartbeat)
		},
		self:    g.self,
		obeys:   func() (wal.Epoch, string) { st := g.fence.State(); return st.Epoch(), st.Holder() },
		heard:   g.heardBeat,
		acked:   g.ackedBeat,
		gone:    leaderGone(g.raft),
		leased:  g.lease.live,
		traffic: g.logTraffic,
		do:      g.carryOut,
		record:  g.record,
		voted:   g.recordVote,
	})
	if err != nil {
		return err
	}
	g.voter = v
	v.listen(mesh)
	g.runner.Subscribe(func(failover.RoleChange) { v.agent.Kick() })
	return nil
}

// majorityLease reports whether the lease needs a majority of the voters: whenever they may elect.
func (g *group) majorityLease() bool {
	return g.o.Failover.Mode == FailoverAutomatic && len(g.o.Peers) > 0 && !g.maintenance.get().On
}

// self is what this node says of itself with each heartbeat.
func (g *group) self() failover.Self {
	st := g.fence.State()
	role := g.runner.Role()
	if g.stopping.Load() {
		role = failover.RoleStandby // it takes no writes any more, and does not come back
	}
	durable := g.log.Durable()
	return failover.Self{
		Beat: failover.Beat{
			Node: g.o.Name, Inc: g.incarnation, Role: role, Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync(), Position: durable, End: max(durable.LSN, g.commit.lsn()),
			Voter: st.Voter, Blank: durable == (wal.Position{}) && g.log.Start() == (wal.Position{}), Lagged: g.o.Mode == ModeLagged, Held: g.held() != nil,
			Priority: g.o.Failover.Priority, Zone: g.o.Failover.Zone, Sick: g.probe.sick(), Paused: g.maintenance.get(),
		},
		Seen: wal.LSN(g.exposure.end.Load()),
	}
}

// heardBeat takes note of what a peer says: a newer epoch is persisted before it is answered (R3), maintenance is adopted, and what the active has is remembered.
func (g *group) heardBeat(b failover.Beat) {
	if b.Epoch > g.fence.Epoch() {
		g.observe(nodeState{Epoch: b.Epoch, Holder: b.Holder, Sync: b.Sync})
	}
	g.proof.heads.heard(b.Node, b.Position)
	g.sightings.heard(b)
	g.adoptMaintenance(b.Paused)
	if b.Role == failover.RoleActive && b.Epoch == g.fence.Epoch() {
		g.exposure.heard(b.End, g.log.Durable().LSN, g.o.Clock())
	}
}

// ackedBeat takes a voter's answer to a heartbeat.
func (g *group) ackedBeat(peer string, a heartbeat.Ack, sent failover.Mono) {
	if a.Epoch > g.fence.Epoch() {
		g.observe(nodeState{Epoch: a.Epoch, Holder: a.Holder})
	}
	if a.Supports {
		g.lease.acked(peer, a, sent, g.syncSets())
	}
}

// syncSets are the sync sets in force: the recorded one and, while it is being changed, the one to come. nil while this node commits nothing.
func (g *group) syncSets() (sets []wal.SyncSet) {
	g.commit.inspect(func(r *replicate.CommitRule) {
		current, pending := r.Rule()
		sets = append(sets, current)
		if pending != nil {
			sets = append(sets, *pending)
		}
	})
	return sets
}

// leaseTerms tells the lease of other sync sets or of maintenance.
func (g *group) leaseTerms() { g.lease.changed(g.majorityLease(), g.syncSets()) }

// logTraffic is the log stream as a sign of the active's life.
func (g *group) logTraffic() (node string, epoch wal.Epoch, heard bool) {
	r := g.receiver.Status()
	if !r.Running || !r.Heard.After(g.trafficSeen) {
		return "", 0, false
	}
	g.trafficSeen = r.Heard
	return g.follower.target(), r.Epoch, true
}

// carryOut does what the detector wants. It does not block.
func (g *group) carryOut(ctx context.Context, m failover.Measure, v *voter) {
	switch m := m.(type) {
	case failover.AskVotes:
		v.poll(m)
	case failover.Promote:
		v.work.Go(func() {
			err := g.promoteBySelf(ctx, m.Reason)
			if err != nil {
				g.logger.Warn("automatic promotion failed", "error", err)
			}
			v.post(failover.SelfChanged{Self: g.self()})
			v.post(failover.TriedPromotion{Err: err})
		})
	case failover.GiveUp:
		v.work.Go(func() {
			if err := g.runner.Demote(ctx, m.Reason); err != nil && ctx.Err() == nil {
				g.logger.Error("stepping down failed", "error", err)
			}
		})
	case failover.HandOverTo:
		v.work.Go(func() {
			_, err := g.switchover(ctx, m.Node, m.Reason, nil)
			if err != nil {
				g.logger.Warn("automatic switchover failed", "to", m.Node, "error", err)
			}
			v.post(failover.SelfChanged{Self: g.self()})
			v.post(failover.TriedHandOver{Err: err})
		})
	}
}

// promoteBySelf promotes this node by the rule R5, and with the consent of max_loss when that is not met.
func (g *group) promoteBySelf(ctx context.Context, reason string) error {
	say := func(text string) { g.logger.Info("promotion", "progress", text) }
	_, err := adminAPI{g}.tryPromote(ctx, failover.PromoteOptions{Reason: reason}, say)
	var refused *failover.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	k := g.shrunk(refused.Plan)
	if k != nil {
		g.logger.Warn("too few standbys answer for the configured sync set: the new epoch begins with fewer copies", "k", *k)
		_, err = adminAPI{g}.tryPromote(ctx, failover.PromoteOptions{Reason: reason, K: k}, say)
		if !errors.As(err, &refused) {
			return err
		}
	}
	if !g.o.Failover.MaxLoss.set() {
		return err
	}
	said, ok := g.consents(refused.Plan)
	if !ok {
		return fmt.Errorf("%w; max_loss does not consent: %s", err, said)
	}
	g.logger.Warn("promotion with the consent of max_loss", "loss", said)
	g.consented.Store(true)
	defer g.consented.Store(false)
	_, err = adminAPI{g}.tryPromote(ctx, failover.PromoteOptions{Reason: reason + "; max_loss consents: " + said, AllowDataLoss: true, K: k}, say)
	return err
}

// shrunk is the k that a new epoch can begin with when fewer members than the configured k answer and the policy is to shrink, nil when it need not or must not be
// lower. The set grows back by itself (syncSet).
func (g *group) shrunk(p failover.Plan) *int {
	if !g.mayShrink() {
		return nil
	}
	k := 0
	for _, m := range p.Next.Members {
		if slices.Contains(p.Have, m) {
			k++
		}
	}
	if k >= p.Next.K {
		return nil
	}
	return &k
}

// mayShrink reports whether an epoch may begin with fewer copies than configured.
func (g *group) mayShrink() bool { return g.o.Sync.Policy == PolicyShrink && g.token.Shared() }

// consents weighs what a promotion as planned may lose against max_loss.
func (g *group) consents(p failover.Plan) (said string, ok bool) {
	m, now := g.o.Failover.MaxLoss, g.o.Clock()
	records, age := g.exposure.beyond(p.Target.LSN, now)
	perRecord := 0.0
	if n := g.log.Durable().LSN - g.log.Start().LSN; n > 0 {
		perRecord = float64(g.log.Bytes()) / float64(n)
	}
	bytes := int64(min(float64(records)*perRecord, math.MaxInt64/2))
	said = fmt.Sprintf("%d records known to be missing, about %d bytes; everything was here %s ago", records, bytes, age.Round(time.Millisecond))
	ok = (m.Records == 0 || records <= m.Records) && (m.Bytes == 0 || bytes <= m.Bytes) && (m.Time == 0 || age <= m.Time)
	return said, ok
}

// handOverAtStop hands the activity over before this node stops (SIGTERM in automatic mode). What is in its way is only logged: the others elect.
func (g *group) handOverAtStop(limit time.Duration) {
	if g.o.Failover.Mode != FailoverAutomatic || len(g.o.Peers) == 0 || !g.active() || g.maintenance.get().On {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r, err := g.switchover(ctx, "", "node "+g.o.Name+" is stopping", nil)
	if err != nil {
		g.logger.Warn("not handed over before the stop", "error", err)
		return
	}
	g.logger.Info("handed over before the stop", "to", r.Node, "epoch", r.Epoch)
}

// exposure is what this standby knows of the active's records that it does not have.
type exposure struct {
	end atomic.Uint64 // LSN, highest that the active was heard to have

	mu struct {
		sync.Mutex
		at       failover.Mono // when everything that the active had then was known to be here
		awaited  wal.LSN       // what it had at since; at becomes since when that is here
		awaitsAt failover.Mono
	}
}

// heard notes that the active has records up to end, of which this node has those up to have.
func (e *exposure) heard(end, have wal.LSN, now failover.Mono) {
	e.end.Store(uint64(end))
	e.mu.Lock()
	defer e.mu.Unlock()
	if have >= e.mu.awaited {
		e.mu.at = max(e.mu.at, e.mu.awaitsAt)
		e.mu.awaited, e.mu.awaitsAt = end, now
	}
	if have >= end {
		e.mu.at, e.mu.awaited, e.mu.awaitsAt = now, end, now
	}
}

// beyond is how many records the active is known to have had beyond have, and how old the newest moment is at which nothing was missing here.
func (e *exposure) beyond(have wal.LSN, now failover.Mono) (records uint64, age time.Duration) {
	if end := wal.LSN(e.end.Load()); end > have {
		records = uint64(end - have)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at := e.mu.at
	if have >= e.mu.awaited {
		at = max(at, e.mu.awaitsAt)
	}
	if at == 0 {
		return records, math.MaxInt64 // it never was
	}
	return records, time.Duration(now - at)
}
