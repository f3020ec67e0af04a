package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// startBoundPair starts this program twice as the reference server (bound.go): a standby and an active.
func startBoundPair(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{socket: filepath.Join(dir, "bound.sock")}
	ports, err := freePorts(1)
	if err != nil {
		return run, err
	}
	self, err := os.Executable()
	if err != nil {
		return run, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports[0])
	for _, p := range [][]string{
		{"bound b", "-standby", addr, "-log", filepath.Join(dir, "b.log")},
		{"bound a", "-client", run.socket, "-peer", addr, "-log", filepath.Join(dir, "a.log")},
	} {
		child, err := start(p[0], filepath.Join(o.dir, p[0]+".out"), self, append([]string{boundCommand}, p[1:]...)...)
		if err != nil {
			return run, err
		}
		run.all = append(run.all, child)
	}
	return run, poll(ctx, run, func(context.Context) bool { _, err := ask(run.socket, "PING"); return err == nil })
}
