package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"repld/wal"
)

// ServeForwarded executes what sessions of a standby send over conn (see link), until it ends, the server closes, or this node is not the active any more.
func (s *Server) ServeForwarded(conn net.Conn, peer string) error {
	session := newSession(s, s.lastID.Add(1), "forwarded:"+peer, "forwarded", false)
	kicked, kick := context.WithCancel(s.ctx)
	defer kick()
	session.info.kicked = kicked
	f := &forwarded{s: session, conn: conn, r: bufio.NewReader(conn)}
	session.info.wake = func() {
		kick()
		f.wake()
	}
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.mu.sessions[session.info.id] = session
	s.mu.conns[session.info.id] = conn
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer s.forget(session)
	defer session.Close()
	defer func() {
		if v := recover(); v != nil {
			(&driver{srv: s, session: session}).panicked(v)
		}
	}()
	for {
		if err := f.request(s.ctx); err != nil {
			if session.info.kick.Load() {
				f.farewell()
				return nil
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// forwarded serves one link.
type forwarded struct {
	s    *Session
	conn net.Conn
	r    *bufio.Reader

	lengths []uint32
	refusal string
}

// wake ends the waiting for a request; one that is being executed is answered first.
func (f *forwarded) wake() {
	if c, ok := f.conn.(interface{ CloseRead() error }); ok {
		_ = c.CloseRead() // an error means that it is closed: awake too
		return
	}
	_ = f.conn.SetReadDeadline(longAgo)
}

// farewell answers the request that may be on its way: nothing of it was or will be executed, because only whole requests are.
func (f *forwarded) farewell() {
	f.lengths, f.refusal = f.lengths[:0], "READONLY this link is closed"
	if refusal := f.away(); refusal != nil {
		f.refusal = refusal.Error()
	}
	f.s.Sent()
	_ = f.answer() // the other end learns it from the end of the link otherwise
}

// request reads, executes and answers one request.
func (f *forwarded) request(ctx context.Context) error {
	var head [requestHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return err
	}
	count, size := binary.BigEndian.Uint32(head[10:]), binary.BigEndian.Uint64(head[14:])
	if head[0] != linkVersion || head[1] < 2 || head[1] > 3 || count == 0 || count > maxForwarded {
		return fmt.Errorf("forwarded request: version %d, protocol %d, %d commands", head[0], head[1], count)
	}
	f.s.setProto(int(head[1]))
	f.s.lastLSN = wal.LSN(binary.BigEndian.Uint64(head[2:]))
	for size > 0 { // whole, before anything is executed: a transaction must not be cut in two by the network
		space := f.s.in.Space()
		n, err := f.r.Read(space[:min(uint64(len(space)), size)])
		f.s.in.Advance(n)
		size -= uint64(n)
		if err != nil && size > 0 {
			return err
		}
	}
	f.lengths, f.refusal = f.lengths[:0], ""
	if err := f.execute(ctx, int(count)); err != nil {
		return err
	}
	return f.answer()
}

// execute runs the request's commands until one batch is refused.
func (f *forwarded) execute(ctx context.Context, count int) error {
	s := f.s
	for len(f.lengths) < count {
		from := s.out.Len()
		if refusal := f.away(); refusal != nil {
			f.refusal = refusal.Error()
			return nil
		}
		s.refused = nil
		switch st := s.Step(ctx); st {
		case Waiting:
			select {
			case <-s.Done():
				s.Settle()
			case <-ctx.Done():
				s.Abandon()
			}
		case Blocking:
			s.Block(ctx)
		case NeedInput:
			return errors.New("forwarded request has fewer commands than it says")
		}
		if s.next < len(s.batch) {
			continue // a piece of a batch of reads
		}
		refusal := s.refused
		if refusal == nil && s.mode == modeView && f.readsFailed() {
			refusal = f.away()
		}
		if refusal != nil {
			s.out.Truncate(from)
			f.refusal = refusal.Error()
			return nil
		}
		for i := range s.batch {
			f.lengths = append(f.lengths, uint32(s.batch[i].to-s.batch[i].from))
		}
		if s.out.Overflow() {
			return errLongReply
		}
		if s.closing && len(f.lengths) < count {
			return errors.New("forwarded session ended")
		}
	}
	return nil
}

// away is the refusal of a node that is not the active, nil on the active.
func (f *forwarded) away() *Error {
	st := f.s.srv.opts.Backend.Status()
	if st.Role == RoleActive {
		return nil
	}
	return ReadOnly(st.Epoch, st.Active)
}

// readsFailed reports whether a read of the batch was answered with an error that has to do with the node.
func (f *forwarded) readsFailed() bool {
	out := f.s.out.Bytes()
	for i := range f.s.batch {
		e := &f.s.batch[i]
		if e.to-e.from > 11 && (string(out[e.from:e.from+11]) == "-MASTERDOWN" || string(out[e.from:e.from+8]) == "-LOADING") {
			return true
		}
	}
	return false
}

func (f *forwarded) answer() error {
	s := f.s
	b := binary.BigEndian.AppendUint64(nil, uint64(s.lastLSN))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.lengths)))
	for _, n := range f.lengths {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.refusal)))
	b = append(b, f.refusal...)
	b = append(b, s.out.Bytes()...)
	_, err := f.conn.Write(b)
	s.Sent()
	if err == nil && f.refusal != "" {
		return io.EOF // what is left of the request is not executed: the link ends
	}
	return err
}
