package replicate

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// minRetransmit is how soon a lost segment is sent again at the earliest; Linux's own least is 200 ms.
const minRetransmit = 50 * time.Millisecond

// persist has the kernel send a lost segment of a quiet stream again and again at short times, where it would double its patience each time. A link that was cut for 200 ms would be silent for
// 600 ms otherwise, one that was cut for a second for up to three, and whoever listens would take that for the peer's silence. It changes nothing for a stream that is full. What the kernel does not
// know is left out.
func persist(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MIN_US, int(minRetransmit.Microseconds()))
	})
}
