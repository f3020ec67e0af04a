package config

import "slices"

// checkFailover refuses what could not work, or would fail over for nothing.
func (c *Config) checkFailover(p *problems) {
	f := &c.Failover
	beats := func(key string, d, least int64) {
		if d < least*int64(c.Heartbeat.Interval) {
			c.wrong(p, key, "is less than %d heartbeats of %v: one lost packet would do", least, c.Heartbeat.Interval)
		}
	}
	beats("heartbeat.suspect", int64(c.Heartbeat.Suspect), 3)
	beats("failover.lease", int64(f.Lease), 3)
	if f.Lease > c.Heartbeat.Suspect {
		c.wrong(p, "failover.lease", "%v is longer than heartbeat.suspect %v: the others could not support a candidate when it asks", f.Lease, c.Heartbeat.Suspect)
	}
	c.checkPreferred(p)
	c.checkProbe(p)
	for i, peer := range c.Peers {
		if peer.Heartbeat == "" {
			continue
		}
		if err := checkAddr(peer.Heartbeat); err != nil {
			c.wrong(p, "peers", "entry %d: heartbeat %v", i+1, err)
		}
	}
	if own := c.Self(); own.Heartbeat != "" && c.Heartbeat.Listen == "" {
		c.wrong(p, "peers", "says that %s takes heartbeats at %s, but heartbeat.listen is not set", c.Node, own.Heartbeat)
	}
	if f.MaxLossRecords < 0 {
		c.wrong(p, "failover.max_loss_records", "%d is negative", f.MaxLossRecords)
	}
	if f.Mode != "automatic" {
		return
	}
	switch n := len(c.Peers); {
	case n == 0:
		c.wrong(p, "failover.mode", "automatic needs peers: a node that stands alone has nobody to take over")
	case n == 2:
		c.wrong(p, "failover.mode", "automatic with two voters: the one that is left would be no majority, so nobody could ever take over; add a witness or a third node, or write manual")
	case !c.Token.EveryNodeSees():
		c.wrong(p, "failover.mode", "automatic needs a token that all nodes see (token.store raft, or token.shared: true): otherwise two of them could take over at once")
	}
}

func (c *Config) checkPreferred(p *problems) {
	f := &c.Failover
	known := slices.ContainsFunc(c.DataNodes(), func(x Peer) bool { return x.Name == f.Preferred })
	switch {
	case f.Preferred != "" && !known:
		c.wrong(p, "failover.preferred", "%q is not among the peers that hold data", f.Preferred)
	case f.Preferred == "" && f.TakeBack > 0:
		c.wrong(p, "failover.take_back", "has no effect without failover.preferred")
	}
}

func (c *Config) checkProbe(p *problems) {
	b := &c.Probe
	kinds := 0
	for _, set := range []bool{b.RESP != "", len(b.Command) > 0, b.HTTP != ""} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		c.wrong(p, "probe.resp", "only one of probe.resp, probe.command and probe.http can be set")
	case b.RESP != "" && b.Addr == "":
		c.wrong(p, "probe.resp", "needs probe.addr, where the application listens")
	case b.RESP == "" && b.Addr != "":
		c.wrong(p, "probe.addr", "has no effect without probe.resp")
	}
	if b.Failures < 1 {
		c.wrong(p, "probe.failures", "%d has to be at least 1", b.Failures)
	}
}
