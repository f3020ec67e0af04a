package main

import (
	"fmt"
	"os"
	"strings"
)

// redisCluster is a master, two replicas and three sentinels (down-after 1000 ms).
type redisCluster struct{ m *machines }

func startSentinel(_ options, m *machines) (cluster, error) {
	c := &redisCluster{m}
	for i := range machineCount {
		args := []string{"redis-server", "--port", fmt.Sprint(m.port(i, 6379)), "--bind", m.addr(i), "--protected-mode", "no", "--unixsocket", c.socket(i),
			"--dir", m.dir, "--dbfilename", fmt.Sprintf("r%d.rdb", i), "--appendonly", "yes", "--appendfsync", "always", "--appenddirname", fmt.Sprintf("aof%d", i), "--save", ""}
		if i > 0 {
			args = append(args, "--replicaof", m.addr(0), fmt.Sprint(m.port(0, 6379)))
		}
		if err := m.start(c.process(i), i, args...); err != nil {
			return nil, err
		}
		conf := fmt.Sprintf("port %d\nbind %s\nprotected-mode no\ndir %s\nsentinel monitor m %s %d 2\nsentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 3000\n",
			m.port(i, 26379), m.addr(i), m.dir, m.addr(0), m.port(0, 6379))
		file := m.path(fmt.Sprintf("sentinel%d.conf", i))
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return nil, err
		}
		if err := m.start(fmt.Sprintf("sentinel%d", i), i, "redis-server", file, "--sentinel"); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *redisCluster) socket(i int) string      { return c.m.path(fmt.Sprintf("r%d.sock", i)) }
func (c *redisCluster) process(i int) string     { return fmt.Sprintf("redis%d", i) }
func (c *redisCluster) dial(i int) (conn, error) { return dialRedis(c.socket(i), opTimeout, true) }
func (c *redisCluster) switchover() error        { return fmt.Errorf("not measured") }

func (c *redisCluster) info(i int) (string, error) {
	x, err := dialRedis(c.socket(i), opTimeout, false)
	if err != nil {
		return "", err
	}
	defer x.close()
	return x.(*redisConn).do("INFO replication")
}

// active is the master with replicas: a returning one says that it is a master until it is told otherwise.
func (c *redisCluster) active() (int, error) {
	for i := range machineCount {
		s, err := c.info(i)
		if err == nil && strings.Contains(s, "role:master") && !strings.Contains(s, "connected_slaves:0") && strings.Contains(s, "state=online") && !c.stale(s) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no master has replicas")
}

// stale: a cut-off master lists its replicas until their time-out; they have not acked for a while then.
func (c *redisCluster) stale(s string) bool {
	for _, line := range strings.Split(s, "\n") {
		if strings.HasPrefix(line, "slave") && strings.Contains(line, "lag=") && (strings.Contains(line, "lag=0") || strings.Contains(line, "lag=1")) {
			return false
		}
	}
	return true
}

func (c *redisCluster) healthy() error {
	a, err := c.active()
	if err != nil {
		return err
	}
	s, err := c.info(a)
	if err != nil || strings.Count(s, "state=online") < 2 {
		return fmt.Errorf("fewer than two replicas: %w", err)
	}
	for i := range machineCount {
		if err := c.sentinelReady(i); err != nil {
			return fmt.Errorf("sentinel %d: %w", i, err)
		}
	}
	return nil
}

// sentinelReady: a sentinel hears of replicas and of the other sentinels seconds after it began; before that nobody would be promoted at all.
func (c *redisCluster) sentinelReady(i int) error {
	x, err := dialRedisAt("tcp", c.m.hostport(i, 26379), opTimeout, false)
	if err != nil {
		return err
	}
	defer x.close()
	s, err := x.do("INFO sentinel")
	if err == nil && !(strings.Contains(s, "status=ok,") && strings.Contains(s, "slaves=2,sentinels=3")) {
		err = fmt.Errorf("does not know all replicas and sentinels: %q", s)
	}
	return err
}

// etcdCluster is three members with etcd's defaults.
type etcdCluster struct{ m *machines }

func startEtcd(_ options, m *machines) (cluster, error) {
	c := &etcdCluster{m}
	var initial []string
	for i := range machineCount {
		initial = append(initial, fmt.Sprintf("e%d=http://%s", i, m.hostport(i, 2380)))
	}
	for i := range machineCount {
		err := m.start(c.process(i), i, "etcd", "--name", fmt.Sprintf("e%d", i), "--data-dir", m.path(fmt.Sprintf("etcd%d", i)), "--log-level", "error",
			"--listen-client-urls", c.url(i), "--advertise-client-urls", c.url(i), "--listen-peer-urls", "http://"+m.hostport(i, 2380),
			"--initial-advertise-peer-urls", "http://"+m.hostport(i, 2380), "--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", m.prefix)
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *etcdCluster) url(i int) string         { return "http://" + c.m.hostport(i, 2379) }
func (c *etcdCluster) process(i int) string     { return fmt.Sprintf("etcd%d", i) }
func (c *etcdCluster) dial(i int) (conn, error) { return dialEtcd(c.url(i)) }
func (c *etcdCluster) switchover() error        { return fmt.Errorf("not measured") }

func (c *etcdCluster) active() (int, error) {
	for i := range machineCount {
		x, err := c.dial(i)
		if err != nil {
			continue
		}
		leads, err := x.(*etcdConn).leader()
		x.close()
		if err == nil && leads {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no member leads")
}

func (c *etcdCluster) healthy() error {
	leaders := 0
	for i := range machineCount {
		x, err := c.dial(i)
		if err != nil {
			return err
		}
		leads, err := x.(*etcdConn).leader()
		x.close()
		if err != nil {
			return err
		}
		if leads {
			leaders++
		}
	}
	if leaders != 1 {
		return fmt.Errorf("%d leaders", leaders)
	}
	return nil
}
