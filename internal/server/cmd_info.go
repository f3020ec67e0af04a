package server

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// infoSections in the order in which INFO answers them. The last two come only when asked for, or with all.
var infoSections = []struct {
	name  string
	extra bool
	write func(*infoText)
}{
	{"server", false, (*infoText).server},
	{"clients", false, (*infoText).clients},
	{"memory", false, (*infoText).memory},
	{"persistence", false, (*infoText).persistence},
	{"stats", false, (*infoText).stats},
	{"replication", false, (*infoText).replication},
	{"cpu", false, (*infoText).cpu},
	{"modules", false, (*infoText).modules},
	{"errorstats", false, (*infoText).errorstats},
	{"cluster", false, (*infoText).cluster},
	{"keyspace", false, (*infoText).keyspace},
	{"repld", false, (*infoText).repld},
	{"commandstats", true, (*infoText).commandstats},
}

// infoText is the answer of INFO being written.
type infoText struct {
	strings.Builder
	c   *call
	s   *Server
	st  *Status
	now time.Time
}

func (t *infoText) f(format string, args ...any) { fmt.Fprintf(t, format+"\r\n", args...) }

// cmdInfo is INFO [section …]: the fields that clients, redis_exporter and its dashboards read. Fields that Redis has and
// that mean nothing here are left out rather than invented.
func cmdInfo(c *call) error {
	all, def := false, len(c.args) == 1
	var names []string
	for i := 1; i < len(c.args); i++ {
		switch name := c.lowerArg(i); name {
		case "all", "everything":
			all = true
		case "default":
			def = true
		default:
			names = append(names, name)
		}
	}
	t := &infoText{c: c, s: c.s.srv, st: c.status(), now: c.now}
	for _, section := range infoSections {
		if all || def && !section.extra || slices.Contains(names, section.name) {
			if t.Len() > 0 {
				t.WriteString("\r\n")
			}
			section.write(t)
		}
	}
	c.w.Verbatim("txt", t.String())
	return nil
}

func (t *infoText) server() {
	up := int64(t.now.Sub(t.s.started) / time.Second)
	t.f("# Server")
	t.f("redis_version:%s", t.s.opts.RedisVersion)
	t.f("redis_git_sha1:00000000")
	t.f("redis_git_dirty:0")
	t.f("redis_build_id:repld-%s", t.st.Version)
	t.f("redis_mode:standalone")
	t.f("os:%s %s", runtime.GOOS, runtime.GOARCH)
	t.f("arch_bits:64")
	t.f("process_id:%d", os.Getpid())
	t.f("run_id:%s", t.runID())
	t.f("tcp_port:0")
	t.f("server_time_usec:%d", t.now.UnixMicro())
	t.f("uptime_in_seconds:%d", up)
	t.f("uptime_in_days:%d", up/86400)
	t.f("hz:10")
}

// runID has 40 hex digits, as clients expect, and is the same as long as the node keeps its data directory.
func (t *infoText) runID() string {
	return hex40(t.st.Cluster, t.st.Group, t.st.Node, t.st.Incarnation)
}

// replID names a history: every promotion begins a new one.
func (t *infoText) replID() string {
	return hex40(t.st.Cluster, t.st.Group, fmt.Sprint(t.st.Epoch))
}

func hex40(parts ...string) string {
	text := strings.Join(parts, "\x00")
	h := func(salt string) uint64 { return xxhash.Sum64String(salt + text) }
	return fmt.Sprintf("%016x%016x%08x", h("a"), h("b"), uint32(h("c")))
}

func (t *infoText) clients() {
	t.f("# Clients")
	t.f("connected_clients:%d", t.s.Stats().Clients)
	t.f("cluster_connections:0")
	t.f("maxclients:%d", t.s.maxClients.Load())
	t.f("blocked_clients:0")
	t.f("tracking_clients:0")
}

func (t *infoText) memory() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	used := int64(m.HeapAlloc) + t.st.MemoryBytes
	t.f("# Memory")
	t.f("used_memory:%d", used)
	t.f("used_memory_human:%.2fM", float64(used)/(1<<20))
	t.f("used_memory_rss:%d", int64(m.Sys)+t.st.MemoryBytes)
	t.f("used_memory_peak:%d", used)
	t.f("maxmemory:0")
	t.f("maxmemory_policy:noeviction")
	t.f("mem_fragmentation_ratio:1.00")
	t.f("mem_allocator:go")
}

func (t *infoText) persistence() {
	loading := 0
	if t.st.Loading {
		loading = 1
	}
	t.f("# Persistence")
	t.f("loading:%d", loading)
	t.f("async_loading:0")
	t.f("rdb_changes_since_last_save:0")
	t.f("rdb_bgsave_in_progress:0")
	t.f("rdb_last_bgsave_status:ok")
	t.f("aof_enabled:1")
	t.f("aof_rewrite_in_progress:0")
	t.f("aof_last_bgrewrite_status:ok")
	t.f("aof_last_write_status:ok")
	t.f("aof_current_size:%d", t.st.LogBytes)
}

func (t *infoText) stats() {
	n := t.s.Stats()
	t.f("# Stats")
	t.f("total_connections_received:%d", n.Connections)
	t.f("total_commands_processed:%d", n.Commands)
	t.f("instantaneous_ops_per_sec:0")
	t.f("total_net_input_bytes:%d", n.NetInput)
	t.f("total_net_output_bytes:%d", n.NetOutput)
	t.f("rejected_connections:%d", n.Rejected)
	t.f("sync_full:0")
	t.f("sync_partial_ok:0")
	t.f("sync_partial_err:0")
	t.f("expired_keys:%d", t.st.ExpiredKeys)
	t.f("evicted_keys:0")
	t.f("keyspace_hits:%d", n.KeyspaceHits)
	t.f("keyspace_misses:%d", n.KeyspaceMisses)
	t.f("pubsub_channels:0")
	t.f("pubsub_patterns:0")
	t.f("total_error_replies:%d", n.Errors)
}

func (t *infoText) replication() {
	t.f("# Replication")
	if t.st.Role == RoleActive {
		t.f("role:master")
		t.f("connected_slaves:%d", len(t.st.Standbys))
		for i, b := range t.st.Standbys {
			state := "online"
			if b.State != LinkConnected {
				state = "wait_bgsave"
			}
			t.f("slave%d:ip=%s,port=%d,state=%s,offset=%d,lag=%d", i, b.Host, b.Port, state, b.Durable, t.seconds(b.LastAck))
		}
	} else {
		t.standby()
	}
	t.f("master_failover_state:%s", map[bool]string{false: "no-failover", true: "failover-in-progress"}[t.st.SwitchingOver])
	t.f("master_replid:%s", t.replID())
	t.f("master_replid2:%s", strings.Repeat("0", 40))
	t.f("master_repl_offset:%d", t.st.Committed)
	t.f("second_repl_offset:-1")
	t.f("repl_backlog_active:1")
	t.f("repl_backlog_size:%d", t.st.LogBytes)
	t.f("repl_backlog_first_byte_offset:0")
	t.f("repl_backlog_histlen:%d", t.st.LogBytes)
}

func (t *infoText) standby() {
	up := t.st.Link == LinkConnected
	t.f("role:slave")
	t.f("master_host:%s", t.st.ActiveHost)
	t.f("master_port:%d", t.st.ActivePort)
	t.f("master_link_status:%s", map[bool]string{false: "down", true: "up"}[up])
	t.f("master_last_io_seconds_ago:%d", t.seconds(t.st.LastHeard))
	t.f("master_sync_in_progress:%d", map[bool]int{true: 1}[t.st.Link == LinkSync])
	t.f("slave_read_repl_offset:%d", t.st.Durable)
	t.f("slave_repl_offset:%d", t.st.Applied)
	if !up {
		t.f("master_link_down_since_seconds:%d", t.seconds(t.st.LinkSince))
	}
	t.f("slave_priority:100")
	t.f("slave_read_only:1")
	t.f("replica_announced:1")
	t.f("connected_slaves:0")
}

// seconds since at, -1 if it never was.
func (t *infoText) seconds(at time.Time) int64 {
	if at.IsZero() {
		return -1
	}
	return max(int64(t.now.Sub(at)/time.Second), 0)
}

func (t *infoText) cpu() {
	user, system := cpuTimes()
	t.f("# CPU")
	t.f("used_cpu_sys:%.6f", system.Seconds())
	t.f("used_cpu_user:%.6f", user.Seconds())
}

func (t *infoText) modules()    { t.f("# Modules") }
func (t *infoText) errorstats() { t.f("# Errorstats") }

func (t *infoText) cluster() {
	t.f("# Cluster")
	t.f("cluster_enabled:0")
}

// keyspace asks the state for its number of keys; without state the section is empty, as in an empty Redis.
func (t *infoText) keyspace() {
	t.f("# Keyspace")
	if t.c.view == nil {
		if t.c.s.openView(false) != nil {
			return
		}
		defer func() { t.c.view = nil }()
	}
	if n, err := t.c.view.Len(); err == nil && n > 0 {
		t.f("db0:keys=%d,expires=0,avg_ttl=0", n)
	}
}

func (t *infoText) repld() {
	t.f("# Repld")
	t.f("repld_version:%s", t.st.Version)
	t.f("cluster:%s", t.st.Cluster)
	t.f("group:%s", t.st.Group)
	t.f("node:%s", t.st.Node)
	t.f("repld_role:%s", t.st.Role)
	t.f("repld_mode:%s", t.st.Mode)
	t.f("epoch:%d", t.st.Epoch)
	t.f("active:%s", t.st.Active)
	t.f("sync_set:%s", t.st.Sync)
	t.f("durable_lsn:%d", t.st.Durable)
	t.f("committed_lsn:%d", t.st.Committed)
	t.f("applied_lsn:%d", t.st.Applied)
	t.f("state_bytes:%d", t.st.DiskBytes)
	t.f("log_bytes:%d", t.st.LogBytes)
	t.f("unknown_outcomes:%d", t.s.Stats().UnknownOutcomes)
	t.f("panics:%d", t.s.Stats().Panics)
	if t.st.Phases != nil {
		for _, p := range t.st.Phases() {
			t.f("write_%s:count=%d,usec=%d,p50_usec=%d,p99_usec=%d", p.Name, p.Count, p.Sum.Microseconds(), p.P50.Microseconds(), p.P99.Microseconds())
		}
	}
}

func (t *infoText) commandstats() {
	t.f("# Commandstats")
	t.s.table.each(func(c *command) {
		calls, rejected := c.stats.calls.Load(), c.stats.rejected.Load()
		if calls+rejected == 0 {
			return
		}
		usec := c.stats.nanos.Load() / 1000
		t.f("cmdstat_%s:calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d", c.full, calls, usec,
			float64(usec)/float64(max(calls, 1)), rejected, c.stats.failed.Load())
	})
}
