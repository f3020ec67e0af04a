package replicate

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// liveConn is the connection below a yamux session. It ends the session when nothing arrives for idle, which a live
// peer prevents by its pings; unlike a bound on a ping's round trip this holds on a congested link too, where bytes do
// arrive (W6, W8). It also joins the header and body of yamux data frames into one write.
type liveConn struct {
	net.Conn
	idle, write time.Duration
	// reading goroutine
	br      *bufio.Reader
	armedAt time.Time
	// writing goroutine
	header  [yamuxHeader]byte
	pending bool
	joined  []byte
}

const (
	yamuxHeader = 12
	joinLimit   = 16 << 10
	readBuffer  = 64 << 10
)

func newLiveConn(c net.Conn, idle, write time.Duration) *liveConn {
	l := &liveConn{Conn: c, idle: idle, write: write}
	l.br = bufio.NewReaderSize((*armedReader)(l), readBuffer)
	return l
}

// armedReader renews the deadline before it blocks.
type armedReader liveConn

func (r *armedReader) Read(b []byte) (int, error) {
	if now := time.Now(); now.Sub(r.armedAt) > r.idle/16 {
		r.armedAt = now
		if err := r.Conn.SetReadDeadline(now.Add(r.idle)); err != nil {
			return 0, err
		}
	}
	return r.Conn.Read(b)
}

func (l *liveConn) Read(b []byte) (int, error) { return l.br.Read(b) }

// Write keeps the header of a data frame back until its body comes, which yamux writes next. yamux has one writing goroutine.
func (l *liveConn) Write(b []byte) (int, error) {
	if !l.pending && len(b) == yamuxHeader && b[1] == 0 && binary.BigEndian.Uint32(b[8:]) > 0 {
		copy(l.header[:], b)
		l.pending = true
		return len(b), nil
	}
	if err := l.Conn.SetWriteDeadline(time.Now().Add(l.write)); err != nil {
		return 0, err
	}
	if !l.pending {
		return l.Conn.Write(b)
	}
	l.pending = false
	var n int64
	var err error
	if len(b) <= joinLimit {
		l.joined = append(append(l.joined[:0], l.header[:]...), b...)
		var k int
		k, err = l.Conn.Write(l.joined)
		n = int64(k)
	} else {
		n, err = (&net.Buffers{l.header[:], b}).WriteTo(l.Conn)
	}
	return max(0, int(n)-yamuxHeader), err
}

// muxLogger passes what yamux has to say on to slog. Its errors are consequences of what we report ourselves.
type muxLogger struct{ log *slog.Logger }

// Print implements yamux.Logger.
func (l muxLogger) Print(v ...any) { l.say(fmt.Sprint(v...)) }

// Printf implements yamux.Logger.
func (l muxLogger) Printf(format string, v ...any) { l.say(fmt.Sprintf(format, v...)) }

// Println implements yamux.Logger.
func (l muxLogger) Println(v ...any) { l.say(fmt.Sprintln(v...)) }

func (l muxLogger) say(text string) {
	l.log.Debug("yamux says", "text", strings.TrimSpace(text))
}
