package server

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// slowlog keeps the latest commands that took long to evaluate; waiting for the commit does not count.
type slowlog struct {
	threshold atomic.Int64 // ns, negative: off
	mu        struct {
		sync.Mutex
		limit   int
		nextID  int64
		entries []slowEntry // oldest first
	}
}

type slowEntry struct {
	id         int64
	at         time.Time
	took       time.Duration
	args       []string
	addr, name string
}

const (
	slowArgs   = 32  // arguments kept of a command
	slowArgLen = 128 // bytes kept of an argument
)

func (l *slowlog) slow(took time.Duration) bool {
	t := l.threshold.Load()
	return t >= 0 && int64(took) >= t
}

func (l *slowlog) add(s *Session, args [][]byte, at time.Time, took time.Duration) {
	e := slowEntry{at: at, took: took, addr: s.info.addr, name: s.info.name(), args: slowArguments(args)}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.id = l.mu.nextID
	l.mu.nextID++
	l.mu.entries = append(l.mu.entries, e)
	l.trimLocked()
}

func (l *slowlog) trimLocked() {
	if n := len(l.mu.entries) - l.mu.limit; n > 0 {
		l.mu.entries = append(l.mu.entries[:0], l.mu.entries[n:]...)
	}
}

// slowArguments shortens a command line; a password is not kept.
func slowArguments(args [][]byte) []string {
	var list []string
	for i, a := range args {
		if i == slowArgs-1 && len(args) > slowArgs {
			return append(list, fmt.Sprintf("... (%d more arguments)", len(args)-i))
		}
		switch {
		case i > 0 && (equalFold(args[0], "auth") || equalFold(args[0], "hello")):
			list = append(list, "(redacted)")
		case len(a) > slowArgLen:
			list = append(list, fmt.Sprintf("%s... (%d more bytes)", a[:slowArgLen], len(a)-slowArgLen))
		default:
			list = append(list, string(a))
		}
	}
	return list
}

func (l *slowlog) setLimit(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.limit = n
	l.trimLocked()
}

func (l *slowlog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.entries = nil
}

// latest returns up to n entries, newest first; negative: all.
func (l *slowlog) latest(n int64) []slowEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []slowEntry
	for i := len(l.mu.entries) - 1; i >= 0 && (n < 0 || int64(len(list)) < n); i-- {
		list = append(list, l.mu.entries[i])
	}
	return list
}

func cmdSlowlogGet(c *call) error {
	n := int64(10)
	if len(c.args) == 3 {
		const text = "ERR count should be greater than or equal to -1"
		v, err := parseIntOr(c, 2, text)
		if err != nil {
			return err
		}
		if v < -1 {
			return c.fail(text)
		}
		n = v
	} else if len(c.args) > 3 {
		return c.failSubArity()
	}
	list := c.s.srv.slowlog.latest(n)
	c.w.Array(len(list))
	for _, e := range list {
		c.w.Array(6)
		c.w.Int(e.id)
		c.w.Int(e.at.Unix())
		c.w.Int(e.took.Microseconds())
		c.w.Array(len(e.args))
		for _, a := range e.args {
			c.w.BulkString(a)
		}
		c.w.BulkString(e.addr)
		c.w.BulkString(e.name)
	}
	return nil
}

func cmdSlowlogLen(c *call) error {
	c.w.Int(int64(len(c.s.srv.slowlog.latest(-1))))
	return nil
}

func cmdSlowlogReset(c *call) error {
	c.s.srv.slowlog.reset()
	c.w.OK()
	return nil
}
