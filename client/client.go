package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client finds the active of one group. It may be used by many goroutines.
type Client struct {
	o Options

	finding chan struct{} // capacity 1: one search at a time

	mu struct {
		sync.Mutex
		closed bool
		epoch  int64  // the highest seen
		at     target // the active, as last found; nil pool: look for it
	}
}

// target is a node that said it is the active, or that it forwards to it.
type target struct {
	addr     string
	epoch    int64
	forwards bool
	*pool
}

// pool is the connections to one node. It is closed once it was dropped and no command is under way on it: a command must not lose its answer because
// another one was refused.
type pool struct {
	client *redis.Client
	mu     struct {
		sync.Mutex
		users   int
		dropped bool
	}
}

// use begins a command; false if the pool is closed or about to be.
func (p *pool) use() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.dropped {
		return false
	}
	p.mu.users++
	return true
}

func (p *pool) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.users--
	p.closeLocked()
}

// drop lets commands under way end and takes no new ones.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.dropped {
		p.mu.dropped = true
		p.closeLocked()
	}
}

func (p *pool) closeLocked() {
	if p.mu.dropped && p.mu.users == 0 {
		_ = p.client.Close() // nobody uses it any more
	}
}

// New makes a Client. It connects when it is used.
func New(o Options) (*Client, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Client{o: o, finding: make(chan struct{}, 1)}, nil
}

// Close ends all connections. Calls that are under way end with an error.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.closed = true
	if p := c.mu.at.pool; p != nil {
		_ = p.client.Close()
	}
	c.dropLocked()
	return nil
}

// NewID makes an id that nobody else has.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Epoch is the highest epoch that this client has seen, 0 before the first call.
func (c *Client) Epoch() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.epoch
}

// Do executes a write at most once and returns its result, retrying over crashes and changes of the active until ctx or Options.Timeout ends: then the error is
// ErrUnknown, and the same id may be used again within Options.Retention. id is up to 256 bytes and belongs to this command alone.
func (c *Client) Do(ctx context.Context, id string, args ...any) (any, error) {
	if id == "" || len(args) == 0 {
		return nil, errors.New("client: Do needs an id and a command")
	}
	line := append([]any{"REPLD.ONCE", id, c.o.Retention.Milliseconds()}, args...)
	return c.call(ctx, line, func(outcome) bool { return true })
}

// Write executes a command that must not be executed twice. It is retried only while it surely was not executed.
func (c *Client) Write(ctx context.Context, args ...any) (any, error) {
	return c.call(ctx, args, func(o outcome) bool { return o == refused })
}

// Read executes a command that changes nothing, or that may be executed several times.
func (c *Client) Read(ctx context.Context, args ...any) (any, error) {
	return c.call(ctx, args, func(outcome) bool { return true })
}

// call tries until the outcome is known, again says no, or the time is over.
func (c *Client) call(ctx context.Context, args []any, again func(outcome) bool) (any, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, fmt.Errorf("client timeout %s", c.o.Timeout))
	defer cancel()
	pause := c.o.MinRetry
	sent := refused // what is known of all tries so far
	for {
		value, err := c.try(ctx, args)
		o := judge(err)
		if o == unknown {
			sent = unknown
		}
		if o == answered {
			return value, final(err, o, nil)
		}
		if errors.Is(err, ErrClosed) || !again(o) {
			return nil, final(err, sent, nil)
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
			pause = min(2*pause, c.o.MaxRetry)
		case <-ctx.Done():
			wait.Stop()
			return nil, final(err, sent, context.Cause(ctx))
		}
	}
}

// try sends the command to the active once.
func (c *Client) try(ctx context.Context, args []any) (any, error) {
	at, err := c.active(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if !at.use() {
		return nil, fmt.Errorf("%w: another command was refused by %s just now", errNotSent, at.addr)
	}
	defer at.done()
	ctx, cancel := context.WithTimeout(ctx, c.o.Attempt)
	defer cancel()
	value, err := at.client.Do(ctx, args...).Result()
	if judge(err) != answered {
		c.forget(at)
	}
	return value, err
}

// active returns the node to send to, looking for it if need be.
func (c *Client) active(ctx context.Context) (target, error) {
	if at, err := c.known(); err != nil || at.pool != nil {
		return at, err
	}
	select {
	case c.finding <- struct{}{}:
		defer func() { <-c.finding }()
	case <-ctx.Done():
		return target{}, context.Cause(ctx)
	}
	if at, err := c.known(); err != nil || at.pool != nil {
		return at, err // another call has found it meanwhile
	}
	return c.find(ctx)
}

func (c *Client) known() (target, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return target{}, ErrClosed
	}
	return c.mu.at, nil
}

// forget makes the next call look for the active, unless that has been done since.
func (c *Client) forget(at target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.at.pool == at.pool {
		c.dropLocked()
	}
}

func (c *Client) dropLocked() {
	if old := c.mu.at.pool; old != nil {
		old.drop()
	}
	c.mu.at = target{}
}

// adopt makes a node the one to send to, unless a higher epoch was seen meanwhile.
func (c *Client) adopt(t target) (target, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.closed:
		t.drop()
		return target{}, ErrClosed
	case t.epoch < c.mu.epoch:
		t.drop()
		return target{}, fmt.Errorf("%w: %s is active in epoch %d, which is over: epoch %d was seen", ErrNoActive, t.addr, t.epoch, c.mu.epoch)
	}
	c.dropLocked()
	c.mu.epoch, c.mu.at = t.epoch, t
	return t, nil
}

func network(addr string) string {
	if strings.Contains(addr, "/") {
		return "unix"
	}
	return "tcp"
}
