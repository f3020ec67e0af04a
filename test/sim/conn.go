package sim

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// errReset is what both ends see of a connection that was broken.
var errReset = errors.New("connection reset")

// wireBytes is what one direction of a connection holds: the buffers of both sockets.
const wireBytes = 256 << 10

// half is one direction of a connection: bytes on their way, in order. While the link is cut they wait, as TCP would send them again, until the link is mended or
// somebody gives up. One goroutine reads and one writes at a time.
//
// A yamux message arrives whole, header and body at one time: yamux holds a lock while it waits for the rest of a body, and a goroutine that waits for a lock stops simulated
// time.
type half struct {
	part    []byte // a message whose body is not complete yet
	lacks   int    // bytes of it
	begun   bool   // the first chunk was read in part
	mu      sync.Mutex
	queue   []chunk
	size    int
	last    time.Time // when the newest chunk arrives
	held    bool      // the link is cut in this direction
	closed  bool      // by the writer: EOF after what is on its way
	broken  bool
	rend    time.Time     // read deadline
	wend    time.Time     // write deadline
	arrived chan struct{} // capacity 1: something changed for the reader
	room    chan struct{} // capacity 1: something changed for the writer
	late    func() time.Duration
}

type chunk struct {
	at time.Time
	b  []byte
}

func newHalf(late func() time.Duration) *half {
	return &half{late: late, arrived: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// change lets fn change the half and wakes both ends.
func (h *half) change(fn func()) {
	h.mu.Lock()
	fn()
	h.mu.Unlock()
	poke(h.arrived)
	poke(h.room)
}

func (h *half) write(b []byte) (int, error) {
	for done := 0; ; {
		late := h.late() // takes the network's lock, which comes before ours
		h.mu.Lock()
		n, end := 0, h.wend
		var err error
		switch {
		case h.broken:
			err = errReset
		case h.closed:
			err = io.ErrClosedPipe
		case !end.IsZero() && !time.Now().Before(end):
			err = os.ErrDeadlineExceeded
		default:
			n = h.take(b[done:], late)
		}
		h.mu.Unlock()
		done += n
		if n > 0 {
			poke(h.arrived)
		}
		if err != nil || done == len(b) {
			return done, err
		}
		wait(h.room, end)
	}
}

// take puts bytes on their way as far as there is room.
func (h *half) take(b []byte, late time.Duration) (n int) {
	switch {
	case h.lacks > 0:
		n = min(h.lacks, len(b))
		h.part = append(h.part, b[:n]...)
		if h.lacks -= n; h.lacks > 0 {
			return n
		}
		b, h.part = h.part, nil
	case h.size >= wireBytes:
		return 0
	case len(b) == muxHeader && b[0] == 0 && b[1] == 0 && binary.BigEndian.Uint32(b[8:]) > 0: // a header of data
		h.part, h.lacks = append([]byte(nil), b...), int(binary.BigEndian.Uint32(b[8:]))
		return len(b)
	default:
		n = len(b)
		b = append([]byte(nil), b...)
	}
	at := time.Now().Add(late)
	if at.Before(h.last) {
		at = h.last
	}
	h.last = at
	h.queue = append(h.queue, chunk{at, b})
	h.size += len(b)
	return n
}

// muxHeader is the size of a header of yamux.
const muxHeader = 12

func (h *half) read(b []byte) (int, error) {
	for {
		h.mu.Lock()
		now, until := time.Now(), h.rend
		switch {
		case h.broken:
			h.mu.Unlock()
			return 0, errReset
		case (!h.held || h.begun) && len(h.queue) > 0 && !now.Before(h.queue[0].at):
			n := 0
			for n < len(b) && len(h.queue) > 0 && !now.Before(h.queue[0].at) {
				c := copy(b[n:], h.queue[0].b)
				n += c
				if h.queue[0].b = h.queue[0].b[c:]; len(h.queue[0].b) == 0 {
					h.queue[0] = chunk{}
					h.queue = h.queue[1:]
				}
			}
			h.begun = len(h.queue) > 0 && n == len(b)
			h.size -= n
			h.mu.Unlock()
			poke(h.room)
			return n, nil
		case !h.held && h.closed && len(h.queue) == 0:
			h.mu.Unlock()
			return 0, io.EOF
		case !until.IsZero() && !now.Before(until):
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		if !h.held && len(h.queue) > 0 && (until.IsZero() || h.queue[0].at.Before(until)) {
			until = h.queue[0].at
		}
		h.mu.Unlock()
		wait(h.arrived, until)
	}
}

// wait waits for a poke, or until the time if that is not zero.
func wait(c <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-c
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
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
	c.out.wend = t
	c.out.mu.Unlock()
	poke(c.out.room)
	return nil
}
