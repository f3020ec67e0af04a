package server

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// phase says who has a connection of a loop. It is read and changed only with driver.turn held.
type phase uint8

const (
	idle    phase = iota // nobody: it waits for input
	waiting              // the Backend: a batch is on its way
	visited              // a goroutine of its own, see visit
	ended
)

// shared is what a driver needs in a loop.
type shared struct {
	loop *loop
	raw  syscall.RawConn

	turn   sync.Mutex // held by who moves the connection on
	phase  phase
	ready  bool // there may be something to read
	hangup bool // and its end after it

	// The read or write in progress; the functions are made once, so that none allocates.
	buf           []byte
	n             int
	err           error
	input, output func(fd uintptr) bool
}

// maxReads is after how many reads in a row a connection makes way for the others.
const maxReads = 32

// join prepares d for l.
func (d *driver) join(l *loop, raw syscall.RawConn) {
	d.loop, d.raw = l, raw
	d.input = func(fd uintptr) bool {
		for d.n, d.err = unix.Read(int(fd), d.buf); d.err == unix.EINTR; d.n, d.err = unix.Read(int(fd), d.buf) {
		}
		return true // whatever came of it: the poller tells when to try again
	}
	d.output = func(fd uintptr) bool {
		for d.n, d.err = unix.Write(int(fd), d.buf); d.err == unix.EINTR; d.n, d.err = unix.Write(int(fd), d.buf) {
		}
		return true
	}
	d.session.share(func() { l.post(d) })
}

// readable is told by the poller.
func (d *driver) readable(hangup bool) {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.ready = true
	d.hangup = d.hangup || hangup
	if d.phase == idle {
		d.proceed(false)
	}
}

// posted is called after the Backend has answered, and after somebody wants the connection closed.
func (d *driver) posted() {
	d.turn.Lock()
	defer d.turn.Unlock()
	switch d.phase {
	case waiting:
		select {
		case <-d.session.Done():
			d.proceed(true)
		default:
		}
	case idle:
		if d.session.info.kick.Load() {
			d.end()
		}
	}
}

// overdue ends the connection if its input is due since before now.
func (d *driver) overdue(now time.Time) {
	if !d.turn.TryLock() {
		return // busy
	}
	defer d.turn.Unlock()
	if d.phase != idle {
		return
	}
	due := d.partialDue()
	if limit := time.Duration(d.srv.idleTimeout.Load()); d.begun.IsZero() {
		if limit == 0 {
			return
		}
		due = time.Unix(0, d.session.info.lastActive.Load()).Add(limit)
	}
	if now.After(due) {
		d.timedOut()
		d.end()
	}
}

// abandon ends the connection when the server closes, without waiting for the Backend.
func (d *driver) abandon() {
	d.turn.Lock()
	defer d.turn.Unlock()
	switch d.phase {
	case waiting:
		select {
		case <-d.session.Done():
			d.proceed(true)
		default:
			d.session.Abandon()
			d.proceed(false)
		}
	case idle:
		d.end()
	}
}

// proceed moves the connection on until it has to wait for something. The caller holds turn, and the connection is in nobody else's hands. With settle
// the Backend has answered. A panic ends this connection only.
func (d *driver) proceed(settle bool) {
	defer func() {
		if v := recover(); v != nil {
			d.panicked(v)
			d.end()
		}
	}()
	if settle {
		if !d.srv.opts.Backend.Ready() {
			d.leave(true)
			return
		}
		d.session.Settle()
	}
	for reads := 0; ; {
		switch d.session.Step(d.srv.ctx) {
		case Waiting:
			d.phase = waiting
			return
		case Blocking:
			d.leave(false)
			return
		case Flush:
			if len(d.session.Output()) > flushAt && !d.send() {
				return
			}
		case Closing:
			if d.send() {
				d.end()
			}
			return
		case NeedInput:
			if !d.send() {
				return
			}
			if reads++; reads > maxReads {
				d.leave(false) // Go's scheduler is fair
				return
			}
			if !d.receive() {
				return
			}
		}
	}
}

// send writes the session's output; false when the connection is not in our hands any more.
func (d *driver) send() bool {
	for d.sent < len(d.session.Output()) {
		d.buf = d.session.Output()[d.sent:]
		err := d.raw.Write(d.output)
		if err == nil {
			err = d.err
		}
		switch err {
		case nil:
			d.sent += d.n
			d.srv.stats.netOutput.Add(uint64(d.n))
		case unix.EAGAIN:
			d.leave(false) // to wait for it, as long as WriteTimeout allows
			return false
		default:
			d.end()
			return false
		}
	}
	d.clearOutput()
	return true
}

// receive reads what is there; false when that is nothing, or the connection has ended.
func (d *driver) receive() bool {
	if d.session.info.kick.Load() {
		d.end()
		return false
	}
	in := d.session.Input()
	switch {
	case !in.Partial():
		d.begun, d.received = time.Time{}, 0
	case d.begun.IsZero():
		d.begun = time.Now()
	}
	if !d.ready {
		d.phase = idle
		return false
	}
	d.buf = in.Space()
	err := d.raw.Read(d.input)
	if err == nil {
		err = d.err
	}
	switch {
	case err == unix.EAGAIN:
		d.ready = false
		d.phase = idle
		return false
	case err != nil || d.n == 0:
		d.end()
		return false
	}
	// A read that did not fill the buffer took all there was; what comes after it is told anew. The end may have been told with the data.
	d.ready = d.n == len(d.buf) || d.hangup
	in.Advance(d.n)
	d.received += d.n
	d.srv.stats.netInput.Add(uint64(d.n))
	return true
}

// leave gives the connection a goroutine, which brings it back as soon as it does not have to wait.
func (d *driver) leave(settle bool) {
	d.phase = visited
	go d.visit(settle)
}

func (d *driver) visit(settle bool) {
	d.session.alone(true)
	over := d.serve(d.srv.ctx, settle)
	d.turn.Lock()
	defer d.turn.Unlock()
	if over || !d.clearDeadlines() {
		d.end()
		return
	}
	d.session.alone(false)
	d.ready = true
	d.proceed(false)
}

// clearDeadlines: in a loop time is looked after by overdue.
func (d *driver) clearDeadlines() bool {
	if !d.readSet.IsZero() || !d.begun.IsZero() {
		if d.conn.SetReadDeadline(time.Time{}) != nil {
			return false
		}
		d.readSet, d.begun, d.received = time.Time{}, time.Time{}, 0
	}
	if !d.writeSet.IsZero() {
		if d.conn.SetWriteDeadline(time.Time{}) != nil {
			return false
		}
		d.writeSet = time.Time{}
	}
	return true
}
