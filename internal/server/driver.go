package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"
)

// driver moves bytes between one connection and its session. It is the only part that knows sockets and deadlines. A plain connection is
// driven by a loop, and by a goroutine of its own only while it has to wait (turn.go); any other one by a goroutine all its life.
//
// Deadlines are set seldom, because each costs about as much as a small command: the idle and the write deadline are
// renewed when an eighth of them has passed, the partial-request deadline only while a request is incomplete.
type driver struct {
	srv     *Server
	session *Session
	conn    net.Conn
	left    func() // called once, when the connection has ended
	shared         // with the other connections of a loop

	sent     int       // bytes of the session's output that were sent
	readSet  time.Time // when the idle deadline was set; zero: no read deadline is set
	writeSet time.Time
	begun    time.Time // of the incomplete request; zero: none
	received int       // bytes since begun
}

func newDriver(srv *Server, session *Session, conn net.Conn) *driver {
	return &driver{srv: srv, session: session, conn: conn}
}

// run serves the connection until it ends.
func (d *driver) run(ctx context.Context) {
	d.serve(ctx, false)
	d.end()
}

// end closes the connection. In a loop the caller holds turn.
func (d *driver) end() {
	if d.phase == ended {
		return
	}
	d.phase = ended
	d.session.Close()
	_ = d.conn.Close()
	if d.loop != nil {
		d.loop.forget(d.session.info.id)
	}
	d.left()
}

// serve drives the connection until it ends; one of a loop until it has nothing to wait for but a new request, then it returns false. With settle the
// Backend has answered. A panic ends this connection only.
func (d *driver) serve(ctx context.Context, settle bool) (over bool) {
	defer func() {
		if v := recover(); v != nil {
			d.panicked(v)
			over = true
		}
	}()
	if settle {
		d.session.Settle()
	}
	for {
		switch st := d.session.Step(ctx); st {
		case Waiting:
			select {
			case <-d.session.Done():
				d.session.Settle()
			case <-ctx.Done(): // the server closes at once
				d.session.Abandon()
				d.flush()
				return true
			}
		case Blocking:
			if !d.flush() {
				return true
			}
			d.session.Block(ctx)
		case Flush:
			// Short replies wait for those of the next batch, if there is one.
			if len(d.session.Output()) > flushAt && !d.flush() {
				return true
			}
		case NeedInput:
			if !d.flush() {
				return true
			}
			if d.loop != nil && !d.session.Input().Partial() {
				return false
			}
			if !d.read() {
				return true
			}
		case Closing:
			d.flush()
			return true
		default:
			panic(fmt.Sprintf("session state %d", st))
		}
	}
}

func (d *driver) panicked(v any) {
	d.srv.stats.panics.Add(1)
	d.srv.opts.Logger.Error("session panicked", "client", d.session.info.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if f := d.srv.opts.OnPanic; f != nil {
		f(v)
	}
}

// flush sends the session's output.
func (d *driver) flush() bool {
	for d.sent < len(d.session.Output()) {
		out := d.session.Output()[d.sent:]
		if now := time.Now(); now.Sub(d.writeSet) > d.srv.opts.WriteTimeout/8 {
			if d.conn.SetWriteDeadline(now.Add(d.srv.opts.WriteTimeout)) != nil {
				return false
			}
			d.writeSet = now
		}
		piece := out[:min(len(out), flushAt)] // so that a slow but honest reader of a long reply gets a deadline for each piece
		n, err := d.conn.Write(piece)
		d.sent += n
		d.srv.stats.netOutput.Add(uint64(n))
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				d.srv.stats.writeTimeouts.Add(1)
				d.srv.opts.Logger.Warn("client closed: it does not take its replies", "client", d.session.info.id, "unsent", len(d.session.Output())-d.sent)
			}
			return false
		}
	}
	d.clearOutput()
	return true
}

// clearOutput forgets output that was sent.
func (d *driver) clearOutput() {
	if d.sent > 0 {
		d.session.Sent()
		d.sent = 0
	}
}

// read waits for more bytes; false when the connection is to end.
func (d *driver) read() bool {
	in := d.session.Input()
	space := in.Space()
	if !d.setReadDeadline() {
		return false
	}
	// Asked after the deadline was set: whoever sets kick wakes us by a deadline of its own.
	if d.session.info.kick.Load() {
		return false
	}
	n, err := d.conn.Read(space)
	if n > 0 {
		in.Advance(n)
		d.received += n
		d.srv.stats.netInput.Add(uint64(n))
	}
	if err == nil || n > 0 && !d.session.info.kick.Load() {
		return true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !d.session.info.kick.Load() {
		d.timedOut()
	}
	return false
}

// setReadDeadline chooses how long to wait for the next bytes.
func (d *driver) setReadDeadline() bool {
	idle := time.Duration(d.srv.idleTimeout.Load())
	if !d.session.Input().Partial() {
		wasPartial := !d.begun.IsZero()
		d.begun, d.received = time.Time{}, 0
		if idle == 0 {
			if !wasPartial && d.readSet.IsZero() {
				return true
			}
			d.readSet = time.Time{}
			return d.conn.SetReadDeadline(time.Time{}) == nil
		}
		now := time.Now()
		if !wasPartial && now.Sub(d.readSet) < idle/8 {
			return true
		}
		d.readSet = now
		return d.conn.SetReadDeadline(now.Add(idle)) == nil
	}
	if d.begun.IsZero() {
		d.begun = time.Now()
	}
	return d.conn.SetReadDeadline(d.partialDue()) == nil
}

// partialDue is when the incomplete request has to be complete: it may take PartialTimeout, and longer only as it keeps coming at the least speed.
func (d *driver) partialDue() time.Time {
	honest := time.Duration(float64(d.received) / float64(d.srv.opts.MinBytesPerSecond) * float64(time.Second))
	return d.begun.Add(d.srv.opts.PartialTimeout + honest)
}

func (d *driver) timedOut() {
	if d.begun.IsZero() {
		d.srv.stats.idle.Add(1)
		d.srv.opts.Logger.Debug("client closed: idle", "client", d.session.info.id)
		return
	}
	d.srv.stats.partial.Add(1)
	d.srv.opts.Logger.Info("client closed: its request does not come to an end", "client", d.session.info.id, "received", d.received)
}
