package sentinel

import (
	"net"
	"sync"
	"time"

	"repld/internal/resp"
	"repld/internal/server"
)

// conn is one client. readLoop owns in and the handshake; output and subscriptions are shared with publishing.
type conn struct {
	s    *Server
	nc   net.Conn
	id   int64
	born time.Time
	in   *resp.Reader

	// Owned by readLoop.
	authed bool
	last   bool // close after the answer
	name   string

	mu struct {
		sync.Mutex
		proto    int
		channels map[string]bool
		patterns map[string]bool
		out      []byte
		ended    bool
	}
	wake chan struct{} // capacity 1: there is output, or the end
}

func newConn(s *Server, nc net.Conn, id int64) *conn {
	c := &conn{s: s, nc: nc, id: id, born: time.Now(), in: resp.NewReader(s.limits), wake: make(chan struct{}, 1)}
	c.mu.proto = 2
	c.mu.channels, c.mu.patterns = map[string]bool{}, map[string]bool{}
	c.authed = s.opts.Password == ""
	c.in.SetAuthenticated(c.authed)
	return c
}

func (c *conn) readLoop() {
	for {
		args, err := c.in.Next()
		switch {
		case err != nil:
			c.reply(func(w *resp.Writer) { w.Error("ERR " + err.Error()) })
			return
		case args != nil:
			c.execute(args)
			if c.last {
				return
			}
			continue
		}
		deadline := time.Time{} // subscribers are silent for years; a dead one is found by TCP's own keep-alive
		if c.in.Partial() {
			deadline = time.Now().Add(c.s.opts.PartialTimeout)
		}
		space := c.in.Space()
		if c.nc.SetReadDeadline(deadline) != nil {
			return
		}
		n, err := c.nc.Read(space)
		if n > 0 {
			c.in.Advance(n)
		}
		if err != nil {
			return
		}
	}
}

// reply encodes an answer and queues it.
func (c *conn) reply(encode func(*resp.Writer)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := resp.NewWriter(c.s.opts.MaxOutputBytes)
	w.SetProto(c.mu.proto)
	encode(w)
	c.queueLocked(w.Bytes())
}

// deliver queues a publication for a subscriber.
func (c *conn) deliver(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := resp.NewWriter(c.s.opts.MaxOutputBytes)
	w.SetProto(c.mu.proto)
	if c.mu.channels[m.channel] {
		w.Push(3)
		w.BulkString("message")
		w.BulkString(m.channel)
		w.BulkString(m.payload)
	}
	for p := range c.mu.patterns {
		if server.Match([]byte(p), []byte(m.channel)) {
			w.Push(4)
			w.BulkString("pmessage")
			w.BulkString(p)
			w.BulkString(m.channel)
			w.BulkString(m.payload)
		}
	}
	c.queueLocked(w.Bytes())
}

func (c *conn) queueLocked(b []byte) {
	if len(b) == 0 || c.mu.ended {
		return
	}
	if len(c.mu.out)+len(b) > c.s.opts.MaxOutputBytes {
		c.s.opts.Logger.Warn("sentinel client closed: it does not take its replies", "client", c.id)
		_ = c.nc.Close() // readLoop ends by the error
		return
	}
	c.mu.out = append(c.mu.out, b...)
	c.kick()
}

func (c *conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// end lets writeLoop send what is queued and then closes the connection.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ended = true
	c.kick()
}

func (c *conn) writeLoop() {
	defer c.nc.Close()
	for range c.wake {
		c.mu.Lock()
		out, ended := c.mu.out, c.mu.ended
		c.mu.out = nil
		c.mu.Unlock()
		if len(out) > 0 {
			if c.nc.SetWriteDeadline(time.Now().Add(c.s.opts.WriteTimeout)) != nil {
				return
			}
			if _, err := c.nc.Write(out); err != nil {
				return
			}
		}
		if ended {
			return
		}
	}
}

// subscriptions is how many there are, under mu.
func (c *conn) subscriptions() int { return len(c.mu.channels) + len(c.mu.patterns) }
