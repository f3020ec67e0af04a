package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// kind is a request that is repeated.
type kind struct {
	name string
	wait bool // SET followed by WAIT 1 in the same write
	get  bool
}

var (
	kindSet     = kind{name: "SET"}
	kindSetWait = kind{name: "SET", wait: true}
	kindGet     = kind{name: "GET", get: true}
)

// waitCommand gives a replica a second; a WAIT that one replica did not answer is an error of the measurement.
const waitCommand = "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n"

const keyBytes = 16

// request is a pre-encoded command in which only the digits of the key and the value change.
type request struct {
	buf        []byte
	key, value []byte // parts of buf
	reply      []byte // what a SET answers, all of it
	kind       kind
}

func newRequest(k kind, valueBytes int) *request {
	r := &request{kind: k}
	key := bytes.Repeat([]byte("0"), keyBytes)
	copy(key, "key:")
	if k.get {
		r.buf = fmt.Appendf(nil, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", keyBytes, key)
		r.key = r.buf[len(r.buf)-keyBytes-2:][:keyBytes]
		return r
	}
	head := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$%d\r\n", keyBytes)
	size := fmt.Sprintf("\r\n$%d\r\n", valueBytes)
	r.buf = append(r.buf, head+string(key)+size...)
	at := len(r.buf)
	r.buf = append(append(r.buf, bytes.Repeat([]byte("x"), valueBytes)...), "\r\n"...)
	r.reply = []byte("+OK\r\n")
	if k.wait {
		r.buf = append(r.buf, waitCommand...)
		r.reply = []byte("+OK\r\n:1\r\n")
	}
	r.key, r.value = r.buf[len(head):][:keyBytes], r.buf[at:][:valueBytes]
	return r
}

// next puts another key and another value into the request: the first half of the value is random, the rest compresses.
func (r *request) next(rng *rand.Rand, keys int) {
	r.setKey(rng.IntN(keys))
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	for i := 0; i < len(r.value)/2; {
		for bits := rng.Uint64(); bits != 0 && i < len(r.value)/2; bits >>= 6 {
			r.value[i] = digits[bits&63]
			i++
		}
	}
}

func (r *request) setKey(n int) {
	for i := keyBytes - 1; i >= 4; i-- {
		r.key[i] = byte('0' + n%10)
		n /= 10
	}
}

// conn is one client: a socket and a buffer for answers.
type conn struct {
	net.Conn
	buf  []byte
	from int
	to   int
}

func dial(path string) (*conn, error) {
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, buf: make([]byte, 64<<10)}, nil
}

// errReply is an answer that the load does not expect.
var errReply = errors.New("unexpected answer")

// take returns n bytes of answers, valid until the next call.
func (c *conn) take(n int) ([]byte, error) {
	for c.to-c.from < n {
		if c.from > 0 {
			copy(c.buf, c.buf[c.from:c.to])
			c.from, c.to = 0, c.to-c.from
		}
		got, err := c.Read(c.buf[c.to:])
		if err != nil {
			return nil, err
		}
		c.to += got
	}
	b := c.buf[c.from : c.from+n]
	c.from += n
	return b, nil
}

// answer reads one answer. GET answers are a bulk of valueBytes or the nil bulk.
func (c *conn) answer(r *request, valueBytes int) error {
	if !r.kind.get {
		b, err := c.take(len(r.reply))
		if err == nil && !bytes.Equal(b, r.reply) {
			err = fmt.Errorf("%w: %q", errReply, b)
		}
		return err
	}
	b, err := c.take(5)
	if err != nil {
		return err
	}
	if string(b) == "$-1\r\n" || string(b) == "_\r\n" {
		return fmt.Errorf("%w: a key is missing that was written before", errReply)
	}
	head := len(fmt.Sprint(valueBytes)) + 3
	if b[0] != '$' {
		return fmt.Errorf("%w: %q", errReply, b)
	}
	_, err = c.take(head + valueBytes + 2 - 5)
	return err
}

// sample is one measurement.
type sample struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// load runs clients in a closed loop for so long and returns what was answered in that time.
func load(ctx context.Context, socket string, k kind, clients int, o options) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	length := time.Duration(o.seconds * float64(time.Second))
	each := make([][]uint32, clients)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	var end time.Time
	for i := range clients {
		c, err := dial(socket)
		if err != nil {
			return sample{}, err
		}
		defer c.Close()
		ready.Add(1)
		done.Go(func() {
			r := newRequest(k, o.value)
			rng := rand.New(rand.NewPCG(uint64(i), 1)) // the same load for every system
			ready.Done()
			<-begin
			var err error
			if each[i], err = c.loop(r, rng, o, end); err != nil {
				cancel(err)
			}
		})
	}
	ready.Wait()
	start := time.Now()
	end = start.Add(length)
	close(begin)
	done.Wait()
	if err := context.Cause(ctx); err != nil {
		return sample{}, err
	}
	all := slices.Concat(each...)
	if len(all) == 0 {
		return sample{}, errors.New("nothing was answered")
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return time.Duration(all[int(q*float64(len(all)-1))]) }
	return sample{PerSecond: float64(len(all)) / time.Since(start).Seconds(), P50: at(0.50), P99: at(0.99)}, nil
}

// loop returns the latency of each request in nanoseconds, cut at 4 s.
func (c *conn) loop(r *request, rng *rand.Rand, o options, end time.Time) ([]uint32, error) {
	out := make([]uint32, 0, 1<<16)
	// A server that hangs is an error, not a hanging benchmark.
	if err := c.SetDeadline(end.Add(20 * time.Second)); err != nil {
		return nil, err
	}
	for now := time.Now(); now.Before(end); {
		r.next(rng, o.keys)
		if _, err := c.Write(r.buf); err != nil {
			return nil, err
		}
		if err := c.answer(r, o.value); err != nil {
			return nil, err
		}
		after := time.Now()
		out = append(out, uint32(min(after.Sub(now), 4*time.Second)))
		now = after
	}
	return out, nil
}

// fill writes every key once, in large pipelines.
func fill(ctx context.Context, socket string, o options) error {
	const workers, depth = 4, 256
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		c, err := dial(socket)
		if err != nil {
			return err
		}
		defer c.Close()
		wg.Go(func() { errs[w] = c.fill(ctx, w, workers, depth, o) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *conn) fill(ctx context.Context, first, step, depth int, o options) error {
	r := newRequest(kindSet, o.value)
	rng := rand.New(rand.NewPCG(uint64(first), 2))
	var batch []byte
	sent := 0
	flush := func() error {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := c.Write(batch); err != nil {
			return err
		}
		for ; sent > 0; sent-- {
			if err := c.answer(r, o.value); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return ctx.Err()
	}
	for n := first; n < o.keys; n += step {
		r.next(rng, o.keys)
		r.setKey(n)
		batch = append(batch, r.buf...)
		if sent++; sent == depth {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
