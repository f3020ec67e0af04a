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
	return startRepldWith(ctx, o, dir, 1)
}

// startRepldWith starts an active with so many standbys, one of which has to have a write before it is answered.
func startRepldWith(ctx context.Context, o options, dir string, standbys int) (*running, error) {
	if standbys == 0 {
		return startRepld(ctx, o, dir)
	}
	run := &running{}
	ports, err := freePorts(standbys + 1)
	if err != nil {
		return run, err
	}
	more := "peers:\n"
	for i, port := range ports {
		more += fmt.Sprintf("  - {name: %s, addr: \"127.0.0.1:%d\"}\n", nodeName(i), port)
	}
	more += "insecure: true\nsync: {k: 1}\n"
	var nodes []*repldNode
	for i := range ports {
		n, err := run.repld(o, dir, nodeName(i), more)
		if err != nil {
			return run, err
		}
		nodes = append(nodes, n)
	}
	run.socket = nodes[0].client
	for _, n := range nodes {
		if err := n.wait(ctx, run, func(admin.NodeStatus) bool { return true }); err != nil {
			return run, err
		}
	}
	// Until all have met, the promotion of a blank cluster is refused.
	var last error
	err = poll(ctx, run, func(ctx context.Context) bool {
		_, last = nodes[0].admin.Promote(ctx, admin.PromoteRequest{Reason: "benchmark"}, nil)
		return last == nil
	})
	if err != nil {
		return run, errors.Join(err, last)
	}
	for _, n := range nodes[1:] {
		if err := n.follows(ctx, run); err != nil {
			return run, err
		}
	}
	return run, poll(ctx, run, writable(run.socket))
}

func nodeName(i int) string { return string(rune('a' + i)) }

// follows waits until a standby counts.
func (n *repldNode) follows(ctx context.Context, r *running) error {
	return n.wait(ctx, r, func(s admin.NodeStatus) bool { return s.Role == admin.RoleStandby && s.Link == "stream" && s.Voter })
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
