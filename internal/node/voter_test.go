package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"repld/failover"
	"repld/internal/heartbeat"
	"repld/wal"
)

// Once the process of the active is known to be gone, a heartbeat of it that was read before and is answered late renews no promise: the next active would wait for the end of a
// lease that nobody holds (R14 holds: the dead answer no reads). A process that is heard again is promised again.
func TestNoPromiseToTheDead(t *testing.T) {
	now := failover.Mono(time.Hour)
	v, err := newVoter(voterOptions{
		peers: []string{"a", "c"}, interval: 100 * time.Millisecond, lease: 500 * time.Millisecond, clock: func() failover.Mono { return now },
		self: func() failover.Self { return failover.Self{} }, obeys: func() (wal.Epoch, string) { return 3, "a" }, heard: func(failover.Beat) {},
		acked: func(string, heartbeat.Ack, failover.Mono) {}, gone: func(string, bool) {}, logger: slog.New(slog.DiscardHandler),
		dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody") },
	})
	if err != nil {
		t.Fatal(err)
	}
	now += failover.Mono(time.Second) // what it may have promised before its start is over
	beat := failover.Beat{Node: "a", Role: failover.RoleActive, Epoch: 3, Holder: "a"}
	if !v.ack(beat).Supports {
		t.Fatal("the active is not supported")
	}
	v.note(failover.Suspected{Node: "a", Evidence: "killed", Proof: true})
	if _, left := v.left(4); left != 0 {
		t.Fatalf("the dead are owed %d", left)
	}
	if v.ack(beat).Supports {
		t.Error("the dead are supported")
	}
	if _, left := v.left(4); left != 0 {
		t.Errorf("their last words are promised %v", time.Duration(left))
	}
	v.note(failover.Recovered{Node: "a"})
	if !v.ack(beat).Supports {
		t.Error("a process that is heard again is not supported")
	}
	if _, left := v.left(4); left == 0 {
		t.Error("and nothing is owed to it")
	}
}
