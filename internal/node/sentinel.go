package node

import (
	"context"
	"errors"
	"net"
	"time"

	"repld/internal/admin"
	"repld/internal/sentinel"
	"repld/internal/server"
)

// SentinelOptions configure the Sentinel API of a node.
type SentinelOptions struct {
	Name     string        // what clients call the group. Default: the cluster's name
	Announce string        // host:port of this node's endpoint, told to clients of other nodes; "" if it has none
	Password server.Secret // asked for by AUTH; "" asks nobody
	Failover bool          // whether SENTINEL FAILOVER hands the group over
	Tick     time.Duration // how often the picture is looked at without a change. Default: sentinel's
}

// sentinelView is the group as this node tells it to Sentinel clients: from what it has heard from a majority within the window, and from nothing else. An active is named
// only while it says that its lease lives; of itself a node knows that at this moment, so an active that is cut off stops to name itself before another one can be promoted.
// After this process stood still all answers are older than the window, so that it names nobody before it has asked again (P3).
type sentinelView struct {
	roster *roster
	o      *Options
}

var _ sentinel.View = sentinelView{}

// Changed implements sentinel.View.
func (v sentinelView) Changed() <-chan struct{} { return v.roster.changed() }

// Picture implements sentinel.View.
func (v sentinelView) Picture() sentinel.Picture {
	me, peers := v.roster.me(), v.roster.all()
	p := sentinel.Picture{Voters: len(v.o.Peers) + 1, Heard: 1, Epoch: uint64(me.Epoch), Self: endpoint(me, 0, false)}
	fresh := []profile{me}
	for _, h := range peers {
		silent := time.Since(h.asked)
		down := silent > v.roster.window()
		if h.Sentinel != "" {
			p.Peers = append(p.Peers, endpoint(h.profile, silent, down))
		}
		if !down {
			p.Heard++
			fresh = append(fresh, h.profile)
			p.Epoch = max(p.Epoch, uint64(h.Epoch))
		}
	}
	p.Live = 2*p.Heard > p.Voters
	holder := ""
	for _, m := range fresh {
		if uint64(m.Epoch) == p.Epoch && m.Holder != "" {
			holder = m.Holder
		}
		if uint64(m.Epoch) == p.Epoch && m.Open && !m.Lapsed {
			p.Active, p.Open = v.reach(m), true
		}
	}
	if !p.Open && holder != "" {
		p.Active = sentinel.Instance{Node: holder, Addr: v.clientAddr(holder, peers), Down: true}
	}
	for _, h := range peers {
		if i, ok := v.readable(h, &p); ok {
			p.Reads = append(p.Reads, i)
		}
	}
	if i, ok := v.readable(heard{me, time.Now()}, &p); ok {
		p.Reads = append(p.Reads, i)
	}
	return p
}

// readable is a standby that clients may read from: hot, in this epoch, serving reads. One that is silent stays listed as down.
func (v sentinelView) readable(h heard, p *sentinel.Picture) (sentinel.Instance, bool) {
	i := v.reach(h.profile)
	i.Silent = time.Since(h.asked)
	i.Down = i.Silent > v.roster.window() || !h.Linked || uint64(h.Epoch) != p.Epoch
	return i, h.Mode == ModeHot && h.Reads && h.Node != p.Active.Node && i.Addr != ""
}

func (v sentinelView) reach(m profile) sentinel.Instance {
	addr := m.Client
	if addr == "" {
		addr = v.o.client(m.Node)
	}
	return sentinel.Instance{Node: m.Node, Addr: tcpAddr(addr), RunID: m.Incarnation, LSN: uint64(m.Durable)}
}

// clientAddr is where clients reached a node that says nothing now.
func (v sentinelView) clientAddr(node string, peers []heard) string {
	for _, h := range peers {
		if h.Node == node && h.Client != "" {
			return tcpAddr(h.Client)
		}
	}
	return tcpAddr(v.o.client(node))
}

func endpoint(m profile, silent time.Duration, down bool) sentinel.Instance {
	return sentinel.Instance{Node: m.Node, Addr: m.Sentinel, RunID: m.Incarnation, Silent: silent, Down: down}
}

// tcpAddr drops what is no host:port: Sentinel clients cannot dial a unix socket.
func tcpAddr(addr string) string {
	if _, port := hostPort(addr); port == 0 {
		return ""
	}
	return addr
}

// failover is what SENTINEL FAILOVER does: a switchover that api passes on to the active. It is nil where nobody may ask for it.
func (o *SentinelOptions) failover(node string, api admin.Handler) func(context.Context) error {
	if !o.Failover {
		return nil
	}
	return func(ctx context.Context) error {
		req := admin.SwitchoverRequest{Reason: "SENTINEL FAILOVER"}
		done := func(error) {}
		if a, ok := api.(admin.Auditor); ok {
			done = a.Audit(admin.Caller{Node: node, For: "a Sentinel client"}, "switchover", req.Reason)
		}
		_, err := api.Switchover(ctx, req, func(admin.Event) {})
		done(err)
		return err
	}
}

func (n *Node) newSentinel() (err error) {
	o := n.o.Sentinel
	def(&o.Name, n.o.Cluster)
	n.sentinel, err = sentinel.New(sentinel.Options{
		Name: o.Name, Tick: o.Tick, View: sentinelView{n.group.roster, &n.o}, Failover: o.failover(n.o.Name, adminAPI{n.group}), Password: o.Password, RedisVersion: n.o.Client.RedisVersion, DownAfter: n.group.roster.window(), Logger: n.logger,
	})
	return err
}

// ServeSentinel serves the Sentinel API on l until the node stops.
func (n *Node) ServeSentinel(l net.Listener) error {
	err := n.sentinel.Serve(l)
	if errors.Is(err, sentinel.ErrClosed) {
		return nil
	}
	return err
}
