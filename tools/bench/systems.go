package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"repld/internal/admin"
)

// system is one contender.
type system struct {
	name  string
	set   kind
	gets  bool // measured for GET too: one is enough of each kind of server
	start func(ctx context.Context, o options, dir string) (*running, error)
}

// running is a started system.
type running struct {
	socket string
	all    []*process
}

func (r *running) stop() {
	for _, p := range r.all {
		p.stop()
	}
}

// Names of the systems, as in the tables.
const (
	nameRepld   = "repld"
	nameRepld1  = "repld + 1 standby"
	nameRedis   = "redis"
	nameRedis1  = "redis + WAIT 1"
	startBound  = 30 * time.Second
	pollingTime = 20 * time.Millisecond
)

func systems(o options) []system {
	all := []system{
		{name: nameRepld, set: kindSet, gets: true, start: startRepld},
		{name: nameRedis, set: kindSet, gets: true, start: startRedis},
		{name: nameRepld1, set: kindSet, start: startRepldPair},
		{name: nameRedis1, set: kindSetWait, start: startRedisPair},
	}
	var out []system
	for _, s := range all {
		if strings.Contains(s.name, o.only) && !(o.skipRedis && strings.HasPrefix(s.name, nameRedis)) {
			out = append(out, s)
		}
	}
	return out
}

// measure starts the system on an empty folder, writes all keys, measures, and stops it.
func measure(ctx context.Context, o options, s system, r *results) error {
	dir := filepath.Join(o.dir, "s")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run, err := s.start(ctx, o, dir)
	if run != nil {
		defer run.stop()
	}
	if err != nil {
		return err
	}
	if err := fill(ctx, run.socket, o); err != nil {
		return errors.Join(fmt.Errorf("write all keys: %w", err), run.dead())
	}
	if s.name == nameRedis1 {
		if err := poll(ctx, run, func(context.Context) bool { return replicaCaughtUp(run.socket) }); err != nil {
			return fmt.Errorf("replica after writing all keys: %w", err)
		}
	}
	// Everybody has buffers to flush: that is not what is measured.
	warm := o
	warm.seconds = min(2, o.seconds)
	if _, err := load(ctx, run.socket, s.set, 16, warm); err != nil {
		return errors.Join(fmt.Errorf("warm up: %w", err), run.dead())
	}
	kinds := []kind{s.set}
	if s.gets {
		kinds = append(kinds, kindGet)
	}
	for _, k := range kinds {
		for _, clients := range o.clients {
			x, err := load(ctx, run.socket, k, clients, o)
			if err != nil {
				return errors.Join(fmt.Errorf("%s with %d clients: %w", k.name, clients, err), run.dead())
			}
			r.add(s.name, k.name, clients, x)
			fmt.Fprintf(os.Stderr, "  %s %3d clients: %8.0f/s  p50 %v p99 %v\n", k.name, clients, x.PerSecond, x.P50, x.P99)
		}
	}
	for _, p := range run.all {
		rss, err := p.rss()
		if err != nil {
			return errors.Join(err, p.alive())
		}
		r.memory(s.name, p.name, rss)
	}
	return nil
}

func (r *running) dead() error {
	var errs []error
	for _, p := range r.all {
		errs = append(errs, p.alive())
	}
	return errors.Join(errs...)
}

func startRepld(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	n, err := run.repld(o, dir, "a", "")
	if err != nil {
		return run, err
	}
	run.socket = n.client
	return run, n.wait(ctx, run, func(s admin.NodeStatus) bool { return s.Role == admin.RoleActive })
}

func startRepldPair(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	ports, err := freePorts(2)
	if err != nil {
		return run, err
	}
	more := fmt.Sprintf("peers:\n  - {name: a, addr: \"127.0.0.1:%d\"}\n  - {name: b, addr: \"127.0.0.1:%d\"}\ninsecure: true\nsync: {k: 1}\n", ports[0], ports[1])
	a, err := run.repld(o, dir, "a", more)
	if err != nil {
		return run, err
	}
	b, err := run.repld(o, dir, "b", more)
	if err != nil {
		return run, err
	}
	run.socket = a.client
	for _, n := range []*repldNode{a, b} {
		if err := n.wait(ctx, run, func(admin.NodeStatus) bool { return true }); err != nil {
			return run, err
		}
	}
	// Until both have met, the promotion of a blank cluster is refused.
	var last error
	err = poll(ctx, run, func(ctx context.Context) bool {
		_, last = a.admin.Promote(ctx, admin.PromoteRequest{Reason: "benchmark"}, nil)
		return last == nil
	})
	if err != nil {
		return run, errors.Join(err, last)
	}
	return run, b.wait(ctx, run, func(s admin.NodeStatus) bool { return s.Role == admin.RoleStandby && s.Link == "stream" && s.Voter })
}

// repldNode is one repld.
type repldNode struct {
	name, client string
	admin        *admin.Client
}

func (r *running) repld(o options, dir, name, more string) (*repldNode, error) {
	n := &repldNode{name: name, client: filepath.Join(dir, name+".sock")}
	socket := filepath.Join(dir, name+".adm")
	n.admin = admin.NewClient(socket)
	config := filepath.Join(dir, name+".yml")
	text := fmt.Sprintf("cluster: bench\nnode: %s\ndata: %s\nclient: {socket: %s}\nadmin: {socket: %s}\nlog: {level: warn}\n%s",
		name, filepath.Join(dir, name), n.client, socket, more)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	p, err := start("repld "+name, filepath.Join(o.dir, name+".log"), filepath.Join(o.bin, "repld"), "--config", config)
	if err != nil {
		return nil, err
	}
	r.all = append(r.all, p)
	return n, nil
}

func (n *repldNode) wait(ctx context.Context, r *running, ok func(admin.NodeStatus) bool) error {
	return poll(ctx, r, func(ctx context.Context) bool {
		st, err := n.admin.Status(ctx, true)
		return err == nil && len(st.Nodes) > 0 && ok(st.Nodes[0])
	})
}

// redisArgs are the same for all: durable as repld is, no snapshots and no log rewrites in the middle of a measurement.
func redisArgs(dir, name, socket string, more ...string) []string {
	return append([]string{"--unixsocket", socket, "--dir", filepath.Join(dir, name), "--appendonly", "yes", "--appendfsync", "always",
		"--save", "", "--auto-aof-rewrite-percentage", "0", "--bind", "127.0.0.1", "--daemonize", "no"}, more...)
}

func (r *running) redis(ctx context.Context, o options, dir, name string, more ...string) (string, error) {
	if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
		return "", err
	}
	socket := filepath.Join(dir, name+".sock")
	p, err := start("redis "+name, filepath.Join(o.dir, name+".log"), "redis-server", redisArgs(dir, name, socket, more...)...)
	if err != nil {
		return "", err
	}
	r.all = append(r.all, p)
	return socket, poll(ctx, r, func(context.Context) bool { _, err := ask(socket, "PING"); return err == nil })
}

func startRedis(ctx context.Context, o options, dir string) (run *running, err error) {
	run = &running{}
	run.socket, err = run.redis(ctx, o, dir, "m", "--port", "0")
	return run, err
}

func startRedisPair(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	ports, err := freePorts(2)
	if err != nil {
		return run, err
	}
	run.socket, err = run.redis(ctx, o, dir, "m", "--port", fmt.Sprint(ports[0]), "--repl-diskless-sync-delay", "0")
	if err != nil {
		return run, err
	}
	if _, err = run.redis(ctx, o, dir, "r", "--port", fmt.Sprint(ports[1]), "--replicaof", fmt.Sprintf("127.0.0.1 %d", ports[0])); err != nil {
		return run, err
	}
	return run, poll(ctx, run, func(context.Context) bool {
		text, err := ask(run.socket, "INFO replication")
		return err == nil && strings.Contains(text, "state=online")
	})
}

// replicaCaughtUp reports whether redis' replica has acknowledged all that was written.
func replicaCaughtUp(socket string) bool {
	text, err := ask(socket, "INFO replication")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(text, "master_repl_offset:")
	offset, _, _ := strings.Cut(after, "\r")
	return offset != "" && strings.Contains(text, ",offset="+offset+",")
}

// ask sends one inline command and returns the first piece of the answer.
func ask(socket, command string) (string, error) {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	buf := make([]byte, 16<<10)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// poll waits until ok, a child's death or the bound.
func poll(ctx context.Context, r *running, ok func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	tick := time.NewTicker(pollingTime)
	defer tick.Stop()
	for !ok(ctx) {
		if err := r.dead(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", startBound, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out, nil
}
