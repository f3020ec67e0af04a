package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// maxName bounds names and addresses of voters, bytes.
const maxName = 200

// address is how raft names a voter: its name and the id of its journal, as id and as address. A voter that lost its disk has another id, so nothing that
// was meant for the one before it reaches it: neither a request for its vote nor the count of its acks (R11).
func address(name, id string) string { return name + "@" + id }

// voterName is the name in an address.
func voterName(addr string) string {
	name, _, _ := strings.Cut(addr, "@")
	return name
}

// layer gives raft's transport streams of the sessions between nodes (raft.StreamLayer).
type layer struct {
	self string // our address
	dial func(ctx context.Context, voter, kind string) (net.Conn, error)

	inbound chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

var _ raft.StreamLayer = (*layer)(nil)

func newLayer(self string, dial func(context.Context, string, string) (net.Conn, error)) *layer {
	return &layer{self: self, dial: dial, inbound: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial implements raft.StreamLayer. The stream begins with the address it is meant for.
func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	if len(to) > maxName {
		return nil, fmt.Errorf("address of %d bytes", len(to))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := l.dial(ctx, voterName(string(to)), KindRaft)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(append([]byte{byte(len(to))}, to...)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &readDeadlines{Conn: c}, nil
}

// handle takes an inbound stream; it returns when raft is done with it.
func (l *layer) handle(c net.Conn, limit time.Duration) {
	_ = c.SetReadDeadline(time.Now().Add(limit))
	var n [1]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return
	}
	to := make([]byte, n[0])
	if _, err := io.ReadFull(c, to); err != nil || string(to) != l.self {
		return // meant for a voter that this one has replaced
	}
	_ = c.SetReadDeadline(time.Time{})
	done := &tracked{Conn: &readDeadlines{Conn: c}, gone: make(chan struct{})}
	select {
	case l.inbound <- done:
	case <-l.closed:
		return
	}
	select {
	case <-done.gone:
	case <-l.closed:
	}
}

// Accept implements net.Listener.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.inbound:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *layer) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *layer) Addr() net.Addr { return streamAddr(l.self) }

type streamAddr string

func (streamAddr) Network() string  { return "repld" }
func (a streamAddr) String() string { return string(a) }

// readDeadlines keeps raft's deadlines to reads: a write that fails ends the whole session between two nodes, which has its own, longer, bound on
// writes, and must not end because a snapshot of the state fills the link for a second.
type readDeadlines struct{ net.Conn }

func (c *readDeadlines) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *readDeadlines) SetWriteDeadline(time.Time) error { return nil }

// tracked says when it was closed.
type tracked struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

func (t *tracked) Close() error {
	t.once.Do(func() { close(t.gone) })
	return t.Conn.Close()
}
