package node

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/replicate"
	"repld/wal"
)

// nodeStatus is this node's own row of the status table.
func (g *group) nodeStatus() admin.NodeStatus {
	st := g.fence.State()
	s := admin.NodeStatus{
		Node: g.o.Name, Role: g.role(st), Mode: string(g.o.Mode), ApplyDelay: g.o.ApplyDelay, Incarnation: g.incarnation,
		Version: g.o.Version, PID: os.Getpid(), Started: g.started, Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync(), Voter: st.Voter,
		Blank: g.answer().Blank, Start: g.log.Start(), Durable: g.log.Durable(), End: g.log.End(), Committed: g.commit.lsn(),
		LogBytes: g.log.Bytes(), Degraded: g.alarms.get(alarmDegraded), Alarms: g.alarms.list(), CertificateEnd: g.o.certificateEnd(), Token: tokenStatus(g.raft),
		Failover: g.failoverStatus(),
	}
	if g.clients != nil {
		s.Clients = g.clients()
	}
	if st, err := g.state.acquire(); err == nil {
		m := st.Metrics()
		s.Applied, s.Keys, s.StateBytes = st.Applied(), m.Keys, int64(m.DiskBytes)
		g.state.release()
	}
	if saved, err := wal.ListDiverged(g.o.FS, g.path("diverged")); err == nil {
		s.Diverged = len(saved)
	}
	if g.serving.epoch() != 0 {
		s.Standbys = g.standbyRows(s)
	} else {
		g.followStatus(&s)
	}
	if g.shipping() {
		g.ship.status(&s)
	}
	s.Hold, s.Archive, s.Checkpoints, s.Verified = g.held(), g.archiver.status(), g.checkpointStatus(), g.proof.verified.Load()
	s.Drill = g.drills.last.Load()
	g.seeder.status(&s)
	s.Lag.ApplyRecords = uint64(s.Durable.LSN - min(s.Applied.LSN, s.Durable.LSN))
	if s.Lag.ApplyRecords > 0 {
		s.Lag.ApplySeconds = g.age(s.Applied.LSN + 1)
	}
	return s
}

// role is what this node says to be under the epoch that it names with it. Between the moment at which a newer epoch of another node is persisted and the moment at
// which the role machine has heard of it, the gate is shut and nothing commits (epochRose): then this node is fenced, not the active of that epoch. Until the gate is
// open, clients are refused, and it is a candidate still.
func (g *group) role(st failover.State) string {
	r := g.runner.Role()
	switch {
	case r != failover.RoleActive:
	case st.Holder() != g.o.Name:
		r = failover.RoleFenced
	case !g.active():
		r = failover.RoleCandidate
	}
	return string(r)
}

// followStatus fills in what a standby knows of its source.
func (g *group) followStatus(s *admin.NodeStatus) {
	r := g.receiver.Status()
	s.Source = g.follower.target()
	s.Link = "connecting"
	if r.Running {
		s.Link = string(r.State)
	}
	if s.Source == "" {
		s.Link = ""
	}
	if r.Epoch == s.Epoch && r.End > s.Durable.LSN {
		s.Lag.Records = uint64(r.End - s.Durable.LSN)
		if n := uint64(s.Durable.LSN - s.Start.LSN); n > 0 {
			s.Lag.Bytes = int64(float64(s.LogBytes) / float64(n) * float64(s.Lag.Records))
		}
		s.Lag.Seconds = g.age(s.Durable.LSN)
	}
}

// age is how many seconds ago the frame that holds lsn was written, 0 if the log does not have it.
func (g *group) age(lsn wal.LSN) float64 {
	t, err := g.log.TimeOf(lsn)
	if err != nil || t.IsZero() {
		return 0
	}
	return max(0, time.Since(t).Seconds())
}

// standbyRows is what the active knows of each configured standby.
func (g *group) standbyRows(s admin.NodeStatus) []admin.Standby {
	streams := map[string]replicate.StandbyStatus{}
	for _, p := range g.sender.Standbys() {
		if p.Purpose == replicate.Follow {
			streams[p.Name] = p
		}
	}
	var rows []admin.Standby
	for _, p := range g.o.Peers {
		if p.Witness {
			continue
		}
		r := admin.Standby{Node: p.Name, State: "down"}
		if st, ok := streams[p.Name]; ok {
			r = admin.Standby{
				Node: p.Name, State: string(st.State), Sent: st.Sent, Durable: st.Durable, Applied: st.Applied,
				InSync: st.Counts && s.Sync.Has(p.Name), LastAck: st.LastAck, Bytes: st.BytesBehind,
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// clusterStatus asks all nodes and adds up what they say.
func (g *group) clusterStatus(ctx context.Context, local bool) admin.ClusterStatus {
	c := gatherStatus(ctx, g.o, g.nodeStatus(), g.peers, local)
	if !local {
		addPromotable(ctx, &c, g.token, host{g}.Survey)
	}
	return c
}

// gatherStatus adds the rows of all other nodes to own, unless only that is asked for.
func gatherStatus(ctx context.Context, o *Options, own admin.NodeStatus, peers *peers, local bool) admin.ClusterStatus {
	c := admin.ClusterStatus{Cluster: o.Cluster, Asked: o.Name, Time: time.Now(), Nodes: []admin.NodeStatus{own}}
	if !local {
		rows := make([]admin.NodeStatus, len(o.Peers))
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		var all sync.WaitGroup
		for i, p := range o.Peers {
			all.Go(func() {
				rows[i] = peers.status(ctx, p.Name)
				rows[i].Address = p.Addr
				if p.Witness {
					rows[i].Role = admin.RoleWitness // also when it does not answer
				}
			})
		}
		all.Wait()
		c.Nodes = append(c.Nodes, rows...)
		slices.SortFunc(c.Nodes, func(a, b admin.NodeStatus) int { return strings.Compare(a.Node, b.Node) })
	}
	summarize(&c)
	return c
}

const statusTimeout = 2 * time.Second

// summarize fills in what follows from the rows.
func summarize(c *admin.ClusterStatus) {
	for _, n := range c.Nodes {
		c.Epoch = max(c.Epoch, n.Epoch)
	}
	for _, n := range c.Nodes {
		if n.Epoch != c.Epoch {
			continue
		}
		if n.Role == admin.RoleActive {
			c.Active = n.Node
		}
		if n.Sync.Version > c.Sync.Version {
			c.Sync = n.Sync
		}
	}
	for _, n := range c.Nodes {
		if n.Error != "" {
			c.Alarms = append(c.Alarms, fmt.Sprintf("%s: does not answer", n.Node))
		}
	}
	if c.Active == "" {
		c.Alarms = append(c.Alarms, "no node that answers is active: writes are refused")
	}
	c.AtRisk = atRisk(*c)
}

// atRisk says what would be lost if the active died now with its disk (R5 applied to what is known).
func atRisk(c admin.ClusterStatus) admin.AtRisk {
	var r admin.AtRisk
	var promised wal.LSN // committed as far as anybody knows
	var best wal.LSN
	voters, members := 0, 0
	for _, n := range c.Nodes {
		promised = max(promised, n.Committed)
		r.Known = r.Known || n.Node == c.Active
	}
	for _, n := range c.Nodes {
		if n.Node == c.Active || n.Error != "" || !n.Voter || n.Epoch != c.Epoch {
			continue
		}
		voters++
		best = max(best, n.Durable.LSN)
		if c.Sync.Has(n.Node) {
			members++
		}
		if n.Durable.LSN >= promised {
			r.Lossless = append(r.Lossless, n.Node)
		}
	}
	if promised > best {
		r.Records = uint64(promised - best)
	}
	enough := c.Sync.K > 0 && members >= len(c.Sync.Members)-c.Sync.K+1
	switch {
	case c.Active == "" && len(r.Lossless) == 0:
		r.Statement = "there is no active, and no standby that answers is known to have every acked write"
	case c.Active == "":
		r.Statement = "there is no active; as far as the answering nodes know, " + strings.Join(r.Lossless, ", ") + " has every acked write"
	case voters == 0:
		r.Statement = "that cannot be told: no standby that answers has a log that counts"
	case c.Sync.K == 0:
		r.Statement = fmt.Sprintf("acked writes that no standby has yet (now %d): sync is 0, so an ack promises one disk only", r.Records)
	case !enough:
		r.Statement = fmt.Sprintf("no acked write, but too few standbys answer (%d of the %d that rule R5 needs) to prove it: a promotion would be refused without --allow-data-loss",
			members, len(c.Sync.Members)-c.Sync.K+1)
	default:
		r.Statement = "nothing that was acked; promote " + strings.Join(r.Lossless, " or ")
		if len(r.Lossless) == 0 {
			r.Statement = "nothing that was acked: the standbys that answer hold it together"
		}
	}
	return r
}

// promoteResult turns a plan of the promotion rule into the words of the admin API.
func (g *group) promoteResult(p failover.Plan) admin.PromoteResult {
	st := g.fence.State()
	r := admin.PromoteResult{
		Node: g.o.Name, Allowed: p.Allowed, Epoch: p.Epoch, Previous: st.Epoch(), From: p.Target, Source: p.Source, Sync: p.Next,
		LostFrom: p.Loss.From, LostTo: p.Loss.To, Have: p.Have, Missing: p.Missing, Reasons: p.Reasons,
	}
	if p.Loss != (failover.Loss{}) {
		r.LossSaid = p.Loss.String()
	}
	if at := g.state.applied().LSN; p.Target.LSN > at {
		r.Replay = uint64(p.Target.LSN - at)
		r.ReplaySec = float64(r.Replay) / g.applier.rate()
	}
	return r
}
