package replicate

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPersist: the kernel is told to send again without doubling its patience (W3, W5). That a link which was cut is heard again in time is held by the torture scenario saturation.
func TestPersist(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	persist(c)
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS); err != nil || v != 1 {
			t.Errorf("linear timeouts: %d, %v", v, err)
		}
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MIN_US); err == nil && (v < int(minRetransmit.Microseconds()) || v >= 200_000) { // in ticks of the kernel's clock
			t.Errorf("least time of a retransmission: %d µs", v)
		} else {
			t.Logf("least time of a retransmission: %d µs, %v", v, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	persist(a) // not TCP: nothing
	_, _ = a.Close(), b.Close()
}
