package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// startEtcd starts three members with etcd's defaults. Clients speak to the leader, each through a connection of its own.
func startEtcd(ctx context.Context, o options, dir string) (*running, error) {
	run := &running{}
	ports, err := freePorts(6)
	if err != nil {
		return run, err
	}
	url := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", ports[i]) }
	var cluster, clients []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("e%d=%s", i, url(3+i)))
		clients = append(clients, url(i))
	}
	for i := range 3 {
		name := fmt.Sprintf("e%d", i)
		p, err := start("etcd "+name, filepath.Join(o.dir, name+".log"), o.program("etcd"), "--name", name, "--data-dir", filepath.Join(dir, name), "--log-level", "error",
			"--listen-client-urls", url(i), "--advertise-client-urls", url(i), "--listen-peer-urls", url(3+i), "--initial-advertise-peer-urls", url(3+i),
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new", "--quota-backend-bytes", fmt.Sprint(8<<30))
		if err != nil {
			return run, err
		}
		run.all = append(run.all, p)
	}
	var leader string
	err = poll(ctx, run, func(ctx context.Context) bool {
		for _, u := range clients {
			if leads(ctx, u) {
				leader = u
			}
		}
		return leader != ""
	})
	run.open = func(ctx context.Context, x row, w *work) (caller, error) { return dialEtcd(ctx, leader, x.get(), w) }
	run.fill = func(ctx context.Context, o options) error { return fillEtcd(ctx, leader, o) }
	return run, err
}

func leads(ctx context.Context, url string) bool {
	c, err := newEtcdClient(url)
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := c.Status(ctx, url)
	return err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId
}

func newEtcdClient(url string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{url}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// etcdCaller is one client; gets are linearizable, as etcd's are by default.
type etcdCaller struct {
	c   *clientv3.Client
	get bool
	w   *work
	end time.Time
}

func dialEtcd(ctx context.Context, url string, get bool, w *work) (caller, error) {
	c, err := newEtcdClient(url)
	if err != nil {
		return nil, err
	}
	// Connections are made by the first request: that is not measured.
	if _, err := c.Get(ctx, "none"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &etcdCaller{c: c, get: get, w: w}, nil
}

func (e *etcdCaller) bound(t time.Time) error { e.end = t; return nil }
func (e *etcdCaller) close()                  { e.c.Close() }

func (e *etcdCaller) call(ctx context.Context, n int) error {
	ctx, cancel := context.WithDeadline(ctx, e.end)
	defer cancel()
	for range n {
		e.w.next()
		if !e.get {
			if _, err := e.c.Put(ctx, string(e.w.key), string(e.w.value)); err != nil {
				return err
			}
			continue
		}
		got, err := e.c.Get(ctx, string(e.w.key))
		if err == nil && len(got.Kvs) != 1 {
			err = fmt.Errorf("%w: a key is missing that was written before", errReply)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fillEtcd writes as many keys in one transaction as etcd allows by default.
func fillEtcd(ctx context.Context, url string, o options) error {
	const most = 128
	c, err := newEtcdClient(url)
	if err != nil {
		return err
	}
	defer c.Close()
	w := newWork(1e6, o.keys, o.value)
	for n := 0; n < o.keys; {
		var ops []clientv3.Op
		for ; n < o.keys && len(ops) < most; n++ {
			w.setKey(n)
			w.setValue()
			ops = append(ops, clientv3.OpPut(string(w.key), string(w.value)))
		}
		if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}
