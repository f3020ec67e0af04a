package sentinel

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"repld/internal/resp"
)

const (
	errNoSuchMaster = "ERR No such master with that name"
	errCutOff       = "ERR No such master with that name is known at this node: it hears too few nodes to tell who is active. Ask another one."
)

// field is one name and value of a description. All values are strings, because clients parse them as such.
type field struct{ name, value string }

func writeFields(w *resp.Writer, fields []field) {
	w.Map(len(fields))
	for _, f := range fields {
		w.BulkString(f.name)
		w.BulkString(f.value)
	}
}

// cmdSentinel is SENTINEL subcommand …
func cmdSentinel(c *conn, args [][]byte) {
	sub := strings.ToLower(string(args[1]))
	want := map[string]int{
		"masters": 2, "myid": 2, "master": 3, "replicas": 3, "slaves": 3, "sentinels": 3, "get-master-addr-by-name": 3, "ckquorum": 3, "failover": 3,
	}[sub]
	if want != 0 && len(args) != want {
		c.fail("ERR wrong number of arguments for 'sentinel|" + sub + "' command")
		return
	}
	p := c.s.opts.View.Picture()
	switch sub {
	case "masters":
		c.masters(&p)
		return
	case "myid":
		c.reply(func(w *resp.Writer) { w.BulkString(runID(p.Self)) })
		return
	case "get-master-addr-by-name":
		c.addr(&p, string(args[2]))
		return
	case "set", "remove", "monitor", "reset", "config", "flushconfig", "simulate-failure", "is-master-down-by-addr", "pending-scripts", "info-cache", "debug":
		c.fail("NOPERM nothing is changed through the Sentinel port: see replctl on the node's admin socket")
		return
	}
	switch {
	case want == 0:
		c.fail("ERR Unknown sentinel subcommand '" + printable(args[1]) + "'")
	case string(args[2]) != c.s.opts.Name:
		c.fail(errNoSuchMaster)
	case sub == "sentinels":
		c.list(&p, p.Peers, c.s.sentinelFields)
	case sub == "ckquorum":
		c.checkQuorum(&p)
	case sub == "failover":
		c.failover(&p)
	case sub == "master":
		if _, ok := p.master(); !ok {
			c.fail(errCutOff)
			return
		}
		c.reply(func(w *resp.Writer) { writeFields(w, c.s.masterFields(&p)) })
	default: // replicas, slaves
		if !p.Live {
			c.fail(errCutOff)
			return
		}
		c.list(&p, p.Reads, c.s.replicaFields)
	}
}

func (c *conn) addr(p *Picture, name string) {
	m, ok := p.master()
	c.reply(func(w *resp.Writer) {
		if !ok || name != c.s.opts.Name {
			w.NullArray()
			return
		}
		host, port := m.split()
		w.Array(2)
		w.BulkString(host)
		w.BulkString(port)
	})
}

// masters lists the group. Without an active that may be named it is flagged as down, which clients pass over and monitoring shows; a node that is cut off
// lists nothing.
func (c *conn) masters(p *Picture) {
	c.reply(func(w *resp.Writer) {
		if !p.Live || !p.Active.known() {
			w.Array(0)
			return
		}
		w.Array(1)
		writeFields(w, c.s.masterFields(p))
	})
}

func (c *conn) list(p *Picture, all []Instance, fields func(*Picture, Instance) []field) {
	c.reply(func(w *resp.Writer) {
		w.Array(len(all))
		for _, i := range all {
			writeFields(w, fields(p, i))
		}
	})
}

func (c *conn) checkQuorum(p *Picture) {
	need := p.Voters/2 + 1
	if !p.Live {
		c.fail(fmt.Sprintf("NOQUORUM %d usable Sentinels. Not enough available Sentinels to reach the majority (%d of %d)", p.Heard, need, p.Voters))
		return
	}
	c.reply(func(w *resp.Writer) {
		w.Simple(fmt.Sprintf("OK %d usable Sentinels. Quorum and failover authorization can be reached", p.Heard))
	})
}

// failoverTime bounds one hand-over. It waits for writes in flight, and is rolled back by the active long before.
const failoverTime = time.Minute

// failover hands the group over and answers when that is done, unlike Redis, which answers when it has begun.
func (c *conn) failover(p *Picture) {
	_, open := p.master()
	switch do := c.s.opts.Failover; {
	case !p.Live:
		c.fail(errCutOff)
	case !open:
		c.fail("INPROG Failover already in progress")
	case do == nil:
		c.fail("NOPERM a fail-over is an administrator's act: replctl switchover on a node's admin socket, or set sentinel.failover: true")
	default:
		ctx, cancel := context.WithTimeout(context.Background(), failoverTime)
		defer cancel()
		if err := do(ctx); err != nil {
			c.fail("NOGOODSLAVE " + err.Error())
			return
		}
		c.reply(func(w *resp.Writer) { w.OK() })
	}
}

// runID has Sentinel's 40 characters.
func runID(i Instance) string { return (i.RunID + strings.Repeat("0", 40))[:40] }

// base are the fields that every description begins with.
func base(name string, i Instance, flags string) []field {
	host, port := i.split()
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	f := []field{
		{"name", name}, {"ip", host}, {"port", port}, {"runid", runID(i)}, {"flags", flags},
		{"link-pending-commands", "0"}, {"link-refcount", "1"}, {"last-ping-sent", "0"}, {"last-ok-ping-reply", ms(i.Silent)}, {"last-ping-reply", ms(i.Silent)},
	}
	if i.Down {
		f = append(f, field{"s-down-time", ms(i.Silent)})
	}
	return f
}

func (s *Server) downAfter() string {
	return strconv.FormatInt(s.opts.DownAfter.Milliseconds(), 10)
}

func (s *Server) masterFields(p *Picture) []field {
	flags := "master"
	if _, ok := p.master(); !ok {
		flags = "master,s_down,o_down"
	}
	return append(base(s.opts.Name, p.Active, flags), []field{
		{"down-after-milliseconds", s.downAfter()},
		{"info-refresh", "0"},
		{"role-reported", "master"},
		{"role-reported-time", "0"},
		{"config-epoch", strconv.FormatUint(p.Epoch, 10)},
		{"num-slaves", strconv.Itoa(len(p.Reads))},
		{"num-other-sentinels", strconv.Itoa(len(p.Peers))},
		{"quorum", strconv.Itoa(p.Voters/2 + 1)},
		{"failover-timeout", "180000"},
		{"parallel-syncs", "1"},
	}...)
}

func (s *Server) replicaFields(p *Picture, i Instance) []field {
	flags, link := "slave", "ok"
	if i.Down {
		flags, link = "slave,s_down,disconnected", "err"
	}
	host, port := i.split()
	masterHost, masterPort := p.Active.split()
	return append(base(host+":"+port, i, flags), []field{
		{"down-after-milliseconds", s.downAfter()},
		{"info-refresh", "0"},
		{"role-reported", "slave"},
		{"role-reported-time", "0"},
		{"master-link-down-time", "0"},
		{"master-link-status", link},
		{"master-host", masterHost},
		{"master-port", masterPort},
		{"slave-priority", "100"},
		{"slave-repl-offset", strconv.FormatUint(i.LSN, 10)},
		{"replica-announced", "1"},
	}...)
}

func (s *Server) sentinelFields(p *Picture, i Instance) []field {
	flags := "sentinel"
	if i.Down {
		flags = "sentinel,s_down,disconnected"
	}
	return append(base(runID(i), i, flags), []field{
		{"down-after-milliseconds", s.downAfter()},
		{"last-hello-message", strconv.FormatInt(i.Silent.Milliseconds(), 10)},
		{"voted-leader", "?"},
		{"voted-leader-epoch", "0"},
	}...)
}

func cmdRole(c *conn, _ [][]byte) {
	c.reply(func(w *resp.Writer) {
		w.Array(2)
		w.BulkString("sentinel")
		w.Array(1)
		w.BulkString(c.s.opts.Name)
	})
}

func cmdInfo(c *conn, _ [][]byte) {
	p := c.s.opts.View.Picture()
	status, masters := "ok", 1
	if _, ok := p.master(); !ok {
		status = "odown"
	}
	if !p.Live || !p.Active.known() {
		masters = 0
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("# Server")
	line("redis_version:%s", c.s.opts.RedisVersion)
	line("redis_mode:sentinel")
	line("process_id:%d", os.Getpid())
	line("run_id:%s", runID(p.Self))
	line("uptime_in_seconds:%d", int64(time.Since(c.s.started)/time.Second))
	line("")
	line("# Clients")
	line("connected_clients:%d", len(c.s.all()))
	line("")
	line("# Sentinel")
	line("sentinel_masters:%d", masters)
	line("sentinel_tilt:0")
	line("sentinel_running_scripts:0")
	line("sentinel_scripts_queue_length:0")
	line("sentinel_simulate_failure_flags:0")
	if masters == 1 {
		line("master0:name=%s,status=%s,address=%s,slaves=%d,sentinels=%d", c.s.opts.Name, status, p.Active.Addr, len(p.Reads), len(p.Peers)+1)
	}
	c.reply(func(w *resp.Writer) { w.Verbatim("txt", b.String()) })
}
