package server

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller tells which of many connections have something to read. It is an epoll instance, edge triggered, that Go's own poller watches: waiting
// for all of them parks one goroutine and holds no thread, and no connection is read in vain just to find out that nothing is there.
type poller struct {
	file   *os.File
	fd     int // of file, for epoll_ctl
	raw    syscall.RawConn
	events [128]unix.EpollEvent
	n      int
	err    error
	try    func(fd uintptr) bool
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // makes Go watch it
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(fd))
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), p.file.Close())
	}
	p.try = func(fd uintptr) bool {
		for {
			p.n, p.err = unix.EpollWait(int(fd), p.events[:], 0)
			if p.err != unix.EINTR {
				return p.n != 0 || p.err != nil
			}
		}
	}
	return p, nil
}

// add watches a connection until it is closed. What is there already is told too.
func (p *poller) add(conn syscall.RawConn, id int64) error {
	var err error
	e := conn.Control(func(fd uintptr) {
		err = unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(id), Pad: int32(id >> 32)})
	})
	return errors.Join(e, err)
}

// wait waits for news and calls each with the id of a connection and whether its other end has stopped sending. It is for one goroutine.
func (p *poller) wait(each func(id int64, hangup bool)) error {
	if err := errors.Join(p.raw.Read(p.try), p.err); err != nil {
		return err
	}
	for _, e := range p.events[:p.n] {
		each(int64(uint32(e.Fd))|int64(e.Pad)<<32, e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
	}
	return nil
}

// close ends wait with an error.
func (p *poller) close() error { return p.file.Close() }
