package main

import (
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	tidwall "github.com/tidwall/wal"
	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"repld/wal"
)

func openRepld(dir string) (func([]byte) error, func() error, error) {
	log, _, err := wal.Open(wal.Options{Dir: dir, Identity: wal.Identity{Cluster: "bench", Group: "default", Incarnation: [16]byte{1}}})
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	var durable wal.LSN
	raise := func(n wal.LSN) {
		mu.Lock()
		durable = n
		mu.Unlock()
		cond.Broadcast()
	}
	w, err := log.NewWriter(wal.WriterOptions{Epoch: 1, OnDurable: func(p wal.Position) { raise(p.LSN) }, OnError: func(error) { raise(^wal.LSN(0)) }})
	if err != nil {
		return nil, nil, err
	}
	write := func(payload []byte) error {
		lsn, err := w.Append(wal.KindEffects, payload)
		if err != nil {
			return err
		}
		mu.Lock()
		for durable < lsn {
			cond.Wait()
		}
		mu.Unlock()
		return log.Failed()
	}
	return write, func() error { w.Close(); return log.Close() }, nil
}

// gatherer makes one writer of many callers.
type gatherer struct {
	mu    sync.Mutex
	more  *sync.Cond
	batch *batch
	over  bool
}

type batch struct {
	payloads [][]byte
	done     chan struct{}
	err      error
}

// gather calls write, on one goroutine, with all payloads that have come meanwhile.
func gather(write func([][]byte) error, end func() error) (func([]byte) error, func() error, error) {
	g := &gatherer{batch: &batch{done: make(chan struct{})}}
	g.more = sync.NewCond(&g.mu)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			g.mu.Lock()
			for len(g.batch.payloads) == 0 && !g.over {
				g.more.Wait()
			}
			b, over := g.batch, g.over
			g.batch = &batch{done: make(chan struct{})}
			g.mu.Unlock()
			if len(b.payloads) == 0 && over {
				return
			}
			b.err = write(b.payloads)
			close(b.done)
		}
	})
	one := func(payload []byte) error {
		g.mu.Lock()
		b := g.batch
		b.payloads = append(b.payloads, payload)
		if len(b.payloads) == 1 {
			g.more.Signal()
		}
		g.mu.Unlock()
		<-b.done
		return b.err
	}
	return one, func() error {
		g.mu.Lock()
		g.over = true
		g.mu.Unlock()
		g.more.Signal()
		wg.Wait()
		return end()
	}, nil
}

func openRaftWAL(dir string) (func([]byte) error, func() error, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	w, err := raftwal.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	index := uint64(0)
	return gather(func(all [][]byte) error {
		logs := make([]*raft.Log, len(all))
		for i, p := range all {
			index++
			logs[i] = &raft.Log{Index: index, Term: 1, Data: p}
		}
		return w.StoreLogs(logs)
	}, w.Close)
}

func openTidwall(dir string) (func([]byte) error, func() error, error) {
	w, err := tidwall.Open(dir, nil)
	if err != nil {
		return nil, nil, err
	}
	index := uint64(0)
	b := new(tidwall.Batch)
	return gather(func(all [][]byte) error {
		b.Clear()
		for _, p := range all {
			index++
			b.Write(index, p)
		}
		return w.WriteBatch(b)
	}, w.Close)
}

func openEtcd(dir string) (func([]byte) error, func() error, error) {
	w, err := etcdwal.Create(zap.NewNop(), dir, nil)
	if err != nil {
		return nil, nil, err
	}
	index := uint64(0)
	return gather(func(all [][]byte) error {
		entries := make([]*raftpb.Entry, len(all))
		for i, p := range all {
			index++
			entries[i] = &raftpb.Entry{Index: new(index), Term: new(uint64(1)), Data: p}
		}
		return w.Save(&raftpb.HardState{Term: new(uint64(1)), Commit: new(index)}, entries)
	}, w.Close)
}

func openPebble(dir string) (func([]byte) error, func() error, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return nil, nil, err
	}
	var n atomic.Uint64
	return func(payload []byte) error {
		return db.Set(binary.BigEndian.AppendUint64(nil, n.Add(1)), payload, pebble.Sync)
	}, db.Close, nil
}

// quiet keeps Pebble's messages to itself.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(format)
}
