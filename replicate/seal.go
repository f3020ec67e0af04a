package replicate

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/cespare/xxhash/v2"
)

// sealedConn is a connection without TLS below a session or a link. Frames carry checksums of their own; acks, heartbeats, orders to fence and yamux' own headers do not, and one flipped
// bit in an ack would count as durable what is not (W11, R1). So everything travels in records that are checked before a byte of them is believed:
//
//	length u32 LE | hash u64 LE | bytes
//
// The hash is xxhash64 over length and bytes, seeded with the hash of the record before it in this direction, so that a record that is lost, repeated or swapped is found as well. It is
// no protection against people: that is what TLS is for, whose records do the same.
type sealedConn struct {
	net.Conn

	in struct { // the reading goroutine's
		seed uint64
		hash xxhash.Digest
		buf  []byte // head and bytes of the record that arrives
		have int
		out  []byte // bytes that were checked and not read
		err  error  // sticky
	}
	out struct { // the writing goroutine's
		seed  uint64
		hash  xxhash.Digest
		heads []byte
		joint []byte
		bufs  net.Buffers
	}
}

const (
	sealHead   = 12
	sealRecord = 64 << 10 // most bytes of one record, so that little is held back until it is complete
	sealJoin   = 16 << 10 // up to here head and bytes are joined into one piece
)

func newSealedConn(c net.Conn) *sealedConn {
	s := &sealedConn{Conn: c}
	s.in.buf = make([]byte, sealHead, 4<<10)
	return s
}

// seal wraps a connection whose handshake is done, unless it has a better protection.
func (m *Mesh) seal(c net.Conn) net.Conn {
	if m.o.Authenticate != nil {
		return c
	}
	return newSealedConn(c)
}

func sealHash(d *xxhash.Digest, seed uint64, length, b []byte) uint64 {
	d.ResetWithSeed(seed)
	_, _ = d.Write(length) // never fails
	_, _ = d.Write(b)
	return d.Sum64()
}

// Read returns bytes of complete records only. A deadline that passes in the middle of one loses nothing.
func (s *sealedConn) Read(b []byte) (int, error) {
	for len(s.in.out) == 0 {
		if s.in.err == nil {
			s.in.err = s.fill()
		}
		if err := s.in.err; err != nil {
			if n, ok := err.(net.Error); ok && n.Timeout() {
				s.in.err = nil // may be tried again
			}
			return 0, err
		}
	}
	n := copy(b, s.in.out)
	s.in.out = s.in.out[n:]
	return n, nil
}

// fill reads on until a record is complete.
func (s *sealedConn) fill() error {
	in := &s.in
	for {
		need := sealHead
		if in.have >= sealHead {
			n := binary.LittleEndian.Uint32(in.buf)
			if n == 0 || n > sealRecord {
				return fmt.Errorf("%w: record of %d bytes: the connection was damaged", ErrProtocol, n)
			}
			need += int(n)
		}
		if in.have == need {
			break
		}
		if cap(in.buf) < need {
			grown := make([]byte, need, min(2*need, sealHead+sealRecord))
			copy(grown, in.buf[:in.have])
			in.buf = grown
		}
		in.buf = in.buf[:need]
		n, err := s.Conn.Read(in.buf[in.have:need])
		in.have += n
		if err != nil && in.have < need {
			return err
		}
	}
	body := in.buf[sealHead:in.have]
	said := binary.LittleEndian.Uint64(in.buf[4:])
	if got := sealHash(&in.hash, in.seed, in.buf[:4], body); got != said {
		return fmt.Errorf("%w: record of %d bytes has hash %016x, not %016x: the connection was damaged", ErrProtocol, len(body), got, said)
	}
	in.seed, in.out, in.have = said, body, 0
	return nil
}

// Write sends b in as many records as it takes, with as few writes as possible. After an error the connection is of no use any more.
func (s *sealedConn) Write(b []byte) (int, error) {
	o := &s.out
	if len(b) == 0 {
		return 0, nil
	}
	if len(b) <= sealJoin {
		o.joint = append(s.head(o.joint[:0], b), b...)
		if _, err := s.Conn.Write(o.joint); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	records := (len(b) + sealRecord - 1) / sealRecord
	if cap(o.heads) < records*sealHead {
		o.heads = make([]byte, 0, records*sealHead) // whole at once: the pieces below alias it
	}
	o.heads, o.bufs = o.heads[:0], o.bufs[:0]
	for rest := b; len(rest) > 0; {
		n := min(len(rest), sealRecord)
		at := len(o.heads)
		o.heads = s.head(o.heads, rest[:n])
		o.bufs = append(o.bufs, o.heads[at:], rest[:n])
		rest = rest[n:]
	}
	bufs := o.bufs // WriteTo consumes the slice
	if _, err := bufs.WriteTo(s.Conn); err != nil {
		return 0, err
	}
	return len(b), nil
}

// head appends the head of the next record.
func (s *sealedConn) head(to, b []byte) []byte {
	at := len(to)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(b)))
	s.out.seed = sealHash(&s.out.hash, s.out.seed, to[at:], b)
	return binary.LittleEndian.AppendUint64(to, s.out.seed)
}
