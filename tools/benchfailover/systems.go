package main

import (
	"os/exec"
	"slices"
	"time"
)

// systemNames are what -systems takes.
var systemNames = []string{"data", "witness", "redis", "etcd"}

// systems are those that are asked for and installed. Sentinel leaves a master alone for twice its failover-timeout after a failover, so that its rounds are long.
func systems(o options) (chosen []system) {
	crashes := failures[:3]
	repld := func(o options, m *machines) (cluster, error) { return startRepld(o, m, false) }
	witness := func(o options, m *machines) (cluster, error) { return startRepld(o, m, true) }
	for _, s := range []struct {
		system
		missing bool
	}{
		{system{name: "data", title: "repld, three data nodes, token " + o.token, ours: true, modes: failures, rounds: o.rounds, pause: settle, make: repld}, false},
		{system{name: "witness", title: "repld, two data nodes and a witness", ours: true, modes: failures, rounds: o.rounds, pause: settle, make: witness}, o.token != "raft"},
		{system{name: "redis", title: "redis, three sentinels, WAIT 1", modes: crashes, rounds: o.others, pause: 7 * time.Second, make: startSentinel}, !installed("redis-server")},
		{system{name: "etcd", title: "etcd, three members", modes: crashes, rounds: o.others, pause: settle, make: startEtcd}, !installed("etcd")},
	} {
		if !s.missing && slices.Contains(names(o.systems), s.name) {
			chosen = append(chosen, s.system)
		}
	}
	return chosen
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
