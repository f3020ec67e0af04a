package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"repld/internal/admin"
)

// catchup measures how a standby that was away comes back, of a cluster of three in which the other standby acks: from the log with idle clients, from the log with 16 clients writing, and, blank, by a
// snapshot; beside the write rate of the disk, and the rate at which the state takes records, in the same run.
func catchup(ctx context.Context, o options) (out []part, err error) {
	newBlocks, over, err := diskRates(o.dir)
	if err != nil {
		return nil, err
	}
	out = append(out, part{"disk: new blocks, 1 MiB writes, synced at the end", newBlocks, "MB/s"}, part{"disk: the same blocks again", over, "MB/s"})
	built, _, err := buildLog(ctx, o, o.keys)
	if err != nil {
		return nil, err
	}
	replay, err := replayLog(ctx, o)
	if err != nil {
		return nil, err
	}
	out = append(out, part{"evaluate, log, apply on the active, one caller", built, "records/s"}, part{"replay of a log into an empty state", replay, "records/s"})
	dir, err := o.folder()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	run, err := startRepldWith(ctx, o, dir, 2)
	defer run.stop()
	if err != nil {
		return nil, err
	}
	c := &comeback{o: o, run: run, active: run.nodes[0], away: run.nodes[2]}
	for _, f := range []func(context.Context) ([]part, error){c.idle, c.busy, c.blank} {
		got, err := f(ctx)
		if err != nil {
			return nil, errors.Join(err, run.dead())
		}
		out = append(out, got...)
	}
	return out, nil
}

// comeback is the cluster with the standby that is sent away.
type comeback struct {
	o            options
	run          *running
	active, away *repldNode
}

// progress is the away node's at one moment.
type progress struct {
	at time.Time
	admin.NodeStatus
}

// missed has the standby stop and every key written meanwhile; it returns the log that it has to catch up with.
func (c *comeback) missed(ctx context.Context) (end admin.NodeStatus, bytesPerRecord float64, err error) {
	before, err := c.active.status(ctx)
	if err != nil {
		return end, 0, err
	}
	c.run.halt(c.away)
	net := loopbackBytes()
	if err := fill(ctx, c.run, c.o); err != nil {
		return end, 0, err
	}
	net = loopbackBytes() - net
	if end, err = c.active.status(ctx); err != nil {
		return end, 0, err
	}
	fmt.Fprintf(os.Stderr, "  missed: LSN %d to %d, %d bytes over the loopback to the other standby\n", before.End.LSN, end.End.LSN, net)
	return end, float64(net) / float64(end.End.LSN-before.End.LSN), nil
}

// back starts the standby and notes its progress until until says that it is there.
func (c *comeback) back(ctx context.Context, until func(admin.NodeStatus) bool) ([]progress, error) {
	if err := c.run.launch(c.o, c.away); err != nil {
		return nil, err
	}
	var seen []progress
	limit, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(pollingTime)
	defer tick.Stop()
	for {
		if st, err := c.away.status(limit); err == nil {
			seen = append(seen, progress{time.Now(), st})
			if until(st) {
				return seen, nil
			}
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return nil, errors.Join(fmt.Errorf("the standby is not back: %w", limit.Err()), c.run.dead())
		}
	}
}

// rate is the records a second of of between the first progress and the last.
func rate(seen []progress, of func(admin.NodeStatus) uint64) float64 {
	for i := 1; i < len(seen); i++ {
		if of(seen[i].NodeStatus) > of(seen[0].NodeStatus) {
			first, last := seen[i-1], seen[len(seen)-1]
			for j := i; j < len(seen); j++ {
				if of(seen[j].NodeStatus) == of(last.NodeStatus) {
					last = seen[j]
					break
				}
			}
			return float64(of(last.NodeStatus)-of(first.NodeStatus)) / last.at.Sub(first.at).Seconds()
		}
	}
	return 0
}

func durableOf(s admin.NodeStatus) uint64 { return uint64(s.Durable.LSN) }
func appliedOf(s admin.NodeStatus) uint64 { return uint64(s.Applied.LSN) }

func (c *comeback) idle(ctx context.Context) ([]part, error) {
	end, wire, err := c.missed(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := c.back(ctx, func(s admin.NodeStatus) bool { return s.Applied.LSN >= end.End.LSN })
	if err != nil {
		return nil, err
	}
	d := rate(seen, durableOf)
	return []part{
		{"network between two nodes, headers counted, large frames", wire, "bytes/record"},
		{"catch-up from the log, idle clients: durable", d, "records/s"},
		{"catch-up from the log, idle clients: durable", d * wire / 1e6, "MB/s"},
		{"catch-up from the log, idle clients: applied", rate(seen, appliedOf), "records/s"},
	}, nil
}

func (c *comeback) busy(ctx context.Context) ([]part, error) {
	if _, _, err := c.missed(ctx); err != nil {
		return nil, err
	}
	x := row{requestSet, 16, 1, c.o.value}
	alone, err := load(ctx, c.run, x, c.o)
	if err != nil {
		return nil, err
	}
	begin, err := c.active.status(ctx)
	if err != nil {
		return nil, err
	}
	type loaded struct {
		sample
		err error
	}
	done := make(chan loaded, 1)
	go func() {
		s, err := load(ctx, c.run, x, c.o)
		done <- loaded{s, err}
	}()
	seen, err := c.back(ctx, func(s admin.NodeStatus) bool { return s.Durable.LSN >= begin.End.LSN })
	with := <-done
	if err := errors.Join(err, with.err); err != nil {
		return nil, err
	}
	took := seen[len(seen)-1].at.Sub(seen[0].at).Seconds()
	return []part{
		{"SET of 16 clients, the standby away", alone.PerSecond, "operations/s"},
		{"SET of 16 clients while it catches up", with.PerSecond, "operations/s"},
		{"what they keep", with.PerSecond / alone.PerSecond, "×"},
		{"catch-up meanwhile: durable", rate(seen, durableOf), "records/s"},
		{"catch-up meanwhile: time until it had all that was missed (the clients wrote for a set time)", took, "s"},
	}, nil
}

// blank has the standby lose its disk.
func (c *comeback) blank(ctx context.Context) ([]part, error) {
	c.run.halt(c.away)
	if err := os.RemoveAll(c.away.data); err != nil {
		return nil, err
	}
	end, err := c.active.status(ctx)
	if err != nil {
		return nil, err
	}
	net := loopbackBytes()
	seen, err := c.back(ctx, func(s admin.NodeStatus) bool { return s.Applied.LSN >= end.End.LSN })
	if err != nil {
		return nil, err
	}
	net = loopbackBytes() - net
	// From the first sight of the node until its state is there: what a snapshot takes with the making and the opening of it.
	took := seen[len(seen)-1].at.Sub(seen[0].at).Seconds()
	return []part{
		{"seeding by a snapshot: sent", float64(net) / 1e6, "MB"},
		{"seeding by a snapshot: from the start of the blank node until it serves", took, "s"},
		{"seeding by a snapshot: bandwidth over that time", float64(net) / 1e6 / took, "MB/s"},
	}, nil
}

// diskRates writes a file of new blocks and then over it, in MB/s.
func diskRates(dir string) (fresh, again float64, err error) {
	const size, piece = 512 << 20, 1 << 20
	f, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	b := make([]byte, piece)
	var rates [2]float64
	for i := range rates {
		start := time.Now()
		for at := int64(0); at < size; at += piece {
			if _, err := f.WriteAt(b, at); err != nil {
				return 0, 0, err
			}
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		rates[i] = size / 1e6 / time.Since(start).Seconds()
	}
	return rates[0], rates[1], nil
}

// loopbackBytes are all that the loopback device has carried: clients use unix sockets, so that between two moments it is what nodes sent each other.
func loopbackBytes() int64 {
	text, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "lo:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n
			}
		}
	}
	return 0
}
