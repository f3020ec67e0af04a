package replicate

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"repld/wal"
)

// msgType is the first byte of every message on a log stream.
type msgType uint8

// The messages; doc.go draws when each is sent.
const (
	msgHello     msgType = 1  // JSON, standby
	msgWelcome   msgType = 2  // JSON, sender
	msgReject    msgType = 3  // JSON, both; the stream ends after it
	msgProbe     msgType = 4  // JSON, sender
	msgProbed    msgType = 5  // JSON, standby
	msgBegin     msgType = 6  // JSON, sender
	msgReady     msgType = 7  // JSON, standby
	msgRebuild   msgType = 8  // JSON, standby
	msgFrame     msgType = 9  // exact bytes of a wal frame, sender
	msgHeartbeat msgType = 10 // binary, sender
	msgAck       msgType = 11 // binary, standby
	msgSync      msgType = 12 // JSON, sender
	msgManifest  msgType = 13 // a snapshot's manifest, sender
	msgWant      msgType = 14 // JSON, standby
	msgFile      msgType = 15 // JSON, sender
	msgData      msgType = 16 // bytes of the file, sender
	msgResumed   msgType = 17 // JSON, standby
)

const (
	msgHeader    = 5 // type u8, payload length u32
	controlLimit = 64 << 10
	listLimit    = 8 << 20 // manifest and want
	dataLimit    = 256 << 10
	// chunk is the most that is written under one deadline: yamux writes it as one piece, and pieces of other streams go between.
	chunk = 256 << 10
	// slowest is the rate below which a message that has begun to arrive counts as stuck, in bytes/s (W7).
	slowest = 16 << 10
	// growth is how much is allocated for a message before that many bytes have arrived (W12).
	growth = 1 << 20
)

// limit returns the largest payload of a message, or -1 for an unknown type. It is checked before anything is allocated.
func (t msgType) limit(maxFrame uint32) int64 {
	switch t {
	case msgHello, msgWelcome, msgReject, msgProbe, msgProbed, msgBegin, msgReady, msgRebuild, msgSync, msgFile, msgResumed:
		return controlLimit
	case msgManifest, msgWant:
		return listLimit
	case msgFrame:
		return int64(maxFrame)
	case msgHeartbeat:
		return heartbeatSize
	case msgAck:
		return ackSize
	case msgData:
		return dataLimit
	}
	return -1
}

// link is a stream with the deadlines of this package. One goroutine reads, one writes; cancel may come from any.
type link struct {
	net.Conn
	idle  time.Duration // between bytes that arrive; 0 is no limit between messages
	write time.Duration // for a chunk that leaves, and on top of the slowest rate for a message that arrives
	// whole is when the message being read must be complete; owned by the reading goroutine.
	whole    time.Time
	canceled atomic.Bool
}

// past makes blocked calls return.
func past() time.Time { return time.Unix(1, 0) }

// cancel makes the reading and the writing goroutine return soon, for good.
func (l *link) cancel() {
	l.canceled.Store(true)
	_ = l.Conn.SetDeadline(past())
}

// Read waits at most idle, and not beyond whole.
func (l *link) Read(b []byte) (int, error) {
	d := time.Time{}
	if l.idle > 0 {
		d = time.Now().Add(l.idle)
	}
	if !l.whole.IsZero() && (d.IsZero() || l.whole.Before(d)) {
		d = l.whole
	}
	_ = l.SetReadDeadline(d)
	if l.canceled.Load() { // cancel may have come before our deadline was set
		_ = l.SetReadDeadline(past())
	}
	return l.Conn.Read(b)
}

// Write writes b in chunks, each under its own deadline.
func (l *link) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		_ = l.SetWriteDeadline(time.Now().Add(l.write))
		if l.canceled.Load() {
			return done, ErrStopped
		}
		n, err := l.Conn.Write(b[done:min(len(b), done+chunk)])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// msgReader reads messages.
type msgReader struct {
	l        *link
	br       *bufio.Reader
	maxFrame uint32
	small    [64]byte
}

func newMsgReader(l *link, size int, maxFrame uint32) *msgReader {
	return &msgReader{l: l, br: bufio.NewReaderSize(l, size), maxFrame: maxFrame}
}

// next reads one message. Payloads of heartbeats and acks are valid until the next call; all others are the caller's.
func (r *msgReader) next() (msgType, []byte, error) {
	r.l.whole = time.Time{}
	h, err := r.br.Peek(msgHeader)
	if err != nil {
		if len(h) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	t, n, err := r.parse(h)
	if err != nil {
		return 0, nil, err
	}
	_, _ = r.br.Discard(msgHeader)
	if r.br.Buffered() < n {
		r.l.whole = time.Now().Add(r.l.write + time.Duration(n/slowest)*time.Second)
	}
	b, err := r.payload(t, n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return t, b, err
}

func (r *msgReader) parse(h []byte) (msgType, int, error) {
	t, n := msgType(h[0]), int64(binary.LittleEndian.Uint32(h[1:]))
	switch limit := t.limit(r.maxFrame); {
	case limit < 0:
		return 0, 0, fmt.Errorf("%w: message type %d", ErrProtocol, t)
	case n > limit:
		return 0, 0, fmt.Errorf("%w: message type %d of %d bytes, limit %d", ErrProtocol, t, n, limit)
	}
	return t, int(n), nil
}

func (r *msgReader) payload(t msgType, n int) ([]byte, error) {
	if n <= len(r.small) && t != msgFrame { // frames are kept by the log
		b := r.small[:n]
		_, err := io.ReadFull(r.br, b)
		return b, err
	}
	b := make([]byte, 0, min(n, growth))
	for len(b) < n {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(n, 2*cap(b)))
			copy(grown, b)
			b = grown
		}
		at := len(b)
		b = b[:cap(b)]
		if _, err := io.ReadFull(r.br, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// waiting returns the type and payload size of the next message if the whole of it has already arrived.
func (r *msgReader) waiting() (msgType, int, bool) {
	if r.br.Buffered() < msgHeader {
		return 0, 0, false
	}
	h, _ := r.br.Peek(msgHeader)
	t, n, err := r.parse(h)
	if err != nil || r.br.Buffered() < msgHeader+n {
		return 0, 0, false
	}
	return t, n, true
}

// msgWriter writes messages; nothing is sent before flush, except what does not fit the buffer. One goroutine owns it.
type msgWriter struct {
	bw   *bufio.Writer
	sent int64
}

func newMsgWriter(l *link, size int) *msgWriter { return &msgWriter{bw: bufio.NewWriterSize(l, size)} }

func (w *msgWriter) put(t msgType, payload []byte) error {
	var h [msgHeader]byte
	h[0] = byte(t)
	binary.LittleEndian.PutUint32(h[1:], uint32(len(payload)))
	if _, err := w.bw.Write(h[:]); err != nil {
		return err
	}
	w.sent += int64(msgHeader + len(payload))
	_, err := w.bw.Write(payload)
	return err
}

func (w *msgWriter) flush() error { return w.bw.Flush() }

// send puts a control message and flushes.
func (w *msgWriter) send(t msgType, v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return err
	}
	if err := w.put(t, b); err != nil {
		return err
	}
	return w.flush()
}

const (
	heartbeatSize = 32
	ackSize       = 33
)

// heartbeat is what the sender says when it has nothing else to say, and when the committed LSN rose.
type heartbeat struct {
	Epoch     wal.Epoch
	Committed wal.LSN
	End       wal.LSN
	Wall      time.Time
}

func (h heartbeat) encode(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Epoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Committed))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.End))
	return binary.LittleEndian.AppendUint64(b, uint64(h.Wall.UnixNano()))
}

func decodeHeartbeat(b []byte) (heartbeat, error) {
	if len(b) != heartbeatSize {
		return heartbeat{}, fmt.Errorf("%w: heartbeat of %d bytes", ErrProtocol, len(b))
	}
	u := binary.LittleEndian.Uint64
	return heartbeat{wal.Epoch(u(b)), wal.LSN(u(b[8:])), wal.LSN(u(b[16:])), time.Unix(0, int64(u(b[24:])))}, nil
}

// ack is what the standby says after each append and in answer to each heartbeat.
type ack struct {
	Epoch   wal.Epoch
	Durable wal.LSN
	Applied wal.LSN
	Sync    uint64
	Voter   bool
}

func (a ack) encode(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Epoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Durable))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Applied))
	b = binary.LittleEndian.AppendUint64(b, a.Sync)
	if a.Voter {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeAck(b []byte) (ack, error) {
	if len(b) != ackSize || b[32] > 1 {
		return ack{}, fmt.Errorf("%w: malformed ack of %d bytes", ErrProtocol, len(b))
	}
	u := binary.LittleEndian.Uint64
	return ack{wal.Epoch(u(b)), wal.LSN(u(b[8:])), wal.LSN(u(b[16:])), u(b[24:]), b[32] == 1}, nil
}
