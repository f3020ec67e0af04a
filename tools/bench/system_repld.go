package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"repld/internal/admin"
)

func startRepld(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	n, err := run.repld(o, dir, "a", "")
	if err != nil {
		return run, err
	}
	run.socket = n.client
	return run, poll(ctx, run, writable(run.socket))
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
	if err := b.wait(ctx, run, func(s admin.NodeStatus) bool { return s.Role == admin.RoleStandby && s.Link == "stream" && s.Voter }); err != nil {
		return run, err
	}
	return run, poll(ctx, run, writable(run.socket))
}

// writable has a write accepted: the role is told a moment before the gate opens.
func writable(socket string) func(context.Context) bool {
	return func(context.Context) bool {
		text, err := ask(socket, "SET bench:ready 1")
		return err == nil && text == "+OK\r\n"
	}
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
