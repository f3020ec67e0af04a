package server

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"repld/internal/resp"
)

// config is what CONFIG GET and SET see. A few parameters act on the server until it stops; most are only kept, so that
// clients and test suites that set them go on: repld is configured by its file.
type config struct {
	mu struct {
		sync.Mutex
		values map[string]string
	}
	params map[string]param
}

type paramKind uint8

const (
	paramText paramKind = iota
	paramInt
	paramBool
	paramBytes // a number with b, k, kb, m, mb, g or gb
)

type param struct {
	kind   paramKind
	fixed  bool
	value  string
	lo, hi int64
	apply  func(s *Server, v int64) // for paramInt and paramBytes
}

func newConfig(o *Options) *config {
	const many = 1<<63 - 1
	number := func(v, lo, hi int64, apply func(*Server, int64)) param {
		return param{kind: paramInt, value: itoa(v), lo: lo, hi: hi, apply: apply}
	}
	text := func(v string) param { return param{value: v} }
	fixed := func(v string) param { return param{value: v, fixed: true} }
	yes, no := param{kind: paramBool, value: "yes"}, param{kind: paramBool, value: "no"}
	size := func(v string) param { return param{kind: paramBytes, value: v, hi: many} }
	c := &config{params: map[string]param{
		// These act.
		"maxclients": number(int64(o.MaxClients), 1, 1<<32-1, func(s *Server, v int64) { s.maxClients.Store(v) }),
		"timeout":    number(int64(o.IdleTimeout/time.Second), 0, 1<<31-1, func(s *Server, v int64) { s.idleTimeout.Store(v * int64(time.Second)) }),
		"slowlog-log-slower-than": number(o.SlowlogThreshold.Microseconds(), -1, many/1000, func(s *Server, v int64) {
			s.slowlog.threshold.Store(v * int64(time.Microsecond))
		}),
		"slowlog-max-len": number(int64(o.SlowlogEntries), 0, 1<<20, func(s *Server, v int64) { s.slowlog.setLimit(int(v)) }),
		// These tell.
		"databases": fixed("1"), "proto-max-bulk-len": fixed(strconv.Itoa(o.Limits.MaxBulk)), "cluster-enabled": fixed("no"),
		"port": fixed("0"), "bind": fixed(""), "unixsocket": fixed(""), "dir": fixed(""), "daemonize": fixed("no"),
		"enable-debug-command": fixed("no"), "io-threads": fixed("1"), "dbfilename": fixed(""), "replicaof": fixed(""),
		// These are kept.
		"save": text(""), "appendonly": yes, "appendfsync": text("always"), "maxmemory": size("0"), "maxmemory-policy": text("noeviction"),
		"maxmemory-samples": number(5, 1, 1<<31-1, nil), "maxmemory-clients": size("0"), "notify-keyspace-events": text(""),
		"client-output-buffer-limit": text("normal 0 0 0 slave 0 0 0 pubsub 0 0 0"), "client-query-buffer-limit": size("1073741824"),
		"tcp-keepalive": number(300, 0, 1<<31-1, nil), "loglevel": text("notice"), "hz": number(10, 0, 1<<31-1, nil), "dynamic-hz": yes,
		"latency-monitor-threshold": number(0, 0, many, nil), "latency-tracking": no, "lfu-log-factor": number(10, 0, 1<<31-1, nil),
		"lfu-decay-time": number(1, 0, 1<<31-1, nil), "lua-time-limit": number(5000, 0, many, nil), "busy-reply-threshold": number(5000, 0, many, nil),
		"hash-max-listpack-entries": size("512"), "hash-max-listpack-value": size("64"), "hash-max-ziplist-entries": size("512"),
		"hash-max-ziplist-value": size("64"), "list-max-listpack-size": number(-2, -1<<31, 1<<31-1, nil), "list-max-ziplist-size": number(-2, -1<<31, 1<<31-1, nil),
		"list-compress-depth": number(0, 0, 1<<31-1, nil), "set-max-intset-entries": size("512"), "set-max-listpack-entries": size("128"),
		"set-max-listpack-value": size("64"), "zset-max-listpack-entries": size("128"), "zset-max-listpack-value": size("64"),
		"zset-max-ziplist-entries": size("128"), "zset-max-ziplist-value": size("64"), "hll-sparse-max-bytes": size("3000"),
		"stream-node-max-bytes": size("4096"), "stream-node-max-entries": number(100, 0, many, nil), "tracking-table-max-keys": size("1000000"),
		"activedefrag": no, "active-expire-effort": number(1, 1, 10, nil), "lazyfree-lazy-expire": no, "lazyfree-lazy-eviction": no,
		"lazyfree-lazy-server-del": no, "lazyfree-lazy-user-del": no, "lazyfree-lazy-user-flush": no, "close-on-replica-write": yes,
		"min-replicas-to-write": number(0, 0, 1<<31-1, nil), "min-replicas-max-lag": number(10, 0, 1<<31-1, nil), "min-slaves-to-write": number(0, 0, 1<<31-1, nil),
		"repl-diskless-sync": yes, "repl-diskless-sync-delay": number(5, 0, 1<<31-1, nil), "repl-backlog-size": size("1048576"),
		"repl-timeout": number(60, 1, 1<<31-1, nil), "replica-serve-stale-data": yes, "replica-priority": number(100, 0, 1<<31-1, nil),
		"replica-read-only": yes, "slave-read-only": yes, "rdbcompression": yes, "rdbchecksum": yes, "stop-writes-on-bgsave-error": yes,
		"auto-aof-rewrite-percentage": number(100, 0, 1<<31-1, nil), "aof-use-rdb-preamble": yes, "no-appendfsync-on-rewrite": no,
		"sanitize-dump-payload": text("no"), "jemalloc-bg-thread": yes, "replica-announced": yes, "crash-log-enabled": yes,
		"key-load-delay": number(0, -1<<31, 1<<31-1, nil), "rdb-key-save-delay": number(0, -1<<31, 1<<31-1, nil), "propagation-error-behavior": text("ignore"),
	}}
	c.mu.values = make(map[string]string)
	for name, p := range c.params {
		c.mu.values[name] = p.value
	}
	return c
}

// parse checks a value and normalizes it.
func (p param) parse(text string) (value string, n int64, problem string) {
	switch p.kind {
	case paramBool:
		v := strings.ToLower(text)
		if v != "yes" && v != "no" {
			return "", 0, "argument must be 'yes' or 'no'"
		}
		return v, 0, ""
	case paramInt, paramBytes:
		v, ok := int64(0), false
		if p.kind == paramBytes {
			v, ok = parseBytes(text)
		} else {
			v, ok = resp.ParseInt([]byte(text))
		}
		switch {
		case !ok && p.kind == paramBytes:
			return "", 0, "argument must be a memory value"
		case !ok:
			return "", 0, "argument couldn't be parsed into an integer"
		case v < p.lo || v > p.hi:
			return "", 0, fmt.Sprintf("argument must be between %d and %d inclusive", p.lo, p.hi)
		}
		return itoa(v), v, ""
	}
	return text, 0, ""
}

// parseBytes reads a number with Redis' units: k, m and g are powers of 1000, kb, mb and gb of 1024.
func parseBytes(text string) (int64, bool) {
	lower := strings.ToLower(text)
	number := strings.TrimRight(lower, "bkmg")
	unit, known := map[string]int64{"": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1000_000, "mb": 1 << 20, "g": 1000_000_000, "gb": 1 << 30}[lower[len(number):]]
	v, ok := resp.ParseInt([]byte(number))
	if !ok || !known || v < 0 || v > (1<<63-1)/unit {
		return 0, false
	}
	return v * unit, true
}

func cmdConfigGet(c *call) error {
	cfg := c.s.srv.config
	cfg.mu.Lock()
	defer cfg.mu.Unlock()
	var names []string
	for name := range cfg.params {
		for _, pattern := range c.args[2:] {
			if globMatch(pattern, []byte(name), true) {
				names = append(names, name)
				break
			}
		}
	}
	sort.Strings(names)
	c.w.Map(len(names))
	for _, name := range names {
		c.w.BulkString(name)
		c.w.BulkString(cfg.mu.values[name])
	}
	return nil
}

// cmdConfigSet sets all or none.
func cmdConfigSet(c *call) error {
	cfg := c.s.srv.config
	cfg.mu.Lock()
	defer cfg.mu.Unlock()
	if len(c.args)%2 != 0 {
		return c.fail(errSyntax)
	}
	failed := func(name, problem string) error {
		return c.fail("ERR CONFIG SET failed (possibly related to argument '" + name + "') - " + problem)
	}
	type change struct {
		name, value string
		n           int64
	}
	var changes []change
	seen := make(map[string]bool)
	for i := 2; i < len(c.args); i += 2 {
		given, name := cString(c.args[i]), c.lowerArg(i)
		p, ok := cfg.params[name]
		switch {
		case !ok:
			return c.fail("ERR Unknown option or number of arguments for CONFIG SET - '" + given + "'")
		case p.fixed:
			return failed(given, "can't set immutable config")
		case seen[name]:
			return failed(given, "duplicate parameter")
		}
		seen[name] = true
		value, n, problem := p.parse(string(c.args[i+1]))
		if problem != "" {
			return failed(given, problem)
		}
		changes = append(changes, change{name, value, n})
	}
	for _, ch := range changes {
		cfg.mu.values[ch.name] = ch.value
		if apply := cfg.params[ch.name].apply; apply != nil {
			apply(c.s.srv, ch.n)
		}
	}
	c.w.OK()
	return nil
}

func cmdConfigResetStat(c *call) error {
	c.s.srv.stats.reset()
	c.s.srv.table.each(func(cmd *command) { cmd.stats.reset() })
	c.w.OK()
	return nil
}

func cmdConfigRewrite(c *call) error {
	return c.fail("ERR The server is running without a config file")
}
