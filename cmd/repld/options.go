package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"repld/failover"
	"repld/internal/certs"
	"repld/internal/config"
	"repld/internal/node"
	"repld/internal/resp"
	"repld/internal/server"
	"repld/wal"
)

// nodeOptions maps the settings to a node. It opens the token store when one is configured.
func nodeOptions(c *config.Config, logger *slog.Logger) (node.Options, error) {
	o := node.Options{
		Cluster: c.Cluster, Name: c.Node, Dir: c.Data, Version: buildVersion(),
		Mode: node.Mode(c.Mode), ApplyDelay: c.ApplyDelay, StandbyReads: c.Client.StandbyReads,
		Sync: node.SyncOptions{K: c.Sync.K, Members: c.Sync.Members, Policy: node.SyncPolicy(c.Sync.Policy), ShrinkAfter: c.Sync.ShrinkAfter},

		Client:       clientOptions(c), // its ACL is read below
		Hooks:        node.HookOptions{OnRoleChange: c.Hooks.OnRoleChange, OnAlarm: c.Hooks.OnAlarm, PrePromote: c.Hooks.PrePromote, Timeout: c.Hooks.Timeout},
		Reach:        c.Reach(),
		Forward:      c.Client.Forward == "on",
		Sentinel:     node.SentinelOptions{Name: c.Sentinel.Name, Announce: c.SentinelAddr(), Password: server.Secret(c.Sentinel.Password), Failover: c.Sentinel.Failover},
		Codec:        codecOf(c.WAL.Codec),
		SegmentBytes: int64(c.WAL.SegmentSize), MemoryTail: int64(c.WAL.MemoryTail), LogBudget: int64(c.WAL.Retain),
		QueueBytes: int(c.Limits.QueueBytes),
		CacheBytes: int64(c.State.Cache), MemTableBytes: int64(c.State.Memtable),
		StallLimit: c.Limits.Stall, CommitTimeout: c.Limits.CommitTimeout,
		DiskReserve: int64(c.Disk.Reserve), ScrubRate: scrubRate(c.Scrub.Rate), ScrubEvery: c.Scrub.Every,
		Verify:   node.VerifyOptions{Every: never(c.Verify.Every), Rate: scrubRate(c.Verify.Rate)},
		Drill:    node.DrillOptions{Every: c.Drill.Every, Command: c.Drill.Command, Timeout: c.Drill.Timeout, RTO: c.Objectives.RTO, RPO: c.Objectives.RPO},
		BulkRate: int64(c.Limits.BulkRate), DigestRate: int64(c.Limits.DigestRate),
		Heartbeat: c.Heartbeat.Interval, Gossip: c.Heartbeat.Epochs, PauseLimit: c.Heartbeat.Pause,
		Archive:     node.ArchiveOptions{URL: c.Archive.URL, KeyFile: c.Archive.KeyFile, Interval: c.Archive.Interval, Role: c.Archive.Role, Rate: int64(c.Archive.Rate), Seed: c.Archive.Seed},
		Checkpoints: node.CheckpointOptions{Every: c.Checkpoints.Every, Count: c.Checkpoints.Count, Age: c.Checkpoints.Age, Bytes: int64(c.Checkpoints.Bytes)},
		Ship:        node.ShipOptions{URL: c.Ship.URL, KeyFile: c.Ship.KeyFile, Of: c.Ship.Of, Every: c.Ship.Every, Rate: int64(c.Ship.Rate)},
		Logger:      logger,
	}
	failoverOptions(c, &o)
	acl, err := accessList(c)
	if err != nil {
		return o, err
	}
	o.Client.ACL = acl
	for _, p := range c.Others() {
		o.Peers = append(o.Peers, node.Peer{Name: p.Name, Addr: p.Addr, Client: p.Client, Heartbeat: p.Heartbeat, Witness: p.Role == config.RoleWitness})
	}
	if len(o.Peers) > 0 {
		o.Listen = func() (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), "tcp", c.Listen)
		}
	}
	if c.TLS.Set() {
		id, err := identity(c, logger)
		if err != nil {
			return o, err
		}
		o.TLS = id
	}
	err = tokenStore(c, &o, logger)
	return o, err
}

// tokenStore opens the token store that is configured, unless the node has it itself.
func tokenStore(c *config.Config, o *node.Options, logger *slog.Logger) error {
	if c.Token.Store == config.StoreRaft {
		o.Raft = &node.RaftOptions{Election: c.Token.Election}
		return nil
	}
	if c.Token.Store == config.StoreEtcd {
		return etcdStore(c, o, logger)
	}
	if c.Token.Path == "" {
		return nil // the node keeps its own
	}
	store, err := failover.OpenFileStore(failover.FileStoreOptions{Dir: c.Token.Path, Shared: c.Token.Shared, Logger: logger})
	if err != nil {
		return fmt.Errorf("token store %s: %w", c.Token.Path, err)
	}
	o.Token, o.CloseToken = store, store.Close
	return nil
}

// failoverOptions maps what is said about heartbeats, failover and the application.
func failoverOptions(c *config.Config, o *node.Options) {
	f := c.Failover
	o.Failover = node.FailoverOptions{
		Mode: node.FailoverMode(f.Mode), Suspect: c.Heartbeat.Suspect, Lease: f.Lease, StepDown: f.StepDown, Startup: f.Startup, Backoff: f.Backoff,
		Priority: f.Priority, Zone: f.Zone, PreferZone: f.PreferZone, Preferred: f.Preferred, TakeBack: f.TakeBack,
		MaxLoss:    node.MaxLoss{Records: uint64(max(0, f.MaxLossRecords)), Bytes: int64(f.MaxLossBytes), Time: f.MaxLossTime},
		LocalReads: c.Client.Reads == "local",
	}
	if f.Backoff == 0 {
		o.Failover.Backoff = -1 // none, where 0 would mean the default
	}
	o.Probe = node.ProbeOptions{
		RESP: c.Probe.RESP, Addr: c.Probe.Addr, Command: c.Probe.Command, HTTP: c.Probe.HTTP,
		Interval: c.Probe.Interval, Timeout: c.Probe.Timeout, Failures: c.Probe.Failures,
	}
	if c.Heartbeat.Listen != "" {
		o.ListenHeartbeat = func() (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), "tcp", c.Heartbeat.Listen)
		}
	}
}

// scrubRate maps 0, which is unlimited, to what the node takes for that.
func scrubRate(s config.Size) int64 {
	if s == 0 {
		return -1
	}
	return int64(s)
}

// never maps 0, which switches something off, to what the node takes for that.
func never(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func clientOptions(c *config.Config) server.Options {
	return server.Options{
		Password: server.Secret(c.Client.Password), SocketMode: c.Client.SocketMode, MaxClients: c.Client.MaxClients,
		IdleTimeout: c.Client.IdleTimeout, ForwardWait: c.Client.ForwardWait, MaxOutputBytes: int(c.Client.OutputLimit), Limits: resp.Limits{MaxBulk: int(c.Client.MaxBulk)},
	}
}

// codecOf maps the names that the configuration allows.
func codecOf(name string) wal.Codec {
	switch name {
	case "zstd":
		return wal.CodecZstd
	case "none":
		return wal.CodecNone
	}
	return wal.CodecS2
}

// clientListeners opens the sockets for clients; with auth, a listener's clients have to give the password.
func (d *daemon) clientListeners() ([]clientListener, error) {
	c := d.config
	l, err := server.ListenUnix(c.Client.Socket, c.Client.SocketMode)
	if err != nil {
		return nil, err
	}
	if l, err = d.restrict(l, "client", "-NOPERM this user may not connect to this socket\r\n", c.Client.Users, c.Client.Groups); err != nil {
		return nil, err
	}
	// The permissions of the socket file are its access control, as long as no password is set; users of the ACL file may log in there, and give rights away by it.
	out := []clientListener{{Listener: l, auth: c.Client.Password != ""}}
	if c.Client.TCP == "" {
		return out, nil
	}
	t, err := net.Listen("tcp", c.Client.TCP)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for clients: %w", err), l.Close())
	}
	if t, err = secure("client", t, certs.ServerOptions{Cert: c.Client.TLSCert, Key: c.Client.TLSKey, ClientCA: c.Client.TLSCA, Logger: d.logger}); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return append(out, clientListener{Listener: t, auth: c.Client.Password != "" || c.Client.ACLFile != ""}), nil
}

type clientListener struct {
	net.Listener
	auth bool
}
