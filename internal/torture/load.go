package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/test/history"
	"repld/wal"
)

// Shape of the load.
const (
	clients    = 12
	perKey     = 6   // clients that share the keys of registers; porcupine bears 8
	opsPerKey  = 240 // then the group goes on to a new key
	opTimeout  = 8 * time.Second
	accounts   = 24 // keys of transactions
	retryPause = 5 * time.Millisecond
)

// load is concurrent clients that write to one node at a time, read, and remember what they saw.
type load struct {
	tag    string // of all keys
	reads  bool   // whether reads have to be linearizable: not through a node that may be cut off, while there is no lease (R14)
	pace   time.Duration
	began  time.Time // of the play: all loads have one clock
	target atomic.Pointer[node]
	stopIt context.CancelFunc
	wg     sync.WaitGroup

	ledger    history.Ledger
	registers history.Registers
	order     history.Order
	tenures   *history.Tenures // of all loads: clients that stay at an old active are loads of their own
	acked     atomic.Int64     // commands of all kinds
	groupOps  [clients/perKey + 1]atomic.Int64

	mu      sync.Mutex
	moved   chan struct{}      // closed at the next move
	lastLSN map[string]wal.LSN // highest LSN that a node acked to us
}

func (p *play) startLoad(tag string, n int, reads bool, target *node) *load {
	seed := p.rnd.Uint64()
	ctx, cancel := context.WithCancel(p.ctx)
	l := &load{tag: tag, reads: reads, pace: p.o.Pace, began: p.start, tenures: &p.tenures, stopIt: cancel, moved: make(chan struct{}), lastLSN: map[string]wal.LSN{}}
	l.target.Store(target)
	for i := range n {
		c := &client{l: l, id: i, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
		l.wg.Go(func() { c.run(ctx) })
	}
	p.loads = append(p.loads, l)
	return l
}

// move sends the clients to another node. Commands that the old one does not answer soon are given up, with an unknown outcome.
func (l *load) move(to *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target.Swap(to) == to {
		return
	}
	close(l.moved)
	l.moved = make(chan struct{})
}

// where is the node to use, and what is closed when it is another one.
func (l *load) where() (*node, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target.Load(), l.moved
}

// stop ends the clients after their present command.
func (l *load) stop() {
	if l == nil {
		return
	}
	l.stopIt()
	l.wg.Wait()
}

func (l *load) now() int64 { return int64(time.Since(l.began)) }

// highest is the highest LSN that a node acked to the clients.
func (l *load) highest(name string) wal.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastLSN[name]
}

func (l *load) sawLSN(name string, lsn wal.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastLSN[name] = max(l.lastLSN[name], lsn)
}

// client is one of them. Its goroutine owns it.
type client struct {
	l   *load
	id  int
	n   int // commands so far
	rnd *rand.Rand
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		to, moved := c.l.where()
		conn := redis.NewClient(clientOptions(to.client, opTimeout))
		done := make(chan struct{})
		go giveUp(conn, moved, done)
		for ctx.Err() == nil && c.l.target.Load() == to {
			if c.one(conn, to) != history.OK {
				break
			}
			time.Sleep(c.l.pace)
		}
		close(done)
		_ = conn.Close()
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

// patience is how long a client waits for a node that it should leave.
const patience = 200 * time.Millisecond

// giveUp closes a connection some time after its client should have moved.
func giveUp(conn *redis.Client, moved, done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-moved:
	}
	select {
	case <-done:
	case <-time.After(patience):
		_ = conn.Close()
	}
}

// one does one thing. A command that was begun is waited for, so that its outcome is known as well as it can be.
func (c *client) one(conn *redis.Client, to *node) history.Outcome {
	c.n++
	var out history.Outcome
	switch x := c.rnd.IntN(100); {
	case x < 50:
		out = c.write(conn, to)
	case x < 75:
		out = c.register(conn)
	default:
		out = c.transaction(conn, to)
	}
	if out == history.OK {
		c.l.acked.Add(1)
	}
	return out
}

// write puts one more key into the ledger.
func (c *client) write(conn *redis.Client, to *node) history.Outcome {
	key := fmt.Sprintf("w:%s:%d:%d", c.l.tag, c.id, c.n)
	call := c.l.now()
	out := history.OutcomeOf(conn.Set(context.Background(), key, key, 0).Err())
	c.l.ledger.Add(key, to.name, out)
	if out == history.OK {
		c.l.tenures.Add(key, to.name, call, c.l.now())
	}
	return out
}

// register does an operation on a key that other clients use too.
func (c *client) register(conn *redis.Client) history.Outcome {
	group := c.id / perKey
	page := c.l.groupOps[group].Add(1) / opsPerKey
	op := history.Op{Client: c.id, Kind: history.Kind(c.rnd.IntN(6)), Arg: fmt.Sprintf("%d.%d", c.id, c.n)}
	op.Key = fmt.Sprintf("r:%s:%d:%d", c.l.tag, group, page)
	if op.Kind == history.Incr || c.rnd.IntN(8) == 0 {
		op.Key += ":n" // numbers have keys of their own
		op.Kind = []history.Kind{history.Incr, history.Incr, history.Get, history.Del}[c.rnd.IntN(4)]
	}
	if op.Kind == history.Get && !c.l.reads {
		op.Kind = history.Set
		if op.Key[len(op.Key)-1] == 'n' {
			op.Kind = history.Incr
		}
	}
	ctx := context.Background()
	op.Call = c.l.now()
	var err error
	switch op.Kind {
	case history.Get:
		op.Reply, err = conn.Get(ctx, op.Key).Result()
		op.Found = err == nil
	case history.Set:
		err = conn.Set(ctx, op.Key, op.Arg, 0).Err()
	case history.GetSet:
		op.Reply, err = conn.SetArgs(ctx, op.Key, op.Arg, redis.SetArgs{Get: true}).Result()
		op.Found = err == nil
	case history.SetNX:
		var v any
		v, err = conn.Do(ctx, "setnx", op.Key, op.Arg).Result()
		op.Reply = fmt.Sprint(v)
	case history.Del:
		var n int64
		n, err = conn.Del(ctx, op.Key).Result()
		op.Reply = strconv.FormatInt(n, 10)
	case history.Incr:
		var n int64
		n, err = conn.Incr(ctx, op.Key).Result()
		op.Reply = strconv.FormatInt(n, 10)
	}
	op.Return = c.l.now()
	op.Outcome = history.OutcomeOf(err)
	c.l.registers.Add(op)
	return op.Outcome
}

// transaction does several things at once and asks for the LSN.
func (c *client) transaction(conn *redis.Client, to *node) history.Outcome {
	t := &history.Tx{Token: fmt.Sprintf("%s/%d/%d", c.l.tag, c.id, c.n), Where: to.name}
	key := func() string { return fmt.Sprintf("t:%s:%d", c.l.tag, c.rnd.IntN(accounts)) }
	val := func(i int) string { return fmt.Sprintf("%s|%d", t.Token, i) }
	a, b := key(), key()
	multi := true
	switch c.rnd.IntN(4) {
	case 0:
		multi, t.Cmds = false, [][]string{{"mset", a, val(1), b, val(2)}}
	case 1:
		multi, t.Cmds = false, [][]string{{"msetnx", a + ":x", val(1), b + ":x", val(2)}}
	case 2:
		t.Cmds = [][]string{{"get", a}, {"set", a, val(1)}, {"incr", a + ":n"}, {"mget", a, b, a + ":x"}, {"set", b, val(2)}}
	case 3:
		t.Cmds = [][]string{{"del", a + ":x", b + ":x"}, {"set", a, val(1)}, {"mget", a, b, b + ":n"}}
	}
	pipe := conn.Pipeline()
	ctx := context.Background()
	if multi {
		pipe.Do(ctx, "multi")
	}
	var last *redis.Cmd
	for _, cmd := range t.Cmds {
		args := make([]any, len(cmd))
		for i, x := range cmd {
			args[i] = x
		}
		last = pipe.Do(ctx, args...)
	}
	if multi {
		last = pipe.Do(ctx, "exec")
	}
	lsn := pipe.Do(ctx, "debug", "lastlsn")
	t.Call = c.l.now()
	_, _ = pipe.Exec(ctx) // each command has its own error
	t.Return = c.l.now()
	v, err := last.Result()
	t.Outcome = history.OutcomeOf(err)
	if t.Outcome == history.OK {
		if list, ok := v.([]any); ok && multi {
			for _, x := range list {
				t.Replies = append(t.Replies, history.Reply(x))
			}
		} else {
			t.Replies = []string{history.Reply(v)}
		}
		if where, err := lsn.Slice(); err == nil && len(where) == 2 {
			t.LSN, t.Own = wal.LSN(where[0].(int64)), where[1] == int64(1)
			c.l.sawLSN(to.name, t.LSN)
		}
	}
	c.l.order.Add(t)
	return t.Outcome
}
