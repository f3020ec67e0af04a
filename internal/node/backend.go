package node

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/replicate"
	"repld/wal"
)

// backend is the group as sessions see it.
type backend struct {
	*group
	views sync.Pool // of *readView
}

var _ server.Backend = (*backend)(nil)

func newBackend(g *group) *backend { return &backend{group: g} }

// readView is a kv.ReadView that gives the state back when it is closed.
type readView struct {
	*kv.ReadView
	b *backend
}

// Close implements server.View.
func (v *readView) Close() error {
	err := v.ReadView.Close()
	b := v.b
	v.ReadView, v.b = nil, nil
	b.state.release()
	b.views.Put(v)
	return err
}

// View implements server.Backend.
func (b *backend) View(now time.Time) (server.View, error) {
	if err := b.readable(); err != nil {
		return nil, err
	}
	st, err := b.state.acquire()
	if err != nil {
		return nil, server.Loading()
	}
	v, _ := b.views.Get().(*readView)
	if v == nil {
		v = new(readView)
	}
	v.ReadView, v.b = st.View(now), b
	return v, nil
}

// readable says why reads are not served here now.
func (b *backend) readable() error {
	if b.active() {
		if b.guard.paused() && !b.confirm() {
			return server.MasterDown()
		}
		if !b.mayRead(readWait * b.o.Failover.Lease) {
			return b.errNoLease()
		}
		return nil
	}
	if !b.o.StandbyReads {
		return server.Errorf("MASTERDOWN", "This node is a standby that serves no reads (standby_reads is off). (epoch %d, active %s)", b.fence.Epoch(), b.otherHolder())
	}
	return nil
}

// Submit implements server.Backend.
func (b *backend) Submit(ctx context.Context, fn func(server.Sequence) error, done func(wal.LSN, error)) {
	b.seq.submit(ctx, fn, done)
}

// Release implements server.Backend.
//
// What was evaluated among writes may be a read as well, so it needs the lease; it waits for that as long as a write waits for its acks.
func (b *backend) Release() bool {
	return (!b.guard.paused() || b.confirm()) && b.mayRead(b.o.CommitTimeout)
}

// Ready implements server.Backend.
func (b *backend) Ready() bool {
	if !b.active() {
		return true // refused or answered at once
	}
	return !b.guard.paused() && (b.lease.local || b.lease.live()) && b.seq.ready()
}

// Unwatch implements server.Backend.
func (b *backend) Unwatch(w *server.Watcher) { b.seq.watches.Remove(w) }

// WaitAcked implements server.Backend.
func (b *backend) WaitAcked(ctx context.Context, lsn wal.LSN, standbys int) int {
	for {
		changed := b.commit.wait()
		n := b.ackedBy(lsn)
		if n >= standbys || !b.active() {
			return n
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n
		}
	}
}

// ackedBy counts the connected standbys that hold lsn durably.
func (b *backend) ackedBy(lsn wal.LSN) int {
	n := 0
	for _, s := range b.sender.Standbys() {
		if s.Purpose == replicate.Follow && s.Counts && s.Durable >= lsn {
			n++
		}
	}
	return n
}

// Switchover implements server.Backend. It leaves an audit line, as a switchover that a person asks for does.
func (b *backend) Switchover(ctx context.Context, to string) error {
	done := adminAPI{b.group}.Audit(admin.Caller{Node: b.o.Name, For: "a client"}, "switchover", "FAILOVER command, to "+cmp.Or(to, "any standby"))
	_, err := b.switchover(ctx, to, "FAILOVER command", nil)
	done(err)
	return err
}

// Status implements server.Backend.
func (b *backend) Status() server.Status {
	st := b.fence.State()
	s := server.Status{
		Cluster: b.o.Cluster, Group: b.o.Group, Node: b.o.Name, Incarnation: b.incarnation, Version: b.o.Version,
		Role: server.RoleStandby, Mode: string(b.o.Mode), Epoch: st.Epoch(), Active: b.holder(),
		Durable: b.log.Durable().LSN, Committed: b.commit.lsn(), Applied: b.state.applied().LSN, Sync: st.Sync(),
		ReadsAllowed: b.o.StandbyReads, LogBytes: b.log.Bytes(), DiskBytes: b.onDisk.Load(), ExpiredKeys: b.expired.Load(), Phases: b.phases.list,
	}
	if b.active() {
		s.Role = server.RoleActive
		s.Standbys = b.redisStandbys()
		return s
	}
	s.ActiveHost, s.ActivePort = hostPort(b.o.client(s.Active))
	r := b.receiver.Status()
	s.LastHeard = r.Heard
	switch {
	case !r.Running:
		s.Link = server.LinkConnect
	case r.State == replicate.StateSnapshot:
		s.Link = server.LinkSync
	case r.State == replicate.StateStream:
		s.Link = server.LinkConnected
	default:
		s.Link = server.LinkConnecting
	}
	return s
}

func (b *backend) redisStandbys() []server.StandbyStatus {
	var all []server.StandbyStatus
	for _, p := range b.sender.Standbys() {
		if p.Purpose != replicate.Follow {
			continue
		}
		s := server.StandbyStatus{Name: p.Name, State: server.LinkConnecting, Durable: p.Durable, Applied: p.Applied, LastAck: p.LastAck}
		s.Host, s.Port = hostPort(b.o.client(p.Name))
		switch p.State {
		case replicate.StateStream:
			s.State = server.LinkConnected
		case replicate.StateSnapshot:
			s.State = server.LinkSync
		}
		all = append(all, s)
	}
	return all
}

func hostPort(addr string) (string, int) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", 0
	}
	return host, n
}
