package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

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
	run.wait = true
	run.filled = func(ctx context.Context) error {
		return poll(ctx, run, func(context.Context) bool { return replicaCaughtUp(run.socket) })
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
