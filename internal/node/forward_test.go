package node

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// A command in flight to an active that is silent gets an answer, that its outcome is unknown, once another node accepts writes: nobody waits for a host that will
// never answer (R12, R13).
//
// Faults: W1 (the active is isolated silently: forwarded commands in flight)
func TestForwardedCommandsLeaveASilentActive(t *testing.T) {
	t.Parallel()
	c, f := automatic(t, nil)
	c.start()
	old := c.elected(0)
	c.settled(old)
	from := c.nodes[c.others(old)[0]]
	var link net.Conn
	until(t, func() (err error) {
		link, err = from.forwarder.Open(t.Context())
		return err
	})
	epoch := c.nodes[old].epoch()
	f.isolate(old, c.others(old)...)
	waits := make(chan error, 1)
	go func() {
		_, err := link.Read(make([]byte, 1))
		waits <- err
	}()
	next := c.elected(epoch, old)
	if err := <-waits; err == nil {
		t.Fatal("the silent active answered")
	}
	if from.Node != c.nodes[next].Node {
		until(t, func() error {
			l, err := from.forwarder.Open(t.Context())
			if err != nil {
				return err
			}
			return l.Close()
		})
	}
	f.heal()
}

// Links to a former active that may still answer are kept for its last words; those to the active always.
func TestForwardLinksKept(t *testing.T) {
	t.Parallel()
	links := &forwardLinks{to: map[*forwardLink]string{}}
	open := func(to string) *forwardLink {
		a, b := net.Pipe()
		t.Cleanup(func() { _ = b.Close() })
		l := &forwardLink{Conn: a, all: links}
		links.to[l] = to
		return l
	}
	gone, slow, active := open("a"), open("b"), open("c")
	if left := links.closeBut("c", func(n string) bool { return n == "b" }); left != 1 {
		t.Fatalf("%d links left for last words, want 1", left)
	}
	reads := func(l *forwardLink) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		deadline, _ := ctx.Deadline()
		_ = l.SetReadDeadline(deadline)
		_, err := l.Read(make([]byte, 1))
		return err
	}
	var late net.Error
	for _, l := range []*forwardLink{slow, active} {
		if err := reads(l); !errors.As(err, &late) || !late.Timeout() {
			t.Fatalf("an open link ends with %v", err)
		}
		defer l.Close()
	}
	if err := reads(gone); errors.As(err, &late) && late.Timeout() {
		t.Fatalf("a link to a node that is gone is still open: %v", err)
	}
}
