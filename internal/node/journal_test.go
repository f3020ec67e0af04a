package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"repld/internal/admin"
	"repld/internal/events"
)

// kinds counts a node's events by kind.
func (m *member) kinds() map[events.Kind]int {
	all, _ := m.events.Since(0, 0)
	n := map[events.Kind]int{}
	for _, e := range all {
		n[e.Kind]++
	}
	return n
}

// The history names every epoch with holder, beginning and reason on every node, also after they were all started again, and how long it took as the holder's
// journal knows. The journal outlives the restart.
func TestHistory(t *testing.T) {
	c := three(t, nil)
	c.nodes["a"].mustSet("k1", "k2")
	for _, next := range []string{"b", "c", "b", "a"} {
		c.promote(next)
		c.settled(next)
		c.nodes[next].mustSet("k3")
	}
	check := func() {
		t.Helper()
		for _, name := range c.names {
			var all []admin.Epoch
			until(t, func() (err error) {
				if all, err = (adminAPI{c.nodes[name].group}).History(t.Context(), false); err != nil {
					return err
				}
				for _, e := range all {
					if e.Source == fromLog && e.Millis == 0 {
						return fmt.Errorf("%s: epoch %d of %s took an unknown time: %+v", name, e.Epoch, e.Holder, all)
					}
				}
				return nil
			})
			var holders []string
			for i, e := range all {
				if e.Source != fromLog {
					continue // granted, not used
				}
				holders = append(holders, e.Holder)
				if e.Time.IsZero() || e.Start == 0 || e.Reason == "" || e.Records == 0 || i > 0 && e.From.LSN != e.Start-1 {
					t.Errorf("%s: epoch %+v", name, e)
				}
			}
			if want := []string{"a", "b", "c", "b", "a"}; !slices.Equal(holders, want) {
				t.Errorf("%s: holders %v, want %v", name, holders, want)
			}
		}
	}
	check()
	for _, name := range c.names {
		c.stop(name)
	}
	c.start()
	check()
	n := c.nodes["a"].kinds()
	if n[events.Start] != 2 || n[events.Stop] != 1 || n[events.Role] < 4 || n[events.Epoch] < 5 || n[events.Peer] == 0 {
		t.Errorf("events of a: %v", n)
	}
}

// A request that changes something is accounted for with the kernel's word on who asked, on the node that was asked and on the one that it was passed on to; one
// that only asks is not.
func TestAudit(t *testing.T) {
	c := three(t, nil)
	path := filepath.Join(t.TempDir(), "adm")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: c.nodes["c"].Handler(), ConnContext: admin.WithCaller}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	defer func() {
		_ = s.Close()
		<-done
	}()
	client := admin.NewClient(path)
	defer client.Close()
	if _, err := client.Status(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	until(t, func() error {
		_, err := client.Promote(t.Context(), admin.PromoteRequest{Node: "b", Reason: "drill"}, nil)
		return err
	})
	audits := func(name string) (out []events.Event) {
		all, _ := c.nodes[name].events.Since(0, 0)
		for _, e := range all {
			if e.Kind == events.Audit && e.Text("ok") == "true" {
				out = append(out, e)
			}
		}
		return out
	}
	for name, who := range map[string]string{"c": "uid ", "b": "node c for uid "} {
		all := audits(name)
		if len(all) != 1 {
			t.Fatalf("%s: %d audit lines: %+v", name, len(all), all)
		}
		if e := all[0]; e.Text("verb") != "promote" || len(e.Text("who")) <= len(who) || e.Text("who")[:len(who)] != who || e.Text("old_epoch") != "1" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if got := audits("b")[0].Text("new_epoch"); got != "2" {
		t.Errorf("new epoch %s", got)
	}
	n := 0
	err = client.Events(t.Context(), admin.EventsRequest{}, func(events.Event) error { n++; return nil })
	if all, _ := c.nodes["c"].events.Since(0, 0); err != nil || n == 0 || n > len(all) {
		t.Errorf("%d events over the socket, %v", n, err)
	}
}

// replctl events --follow: what is there comes first, then what happens, as it happens, until the one who asked leaves.
func TestEventsAreFollowed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, nil, "a")
	c.start()
	path := filepath.Join(t.TempDir(), "adm")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: c.nodes["a"].Handler()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	defer func() {
		_ = s.Close()
		<-done
	}()
	client := admin.NewClient(path)
	defer client.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	told := make(chan events.Event, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- client.Events(ctx, admin.EventsRequest{Follow: true}, func(e events.Event) error { told <- e; return nil })
	}()
	last := uint64(0)
	next := func(what string) {
		t.Helper()
		for {
			e := soon(t, told, "the event "+what)
			if e.Seq <= last {
				t.Fatalf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
			if e.Msg == what {
				return
			}
		}
	}
	next("node opened")
	for _, what := range []string{"first", "second"} {
		c.nodes["a"].events.Record(events.Repair, what)
		next(what)
	}
	leave()
	if err := soon(t, ended, "the end"); err != nil {
		t.Error(err)
	}
}
