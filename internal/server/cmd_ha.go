package server

import (
	"context"
	"time"

	"repld/wal"
)

// cmdRole is ROLE: the active as "master" with its committed LSN and its standbys, a standby as "slave". Redis' offsets
// are LSNs here.
func cmdRole(c *call) error {
	st, w := c.status(), c.w
	if st.Role == RoleActive {
		w.Array(3)
		w.BulkString("master")
		w.Int(int64(st.Committed))
		w.Array(len(st.Standbys))
		for _, b := range st.Standbys {
			w.Array(3)
			w.BulkString(b.Host)
			w.BulkInt(int64(b.Port))
			w.BulkInt(int64(b.Durable))
		}
		return nil
	}
	w.Array(5)
	w.BulkString("slave")
	w.BulkString(st.ActiveHost)
	w.Int(int64(st.ActivePort))
	if st.Link == "" {
		w.BulkString(string(LinkConnect))
	} else {
		w.BulkString(string(st.Link))
	}
	w.Int(int64(st.Durable))
	return nil
}

const errWaitOnStandby = "cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated."

// longestWait is as many milliseconds as a Duration takes.
const longestWait = int64(1<<62) / int64(time.Millisecond)

// timeoutArg is a number of milliseconds, 0 for no end.
func (c *call) timeoutArg(i int) (time.Duration, error) {
	ms, err := parseIntOr(c, i, "ERR timeout is not an integer or out of range")
	if err != nil {
		return 0, err
	}
	if ms < 0 {
		return 0, c.fail("ERR timeout is negative")
	}
	return time.Duration(min(ms, longestWait)) * time.Millisecond, nil
}

// cmdWait is WAIT standbys timeout: how many standbys hold this connection's writes durably, once there are so many or
// the time is over.
func cmdWait(c *call) error {
	if c.status().Role != RoleActive {
		return c.fail("ERR WAIT " + errWaitOnStandby)
	}
	want, err := c.intArg(1)
	if err != nil {
		return err
	}
	timeout, err := c.timeoutArg(2)
	if err != nil {
		return err
	}
	c.w.Int(int64(c.waitAcked(int(min(max(want, 0), 1<<31-1)), timeout)))
	return nil
}

// cmdWaitAOF is WAITAOF local standbys timeout. A write is only ever answered after it is durable here.
func cmdWaitAOF(c *call) error {
	if c.status().Role != RoleActive {
		return c.fail("ERR WAITAOF " + errWaitOnStandby)
	}
	if _, err := c.rangeArg(1, 0, 1); err != nil {
		return err
	}
	want, err := c.rangeArg(2, 0, 1<<31-1)
	if err != nil {
		return err
	}
	timeout, err := c.timeoutArg(3)
	if err != nil {
		return err
	}
	n := c.waitAcked(int(want), timeout)
	c.w.Array(2)
	c.w.Int(1)
	c.w.Int(int64(n))
	return nil
}

// waitAcked counts standbys at this connection's last write. In a transaction, which holds the lock that writes need, it
// does not wait. A wait without a timeout ends after maxWait with the count of then (R12): whether the client is still
// there is not looked at meanwhile.
func (c *call) waitAcked(want int, timeout time.Duration) int {
	lsn := c.s.lastLSN
	n := ackedAt(c.status(), lsn)
	if n >= want || c.inExec {
		return n
	}
	if timeout == 0 {
		timeout = maxWait
	}
	ctx, cancel := context.WithTimeout(c.s.info.kicked, min(timeout, maxWait))
	defer cancel()
	return c.s.srv.opts.Backend.WaitAcked(ctx, lsn, want)
}

const maxWait = time.Hour

func ackedAt(st *Status, lsn wal.LSN) int {
	n := 0
	for _, b := range st.Standbys {
		if b.Durable >= lsn {
			n++
		}
	}
	return n
}

// failoverOptions is FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms].
type failoverOptions struct {
	host, port   string
	force, abort bool
	timeout      time.Duration
}

func (c *call) parseFailover() (o failoverOptions, err error) {
	for i := 1; i < len(c.args); i++ {
		switch {
		case c.is(i, "timeout") && i+1 < len(c.args) && o.timeout == 0:
			i++
			ms, err := c.intArg(i)
			if err != nil {
				return o, err
			}
			if ms <= 0 || ms > longestWait {
				return o, c.fail("ERR FAILOVER timeout must be greater than 0")
			}
			o.timeout = time.Duration(ms) * time.Millisecond
		case c.is(i, "abort") && len(c.args) == 2:
			o.abort = true
		case c.is(i, "to") && i+2 < len(c.args) && o.host == "":
			o.host, o.port = string(c.args[i+1]), string(c.args[i+2])
			i += 2
		case c.is(i, "force") && !o.force:
			o.force = true
		default:
			return o, c.fail(errSyntax)
		}
	}
	return o, nil
}

// cmdFailover hands the group over and answers when that is done, unlike Redis, which answers when it has begun.
func cmdFailover(c *call) error {
	o, err := c.parseFailover()
	if err != nil {
		return err
	}
	st := c.status()
	switch {
	case o.abort:
		return c.fail("ERR No failover in progress.")
	case o.force:
		return c.fail("ERR FAILOVER FORCE could lose writes and is not done here: see replctl promote")
	case st.Role != RoleActive:
		return c.fail("ERR FAILOVER is not valid when server is a replica.")
	case len(st.Standbys) == 0:
		return c.fail("ERR FAILOVER requires connected replicas.")
	}
	name, ok := standbyAt(st, o.host, o.port)
	if !ok {
		return c.fail("ERR FAILOVER target HOST and PORT is not a replica.")
	}
	ctx := c.ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	if err := c.s.srv.opts.Backend.Switchover(ctx, name); err != nil {
		return err
	}
	c.w.OK()
	return nil
}

// standbyAt finds the standby with the address, or with the name if it is given as the host; "" is any.
func standbyAt(st *Status, host, port string) (name string, ok bool) {
	if host == "" {
		return "", true
	}
	for _, b := range st.Standbys {
		if b.Name == host || b.Host == host && itoa(int64(b.Port)) == port {
			return b.Name, true
		}
	}
	return "", false
}
