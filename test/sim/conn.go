package sim

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// errReset is what both ends see of a connection that was broken.
var errReset = errors.New("connection reset")

// wireBytes is what one direction of a connection holds at most. It is more than yamux' windows let a peer send that does not read, so that only a direction that was cut
// for long under load reaches it. Then the connection breaks, as TCP's does when what was sent is not acknowledged for too long.
const wireBytes = 32 << 20

// half is one direction of a connection: bytes on their way, in order. While the link is cut they wait, as TCP would send them again, until the link is mended or
// somebody gives up. One goroutine reads and one writes at a time.
//
// Two things are not as in TCP, both because of yamux, which holds locks while it waits for a connection: a goroutine that waits for a lock stops simulated time, so that what
// the holder waits for never comes.
//
//   - A write never waits. yamux holds locks of a stream while its window update or its end waits for the writing goroutine.
//   - What is written at one moment of simulated time arrives at one moment, and a cut does not part it. yamux holds a stream's lock while it waits for the rest of a
//     message, and the layers below it write a large message in several pieces.
type half struct {
	mu      sync.Mutex
	queue   []chunk
	size    int
	last    chunk     // the newest one's times
	taking  time.Time // when the chunk was written that the reader took last
	held    bool      // the link is cut in this direction
	closed  bool      // by the writer: EOF after what is on its way
	broken  bool
	rend    time.Time     // read deadline
	wend    time.Time     // write deadline
	arrived chan struct{} // capacity 1: something changed for the reader
	alarm   *time.Timer   // the reader's
	late    func() time.Duration
}

// chunk is what one write sent.
type chunk struct {
	sent, at time.Time // at: of its arrival
	b        []byte
}

func newHalf(late func() time.Duration) *half {
	return &half{late: late, arrived: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// change lets fn change the half and wakes its reader.
func (h *half) change(fn func()) {
	h.mu.Lock()
	fn()
	h.mu.Unlock()
	poke(h.arrived)
}

func (h *half) write(b []byte) (int, error) {
	late := h.late() // takes the network's lock, which comes before ours
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	switch {
	case h.broken:
		return 0, errReset
	case h.closed:
		return 0, io.ErrClosedPipe
	case !h.wend.IsZero() && !now.Before(h.wend):
		return 0, os.ErrDeadlineExceeded
	case h.size+len(b) > wireBytes:
		h.broken = true
		poke(h.arrived)
		return 0, errReset
	}
	at := now.Add(late)
	if at.Before(h.last.at) || now.Equal(h.last.sent) {
		at = h.last.at
	}
	h.last = chunk{sent: now, at: at}
	h.queue = append(h.queue, chunk{now, at, bytes.Clone(b)})
	h.size += len(b)
	poke(h.arrived)
	return len(b), nil
}

// ready reports whether the oldest chunk can be read. The rest of what was sent at one moment can, though the link was cut meanwhile.
func (h *half) ready(now time.Time) bool {
	return len(h.queue) > 0 && !now.Before(h.queue[0].at) && (!h.held || h.queue[0].sent.Equal(h.taking))
}

// take moves what is ready to b.
func (h *half) take(b []byte, now time.Time) (n int) {
	for n < len(b) && h.ready(now) {
		c := &h.queue[0]
		h.taking = c.sent
		k := copy(b[n:], c.b)
		n += k
		if c.b = c.b[k:]; len(c.b) == 0 {
			*c = chunk{}
			h.queue = h.queue[1:]
		}
	}
	h.size -= n
	return n
}

func (h *half) read(b []byte) (int, error) {
	for {
		h.mu.Lock()
		now, until := time.Now(), h.rend
		n, err := 0, error(nil)
		switch {
		case h.broken:
			err = errReset
		case h.ready(now):
			n = h.take(b, now)
		case !h.held && h.closed && len(h.queue) == 0:
			err = io.EOF
		case !until.IsZero() && !now.Before(until):
			err = os.ErrDeadlineExceeded
		}
		if !h.held && len(h.queue) > 0 && (until.IsZero() || h.queue[0].at.Before(until)) {
			until = h.queue[0].at
		}
		h.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
		h.wait(until)
	}
}

// wait waits for a poke, or until the time if that is not zero.
func (h *half) wait(until time.Time) {
	if until.IsZero() {
		<-h.arrived
		return
	}
	if h.alarm == nil {
		h.alarm = time.NewTimer(time.Until(until))
	} else {
		h.alarm.Reset(time.Until(until))
	}
	select {
	case <-h.arrived:
		h.alarm.Stop()
	case <-h.alarm.C:
	}
}

// conn is one end of a connection.
type conn struct {
	in, out *half
	addr    addr // of the other end
	forget  func()
}

type addr string

func (a addr) Network() string { return "sim" }
func (a addr) String() string  { return string(a) }

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }

// Close ends this end: the other one reads EOF once all has arrived.
func (c *conn) Close() error {
	c.out.change(func() { c.out.closed = true })
	c.in.change(func() { c.in.broken = true })
	if c.forget != nil {
		c.forget()
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return addr("sim") }
func (c *conn) RemoteAddr() net.Addr { return c.addr }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	c.in.rend = t
	c.in.mu.Unlock()
	poke(c.in.arrived)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.wend = t
	return nil
}
