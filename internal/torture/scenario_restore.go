package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/internal/admin"
	"repld/wal"
)

func restoreScenario() scenario {
	return scenario{
		name: "restore", share: 3, kills: true, rows: []string{"P1", "P2", "D23"},
		about: "backups and the archived log while the nodes that make them and the object store are killed; all nodes wiped; restored to an LSN, to a time and to the end by processes that are killed, too",
		needs: func(o Options) string {
			if _, err := os.Stat(beside(o, "replctl")); err != nil {
				return "there is no replctl beside repld"
			}
			return ""
		},
		run: runRestore,
	}
}

// beside is a program in repld's folder.
func beside(o Options, name string) string { return filepath.Join(filepath.Dir(o.Repld), name) }

// copies is what the scenario knows beyond a play.
type copies struct {
	*play
	store   *store
	cluster string // of the present nodes
	round   int
	marks   []mark
	took    time.Duration // of a restore that was left alone
	writer  *writer

	backupKills, storeKills, restoreKills, restores int
}

// mark is a moment at which nothing was being written, and the digest of the active's state then.
type mark struct {
	at     wal.Position
	time   time.Time
	digest wal.Hash
}

// runRestore: each round ends with a cluster of another name, made from the archive of the one before.
func runRestore(_ context.Context, p *play) error {
	c := &copies{play: p, cluster: "shop-0", took: time.Second}
	var err error
	if c.store, err = newStore(p); err != nil {
		return err
	}
	data := filepath.Join(p.dir, "a-0")
	for p.more() {
		c.round = p.row.Rounds
		if err := c.live(data); err != nil {
			return fmt.Errorf("round %d, cluster %s: %w", c.round, c.cluster, err)
		}
		next := fmt.Sprintf("shop-%d", c.round)
		if data, err = c.back(next); err != nil {
			return fmt.Errorf("round %d, restore of %s: %w", c.round, c.cluster, err)
		}
		c.cluster = next
	}
	p.note("kill -9: %d of nodes making a backup, %d of the object store (%s), %d of restoring processes; %d restores had the digest that was recorded at their moment", c.backupKills, c.storeKills, c.store.kind(), c.restoreKills,
		c.restores)
	return nil
}

// live runs a cluster for a round: data that comes in, two backups, and marks to come back to. At its end all nodes are killed and their directories gone.
func (c *copies) live(data string) error {
	c.env = map[string][]string{}
	for _, n := range []string{"a", "b", "c"} {
		c.env[n] = storeEnv
	}
	l := layout{nodes: []string{"a", "b", "c"}, k: 1, cluster: c.cluster, data: map[string]string{"a": data},
		more: fmt.Sprintf("archive: {url: %q, interval: 200ms, role: any}\ncheckpoints: {every: 2s}\n", c.store.url)}
	dir := filepath.Join(c.dir, c.cluster)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	outer := c.dir
	c.dir = dir
	err := c.build(l)
	c.dir = outer
	if err != nil {
		return err
	}
	c.marks = nil
	if err := c.write(1500); err != nil {
		return err
	}
	if err := c.backup(false); err != nil {
		return err
	}
	if err := c.mark(); err != nil {
		return err
	}
	for range 2 {
		c.begin()
		err := c.backup(true)
		c.quiet()
		if err != nil {
			return err
		}
		if err := c.mark(); err != nil {
			return err
		}
	}
	last := c.marks[len(c.marks)-1].at.LSN
	err = c.until(90*time.Second, "the log is archived", func() error {
		s, err := c.active.status(c.ctx)
		if err == nil && (s.Archive == nil || s.Archive.Archived.LSN < last) {
			err = fmt.Errorf("want LSN %d, have %+v", last, s.Archive)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, n := range c.fleet.nodes {
		c.kill(n)
	}
	if err := c.fleet.close(); err != nil {
		return err
	}
	for _, n := range c.fleet.nodes {
		if err := os.RemoveAll(n.data); err != nil {
			return err
		}
	}
	return nil
}

// write has the active take n writes; those that are answered with an error may have come too.
func (c *copies) write(n int) error {
	for n > 0 && c.ctx.Err() == nil {
		done, err := batch(c.ctx, c.rnd, c.active)
		n -= done
		c.row.Acked += done
		if err != nil {
			c.pause(10 * time.Millisecond)
		}
	}
	return c.ctx.Err()
}

// batch sends some writes and returns how many were acked.
func batch(ctx context.Context, rnd *rand.Rand, n *node) (acked int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pipe := n.redis.Pipeline()
	value := make([]byte, 300)
	for i := range value {
		value[i] = byte('a' + rnd.IntN(26))
	}
	var answers []redis.Cmder
	for range 50 {
		key := fmt.Sprintf("key:%d", rnd.IntN(4000))
		switch rnd.IntN(10) {
		case 0:
			answers = append(answers, pipe.Del(ctx, key))
		case 1:
			answers = append(answers, pipe.Incr(ctx, fmt.Sprintf("count:%d", rnd.IntN(50))))
		default:
			answers = append(answers, pipe.Set(ctx, key, value, 0))
		}
	}
	_, err = pipe.Exec(ctx)
	for _, a := range answers {
		if a.Err() == nil {
			acked++
		}
	}
	return acked, err
}

// writer writes in the background, to whoever is the active.
type writer struct {
	target atomic.Pointer[node]
	acked  atomic.Int64
	cancel context.CancelFunc
	done   chan struct{}
}

// begin begins to write.
func (c *copies) begin() {
	w := &writer{done: make(chan struct{})}
	w.target.Store(c.active)
	ctx, cancel := context.WithCancel(c.ctx)
	w.cancel = cancel
	rnd := rand.New(rand.NewPCG(c.rnd.Uint64(), 1))
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			n, err := batch(ctx, rnd, w.target.Load())
			w.acked.Add(int64(n))
			wait := 2 * time.Millisecond
			if err != nil {
				wait = 20 * time.Millisecond
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}()
	c.writer = w
}

// quiet ends writing.
func (c *copies) quiet() {
	c.writer.cancel()
	<-c.writer.done
	c.row.Acked += int(c.writer.acked.Load())
}

// mark notes the digest at this moment. Nothing is being written; what was, and got no answer, is decided before the mark in the log.
func (c *copies) mark() error {
	var m mark
	err := c.until(60*time.Second, "a digest", func() error {
		ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
		defer cancel()
		v, err := c.active.admin.Verify(ctx, admin.VerifyRequest{}, nil)
		if err != nil {
			return err
		}
		for _, n := range v.Nodes {
			if n.Node == c.active.name && n.Error == "" {
				m = mark{at: n.Position, digest: n.Digest}
				return nil
			}
		}
		return fmt.Errorf("no digest of %s: %+v", c.active.name, v)
	})
	c.pause(2 * time.Millisecond)
	m.time = time.Now()
	c.pause(2 * time.Millisecond)
	c.marks = append(c.marks, m)
	return err
}

// backup makes one from a random node. With faults, the node that makes it, or the object store, is killed on the way; then it is made again.
func (c *copies) backup(faults bool) error {
	n := c.fleet.nodes[c.fleet.order[c.rnd.IntN(len(c.fleet.order))]]
	victim, after := 0, c.upTo(400*time.Millisecond)
	if faults {
		victim = 1 + c.rnd.IntN(2)
	}
	made := make(chan error, 1)
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	go func() {
		_, err := n.admin.Backup(ctx, admin.BackupRequest{Note: "torture"}, nil)
		made <- err
	}()
	if victim > 0 {
		c.pause(after)
	}
	switch victim {
	case 1:
		c.kill(n)
		c.backupKills++
		if n == c.active {
			next := c.any(n)
			if err := c.promote(next); err != nil {
				return err
			}
			c.writer.target.Store(next)
		}
		if err := c.up(n); err != nil {
			return err
		}
		if err := c.caughtUp(); err != nil {
			return err
		}
	case 2:
		if err := c.killStore(); err != nil {
			return err
		}
	}
	if err := <-made; err == nil {
		return nil
	}
	return c.until(60*time.Second, "a backup", func() error {
		_, err := n.admin.Backup(ctx, admin.BackupRequest{Note: "torture, again"}, nil)
		return err
	})
}

// killStore kills the object store and starts it again a little later.
func (c *copies) killStore() error {
	if c.store.proc == nil {
		return nil // a folder
	}
	if c.store.proc.kill() {
		c.row.Kills++
		c.storeKills++
	}
	c.pause(c.upTo(300 * time.Millisecond))
	return c.store.start()
}
