package node

import (
	"errors"
	"testing"
	"time"

	"repld/internal/server"
	"repld/snapshot"
)

// While a reader holds the state and a snapshot waits to replace it, nobody else waits: new readers are refused, and what the node says of itself in a survey, under a
// fence or to a client is answered at once (R12).
func TestStateGate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b")
	n := c.open("a")
	defer n.Close()
	b := newBackend(n.group)
	slow, err := b.View(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	replaced := make(chan error, 1)
	go func() { replaced <- n.group.state.replace("no snapshot: the same state is opened again", nil) }()
	until(t, func() error {
		v, err := b.View(time.Now())
		if err == nil {
			return errors.Join(errors.New("the state still takes readers"), v.Close())
		}
		var e *server.Error
		if !errors.As(err, &e) || e.Code != "LOADING" {
			t.Fatalf("a reader is told %v", err)
		}
		return nil
	})
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		n.group.answer()
		b.Status()
		n.group.nodeStatus()
		n.group.state.applied()
	}()
	soon(t, answered, "an answer to survey and status while a reader holds the state")
	select {
	case err := <-replaced:
		t.Fatalf("the state was replaced under a reader: %v", err)
	default:
	}
	if err := slow.Close(); err != nil {
		t.Fatal(err)
	}
	if err := soon(t, replaced, "the new state"); err != nil {
		t.Fatal(err)
	}
	v, err := b.View(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// A reader that never leaves ends an install with an error and the node with it, so that the next start finishes the install (R12). What the reader held is closed once
// it has left.
func TestInstallBehindReader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(_ string, o *Options) { o.CommitTimeout = 50 * time.Millisecond }, "a", "b")
	n := c.open("a")
	v, err := newBackend(n.group).View(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	installed := make(chan error, 1)
	go func() { installed <- n.group.install(t.Context(), snapshot.Manifest{}, "no snapshot", 0) }()
	if err := soon(t, installed, "the end of the install"); !errors.Is(err, errStateBusy) {
		t.Fatalf("install: %v", err)
	}
	soon(t, n.failed, "the end of the node")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); !errors.Is(err, errStateBusy) {
		t.Fatalf("close: %v, want the reason", err)
	}
	again, err := Open(c.options("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
