package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"repld/wal"
)

// A link carries one request at a time, and its answer:
//
//	request:  version u8 · protocol u8 · LSN u64 · commands u32 · bytes u64 · commands as RESP arrays
//	answer:   LSN u64 · executed u32 · their reply lengths, u32 each · length u16 of a refusal · refusal · replies
//
// LSN is that of the connection's last write, for WAIT. Numbers are big endian. The commands behind those executed were not executed, for the reason that the
// refusal gives; without one all were.
const (
	linkVersion  = 1
	requestHead  = 1 + 1 + 8 + 4 + 8
	answerHead   = 8 + 4
	maxForwarded = 1 << 20 // commands in one request: more than a batch with the longest transaction has in practice
)

// links are the connections to the active that are not in use, and how many there are in all.
type links struct {
	mu     sync.Mutex
	idle   []*link
	inUse  int
	freed  chan struct{} // closed when one is given back
	closed bool
}

// link is one connection to the active.
type link struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte
}

// maxLinks bounds the links of one node: sessions wait for a free one. A session that watches keys keeps its own.
const maxLinks = 128

// getLink returns the link that the session holds, an idle one, or a new one.
func (s *Session) getLink(ctx context.Context) (*link, error) {
	if s.fwd.link != nil {
		return s.fwd.link, nil
	}
	p := &s.srv.links
	for {
		p.mu.Lock()
		if n := len(p.idle); n > 0 {
			l := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.inUse++
			p.mu.Unlock()
			return l, nil
		}
		if p.inUse < maxLinks {
			p.inUse++
			p.mu.Unlock()
			conn, err := s.srv.opts.Forward.Open(ctx)
			if err != nil {
				p.release(nil)
				return nil, err
			}
			return &link{conn: conn, r: bufio.NewReader(conn)}, nil
		}
		if p.freed == nil {
			p.freed = make(chan struct{})
		}
		freed := p.freed
		p.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// release gives a place back, with the link if it is sound.
func (p *links) release(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse--
	if l != nil && !p.closed {
		p.idle = append(p.idle, l)
	} else if l != nil {
		_ = l.conn.Close()
	}
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
}

// dropIdle closes links that are not in use: the active is another one.
func (p *links) dropIdle(last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = p.closed || last
	for _, l := range p.idle {
		_ = l.conn.Close()
	}
	p.idle = nil
}

// keepOrReturn keeps the link while keys are watched on it.
func (s *Session) keepOrReturn(l *link) {
	if s.fwd.watches {
		s.fwd.link = l
		return
	}
	s.fwd.link = nil
	s.srv.links.release(l)
}

// breakLink closes a link whose answer did not come or was a refusal. Others that are idle lead to the same node: they go too.
func (s *Session) breakLink(l *link) {
	_ = l.conn.Close()
	s.fwd.lost = s.fwd.lost || s.fwd.watches
	s.fwd.link, s.fwd.watches = nil, false
	s.srv.links.release(nil)
	s.srv.links.dropIdle(false)
}

// dropLink gives up the link that the session holds because keys are watched on it; they count as changed.
func (s *Session) dropLink() {
	if s.fwd.link != nil {
		s.breakLink(s.fwd.link)
	}
}

// dropWatch forgets what is watched on the active, or was when it ended: UNWATCH, DISCARD, the end of EXEC.
func (s *Session) dropWatch() {
	s.dropLink()
	s.fwd.lost = false
}

// send writes the commands from next to end.
func (l *link) send(s *Session, end int) error {
	b := append(l.buf[:0], make([]byte, requestHead)...)
	n := 0
	add := func(args [][]byte) {
		b = appendCommand(b, args)
		n++
	}
	for i := s.next; i < end; i++ {
		e := &s.batch[i]
		if e.cmd.name == "exec" {
			add([][]byte{[]byte("MULTI")})
			for _, q := range s.tx.queued {
				add(q.args)
			}
		}
		add(e.args)
	}
	if n > maxForwarded {
		return fmt.Errorf("%d commands in one request, at most %d", n, maxForwarded)
	}
	b[0], b[1] = linkVersion, byte(s.out.Proto())
	binary.BigEndian.PutUint64(b[2:], uint64(s.lastLSN))
	binary.BigEndian.PutUint32(b[10:], uint32(n))
	binary.BigEndian.PutUint64(b[14:], uint64(len(b)-requestHead))
	_, err := l.conn.Write(b)
	if l.buf = b; cap(b) > keepScratch {
		l.buf = nil
	}
	return err
}

func appendCommand(b []byte, args [][]byte) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	b = append(b, '\r', '\n')
	for _, a := range args {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, '\r', '\n')
		b = append(b, a...)
		b = append(b, '\r', '\n')
	}
	return b
}

// answerHeader is what an answer begins with.
type answerHeader struct {
	lsn     wal.LSN
	lengths []uint32 // of the replies of the commands that were executed
	refusal string   // why the others were not
}

func (l *link) receiveHead() (h answerHeader, err error) {
	var fixed [answerHead]byte
	if _, err := io.ReadFull(l.r, fixed[:]); err != nil {
		return h, err
	}
	h.lsn = wal.LSN(binary.BigEndian.Uint64(fixed[:]))
	n := binary.BigEndian.Uint32(fixed[8:])
	if n > maxForwarded {
		return h, fmt.Errorf("answer for %d commands", n)
	}
	var word [4]byte
	for range n {
		if _, err := io.ReadFull(l.r, word[:]); err != nil {
			return h, err
		}
		h.lengths = append(h.lengths, binary.BigEndian.Uint32(word[:]))
	}
	if _, err := io.ReadFull(l.r, word[:2]); err != nil {
		return h, err
	}
	text := make([]byte, binary.BigEndian.Uint16(word[:]))
	_, err = io.ReadFull(l.r, text)
	h.refusal = string(text)
	return h, err
}

var errLongReply = errors.New("a reply is longer than the output limit")

// receiveReplies reads replies and returns the last one.
func (l *link) receiveReplies(lengths []uint32, limit int) (last []byte, err error) {
	for _, n := range lengths {
		if int64(n) > int64(limit) {
			return nil, errLongReply
		}
		last = make([]byte, n)
		if _, err := io.ReadFull(l.r, last); err != nil {
			return nil, err
		}
	}
	return last, nil
}
