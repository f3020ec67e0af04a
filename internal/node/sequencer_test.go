package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// A watch ends with the epoch: what another active did meanwhile was not seen here, so EXEC must not go through after this node is active again (R13).
func TestWatchEndsWithEpoch(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	w := &server.Watcher{}
	watched := make(chan error, 1)
	c.nodes["a"].group.seq.submit(t.Context(), func(s server.Sequence) error {
		s.Watch([][]byte{[]byte("lock")}, w) // which does not exist
		return nil
	}, func(_ wal.LSN, err error) { watched <- err })
	if err := soon(t, watched, "the watch"); err != nil {
		t.Fatal(err)
	}
	c.nodes["a"].mustSet("another key")
	if w.Dirty() {
		t.Fatal("dirty without a reason")
	}
	c.promote("b")
	c.nodes["b"].mustSet("lock")
	c.settled("b")
	c.promote("a")
	if !w.Dirty() {
		t.Fatal("the key came into being on b, and EXEC would go through on a")
	}
}

// While no standby acks, no more than QueueBytes go into the log; then writes are refused as not written, and really are not (R12, R13).
func TestUncommittedIsBounded(t *testing.T) {
	t.Parallel()
	const limit, size = 256 << 10, 48 << 10
	c := newCluster(t, 1, func(_ string, o *Options) {
		o.QueueBytes, o.CommitTimeout, o.Codec = limit, 150*time.Millisecond, wal.CodecNone
	}, "a", "b")
	c.start()
	c.promote("a")
	c.settled("a")
	c.stop("b")
	a := c.nodes["a"]
	before := a.group.log.End().LSN
	value := strings.Repeat("v", size)
	var mu sync.Mutex
	var refused, unknown []string
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			key := fmt.Sprint("key ", i)
			err := a.set(key, value)
			var e *server.Error
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, server.ErrUnknown):
				unknown = append(unknown, key)
			case errors.As(err, &e) && e.Code == "NOREPLICAS":
				refused = append(refused, key)
			default:
				t.Errorf("a write that nobody acks: %v", err)
			}
		})
	}
	all.Wait()
	until(t, func() error { // the writer may be behind
		if n := int(a.group.log.End().LSN - before); n != len(unknown) {
			return fmt.Errorf("%d records are in the log, %d writes are unknown", n, len(unknown))
		}
		return nil
	})
	if n := len(unknown); n*size > limit+size || n*size < limit-size {
		t.Fatalf("%d records of %d bytes are in the log, limit %d; %d writes are refused", n, size, limit, len(refused))
	}
	c.start("b")
	c.settled("a")
	a.mustSet("after") // there is room again
	for _, k := range unknown {
		if a.get(k) != value {
			t.Errorf("%s is in the log and not in the state", k)
		}
	}
	for _, k := range refused {
		if a.get(k) != "" {
			t.Errorf("%s was refused as not written, and is there", k)
		}
	}
}

// Expired keys are deleted by records, on the active alone; the standby applies them (DESIGN section 4).
func TestExpiry(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil, "a", "b")
	c.start()
	c.promote("a")
	a := c.nodes["a"]
	a.mustSet("stays")
	at := time.Now().Add(50 * time.Millisecond)
	for i := range 20 {
		key := fmt.Appendf(nil, "goes %d", i)
		if err := a.write(func(t *kv.Txn) error { return t.Set(key, key, at.UnixMilli()) }); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(n string) int64 { return c.nodes[n].group.nodeStatus().Keys }
	until(t, func() error {
		if keys("a") != 1 || keys("b") != 1 {
			return fmt.Errorf("a has %d keys, b %d", keys("a"), keys("b"))
		}
		return nil
	})
	c.settled("a")
	frames, err := c.nodes["b"].group.logFrames(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	deleted := map[string]bool{}
	for _, f := range frames {
		for _, r := range f.Records {
			for _, e := range r.Effects {
				if strings.HasPrefix(e, "del ") {
					deleted[e] = true
				}
			}
		}
	}
	if len(deleted) != 20 {
		t.Fatalf("the standby's log deletes %d keys, want 20: %v", len(deleted), deleted)
	}
	if v, err := a.verified(t.Context()); err != nil || !v.OK {
		t.Fatalf("%+v, %v", v, err)
	}
}

// A submission that waits for room leaves with its client.
func TestRoomIsLeft(t *testing.T) {
	s := newSequencer(func() wal.LSN { return 0 }, 10, time.Hour, nil)
	s.mu.gate, s.mu.bytes = gateOpen, 11
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error, 1)
	go s.submit(ctx, func(server.Sequence) error { return errors.New("evaluated") }, func(_ wal.LSN, err error) { refused <- err })
	until(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.room == nil {
			return errors.New("the submission does not wait")
		}
		return nil
	})
	cancel()
	if err := soon(t, refused, "a refusal"); err == nil || !strings.HasPrefix(err.Error(), "NOREPLICAS") {
		t.Fatal(err)
	}
	refusal := server.ReadOnly(3, "b")
	go s.submit(t.Context(), func(server.Sequence) error { return errors.New("evaluated") }, func(_ wal.LSN, err error) { refused <- err })
	until(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.mu.room == nil {
			return errors.New("the submission does not wait")
		}
		return nil
	})
	s.stop(refusal) // the node steps down: those who wait for room are told, at once
	if err := soon(t, refused, "the refusal of a standby"); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
}
