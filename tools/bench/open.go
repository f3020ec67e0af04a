package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// phase is a time in which requests arrive at one rate, all connections together.
type phase struct {
	rate   float64 // requests a second
	length time.Duration
}

// openLoad is an open loop: requests arrive at a set rate (a Poisson process on each connection) whatever the server does, and latency counts from the moment a request was due, so that a server that
// stands still is charged for all who would have come meanwhile.
type openLoad struct {
	conns    int
	phases   []phase
	under    int           // requests of a connection that may have no answer yet: then its sender waits, as it does when the socket is full
	patience time.Duration // a client whose request could not be handed to the socket for so long gives it up; 0: none does
	keys     int           // of each connection, which has its own
	value    int
}

// seen is one answered request: microseconds from the beginning until it was due, and from then until the answer.
type seen struct{ due, took uint32 }

// flow is what became of the requests of one connection, or of all.
type flow struct {
	accepted []seen
	unsent   [][2]int       // of each phase: due, and given up unsent
	refused  map[string]int // by the code of the error
	keys     []keyState
}

// keyState says which write of a key was accepted last, and which was sent last. The first is 1.
type keyState struct{ accepted, sent uint32 }

// sent is a request under way.
type sent struct {
	due time.Duration
	key int
	seq uint32
	// last says that a WAIT for this request and those before it follows.
	last bool
}

// run drives all connections and returns what became of each one's requests.
func (l openLoad) run(ctx context.Context, r *running) ([]flow, error) {
	out := make([]flow, l.conns)
	var wg sync.WaitGroup
	errs := make([]error, 2*l.conns)
	begin := make(chan struct{})
	var start time.Time
	for i := range out {
		c, err := dialResp(r.socket)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		o := &openConn{respConn: c, load: l, wait: r.wait, out: &out[i], w: newWork(uint64(i), l.keys, l.value), first: i * l.keys, way: make(chan sent, l.under)}
		out[i] = flow{refused: map[string]int{}, keys: make([]keyState, l.keys), unsent: make([][2]int, len(l.phases))}
		wg.Go(func() { <-begin; errs[2*i] = o.send(ctx, start) })
		wg.Go(func() { <-begin; errs[2*i+1] = o.receive(start) })
	}
	start = time.Now()
	close(begin)
	wg.Wait()
	return out, errors.Join(errs...)
}

func (l openLoad) length() (d time.Duration) {
	for _, p := range l.phases {
		d += p.length
	}
	return d
}

// openConn is one connection. Its sender owns w and the sent of the keys, its receiver the rest of out.
type openConn struct {
	*respConn
	load  openLoad
	wait  bool
	w     *work
	first int // number of its first key
	way   chan sent
	held  sent // the newest request, of which the receiver has not been told
	out   *flow
	seqs  []uint32
}

func (c *openConn) send(ctx context.Context, start time.Time) error {
	defer close(c.way)
	if err := c.SetDeadline(start.Add(c.load.length() + 30*time.Second)); err != nil {
		return err
	}
	c.seqs = make([]uint32, c.load.keys)
	rng := rand.New(rand.NewPCG(uint64(c.first), 9))
	due, end := time.Duration(0), time.Duration(0)
	var batch []byte
	for i, p := range c.load.phases {
		due = end
		end += p.length
		gap := func() time.Duration {
			return time.Duration(rng.ExpFloat64() * float64(time.Second) * float64(c.load.conns) / p.rate)
		}
		for due += gap(); due < end && ctx.Err() == nil; {
			now := time.Since(start)
			if now < due {
				time.Sleep(due - now)
				continue
			}
			if now > end {
				break // what was due and never sent counts below
			}
			batch = batch[:0]
			for ; due <= now && due < end && len(batch) < 64<<10 && c.room(len(batch)); due += gap() {
				c.out.unsent[i][0]++
				if c.load.patience > 0 && now-due > c.load.patience {
					c.out.unsent[i][1]++
					continue
				}
				batch = c.next(batch, due)
			}
			batch = c.endBatch(batch)
			if _, err := c.Write(batch); err != nil {
				return err
			}
		}
		for ; due < end; due += gap() {
			c.out.unsent[i][0]++
			c.out.unsent[i][1]++
		}
	}
	return ctx.Err()
}

// room reports whether the receiver can be told of another request while others are not even written: it would wait for their answers.
func (c *openConn) room(unwritten int) bool { return unwritten == 0 || len(c.way) < cap(c.way)-1 }

// next appends one request; the receiver is told of the one before it, because only then it is known whether a WAIT follows.
func (c *openConn) next(b []byte, due time.Duration) []byte {
	c.w.next()
	key := c.w.rng.IntN(c.load.keys)
	c.seqs[key]++
	c.w.setKey(c.first + key)
	copy(c.w.value, fmt.Appendf(nil, "%010d", c.seqs[key]))
	if len(b) > 0 {
		c.way <- c.held
	}
	c.held = sent{due: due, key: key, seq: c.seqs[key]}
	return appendRequest(b, false, c.w)
}

// endBatch has one WAIT follow all requests of a batch.
func (c *openConn) endBatch(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	if c.wait {
		b = append(b, waitCommand...)
	}
	c.held.last = true
	c.way <- c.held
	return b
}

func (c *openConn) receive(start time.Time) error {
	var batch []sent
	for s := range c.way {
		c.out.keys[s.key].sent = s.seq
		err := c.simple("+OK")
		if err == nil {
			batch = append(batch, s)
		}
		if c.wait && s.last && (err == nil || errors.As(err, new(errRefused))) {
			err = errors.Join(err, c.simple(":1"))
		}
		var refused errRefused
		switch {
		case errors.As(err, &refused):
			code, _, _ := strings.Cut(string(refused), " ")
			c.out.refused[code]++
		case err != nil:
			for range c.way { // the sender must not wait for a receiver that is gone
				c.out.refused["no answer"]++
			}
			return fmt.Errorf("after %d answers: %w", len(c.out.accepted), err)
		}
		if c.wait && !s.last {
			continue
		}
		for _, s := range batch {
			c.out.keys[s.key].accepted = s.seq
			c.out.accepted = append(c.out.accepted, seen{uint32(s.due.Microseconds()), uint32((time.Since(start) - s.due).Microseconds())})
		}
		batch = batch[:0]
	}
	return nil
}

// between returns the latencies in microseconds of what was due from until to, and how many were.
func between(flows []flow, from, to time.Duration) []uint32 {
	var out []uint32
	for _, f := range flows {
		for _, s := range f.accepted {
			if d := time.Duration(s.due) * time.Microsecond; d >= from && d < to {
				out = append(out, s.took)
			}
		}
	}
	return out
}

// took is how long it was from the first due request until the last answer, at least as long as requests arrived: throughput is of that time.
func took(flows []flow, atLeast time.Duration) time.Duration {
	for _, f := range flows {
		for _, s := range f.accepted {
			atLeast = max(atLeast, time.Duration(s.due+s.took)*time.Microsecond)
		}
	}
	return atLeast
}
