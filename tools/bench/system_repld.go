package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

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
	return run, run.cluster(ctx, o, dir, standbys+1, more)
}

// startRepldWitness starts an active, a standby and a witness: what a witness costs.
func startRepldWitness(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	ports, err := freePorts(3)
	if err != nil {
		return run, err
	}
	more := fmt.Sprintf("peers:\n  - {name: a, addr: \"127.0.0.1:%d\"}\n  - {name: b, addr: \"127.0.0.1:%d\"}\n  - {name: w, addr: \"127.0.0.1:%d\", role: witness}\ninsecure: true\n", ports[0], ports[1], ports[2])
	config := filepath.Join(dir, "w.yml")
	text := fmt.Sprintf("cluster: bench\nnode: w\nrole: witness\ndata: %s\nadmin: {socket: %s}\nlog: {level: warn}\n%s", filepath.Join(dir, "w"), filepath.Join(dir, "w.adm"), more)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return run, err
	}
	if err := run.launch(o, &repldNode{name: "w", config: config}); err != nil {
		return run, err
	}
	return run, run.cluster(ctx, o, dir, 2, more+"sync: {k: 1}\n")
}

// cluster starts the data nodes and returns when the first is active and all others count.
func (r *running) cluster(ctx context.Context, o options, dir string, data int, more string) error {
	var nodes []*repldNode
	for i := range data {
		n, err := r.repld(o, dir, nodeName(i), more)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	r.socket = nodes[0].client
	for _, n := range nodes {
		if err := n.wait(ctx, r, func(admin.NodeStatus) bool { return true }); err != nil {
			return err
		}
	}
	// Until all have met, the promotion of a blank cluster is refused.
	var last error
	err := poll(ctx, r, func(ctx context.Context) bool {
		_, last = nodes[0].admin.Promote(ctx, admin.PromoteRequest{Reason: "benchmark"}, nil)
		return last == nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	for _, n := range nodes[1:] {
		if err := n.follows(ctx, r); err != nil {
			return err
		}
	}
	return poll(ctx, r, writable(r.socket))
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
	data, config string
	admin        *admin.Client
	process      *process
}

func (r *running) repld(o options, dir, name, more string) (*repldNode, error) {
	n := &repldNode{name: name, client: filepath.Join(dir, name+".sock"), data: filepath.Join(dir, name), config: filepath.Join(dir, name+".yml")}
	socket := filepath.Join(dir, name+".adm")
	n.admin = admin.NewClient(socket)
	text := fmt.Sprintf("cluster: bench\nnode: %s\ndata: %s\nclient: {socket: %s}\nadmin: {socket: %s}\nlog: {level: warn}\n%s", name, n.data, n.client, socket, more)
	if err := os.WriteFile(n.config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	r.nodes = append(r.nodes, n)
	return n, r.launch(o, n)
}

// launch starts a node, again if it was stopped.
func (r *running) launch(o options, n *repldNode) (err error) {
	r.all = slices.DeleteFunc(r.all, func(p *process) bool { return p == n.process })
	if n.process, err = start("repld "+n.name, filepath.Join(o.dir, n.name+".log"), filepath.Join(o.bin, "repld"), "--config", n.config); err == nil {
		r.all = append(r.all, n.process)
	}
	return err
}

// halt stops a node that will be launched again.
func (r *running) halt(n *repldNode) {
	n.process.stop()
	r.all = slices.DeleteFunc(r.all, func(p *process) bool { return p == n.process })
}

// status is what a node tells of itself.
func (n *repldNode) status(ctx context.Context) (admin.NodeStatus, error) {
	st, err := n.admin.Status(ctx, true)
	if err == nil && len(st.Nodes) == 0 {
		err = errors.New("no node in the status")
	}
	if err != nil {
		return admin.NodeStatus{}, err
	}
	return st.Nodes[0], nil
}

func (n *repldNode) wait(ctx context.Context, r *running, ok func(admin.NodeStatus) bool) error {
	return poll(ctx, r, func(ctx context.Context) bool {
		st, err := n.status(ctx)
		return err == nil && ok(st)
	})
}
