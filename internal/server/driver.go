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

// driver moves bytes between one connection and its session. It is the only part that knows sockets and deadlines.
//
// Deadlines are set seldom, because each costs about as much as a small command: the idle and the write deadline are
// renewed when an eighth of them has passed, the partial-request deadline only while a request is incomplete.
type driver struct {
	srv     *Server
	session *Session
	conn    net.Conn

	readSet  time.Time // when the idle deadline was set; zero: no read deadline is set
	writeSet time.Time
	begun    time.Time // of the incomplete request; zero: none
	received int       // bytes since begun
}

func newDriver(srv *Server, session *Session, conn net.Conn) *driver {
	return &driver{srv: srv, session: session, conn: conn}
}

// run serves the connection until it ends. A panic ends this connection only.
func (d *driver) run(ctx context.Context) {
	defer func() {
		if v := recover(); v != nil {
			d.panicked(v)
		}
		d.session.Close()
		_ = d.conn.Close()
	}()
	for {
		switch st := d.session.Step(ctx); st {
		case Waiting:
			select {
			case <-d.session.Done():
				d.session.Settle()
			case <-ctx.Done(): // the server closes at once
				d.session.Abandon()
				d.flush()
				return
			}
		case Blocking:
			if !d.flush() {
				return
			}
			d.session.Block(ctx)
		case Flush:
			// Short replies wait for those of the next batch, if there is one.
			if len(d.session.Output()) > flushAt && !d.flush() {
				return
			}
		case NeedInput:
			if !d.flush() || !d.read() {
				return
			}
		case Closing:
			d.flush()
			return
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
	out := d.session.Output()
	if len(out) == 0 {
		return true
	}
	for len(out) > 0 {
		if now := time.Now(); now.Sub(d.writeSet) > d.srv.opts.WriteTimeout/8 {
			if d.conn.SetWriteDeadline(now.Add(d.srv.opts.WriteTimeout)) != nil {
				return false
			}
			d.writeSet = now
		}
		piece := out[:min(len(out), flushAt)] // so that a slow but honest reader of a long reply gets a deadline for each piece
		n, err := d.conn.Write(piece)
		d.srv.stats.netOutput.Add(uint64(n))
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				d.srv.stats.writeTimeouts.Add(1)
				d.srv.opts.Logger.Warn("client closed: it does not take its replies", "client", d.session.info.id, "unsent", len(out)-n)
			}
			return false
		}
		out = out[n:]
	}
	d.session.Sent()
	return true
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
	// A request may take PartialTimeout, and longer only as it keeps coming at the least speed.
	honest := time.Duration(float64(d.received) / float64(d.srv.opts.MinBytesPerSecond) * float64(time.Second))
	return d.conn.SetReadDeadline(d.begun.Add(d.srv.opts.PartialTimeout+honest)) == nil
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
