package node

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/events"
)

func (m *member) switchover(req admin.SwitchoverRequest) (admin.PromoteResult, error) {
	return adminAPI{m.group}.Switchover(m.t.Context(), req, func(admin.Event) {})
}

// outcome waits for how a scheduled switchover ended, as the journal says it.
func (m *member) outcome(since uint64) (text string) {
	m.t.Helper()
	until(m.t, func() error {
		all, _ := m.events.Since(since, 1000)
		for _, e := range all {
			if text = e.Text("outcome"); e.Kind == events.Promotion && text != "" {
				return nil
			}
		}
		return errors.New("the journal does not say how the scheduled switchover ended")
	})
	return text
}

// A scheduled switchover outlives a restart of the node and is carried out when its time has come; until then status shows it.
func TestScheduledSwitchover(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	c.nodes["b"].mustSchedule(t, admin.SwitchoverRequest{To: "c", At: time.Now().Add(time.Hour), Reason: "kernel"}) // whoever is asked passes it on
	old := c.nodes["a"]
	planned := *old.group.schedule.get()
	c.stop("a")
	at := time.Now().UTC() // an hour is over
	planned.At = at
	text, err := json.Marshal(planned)
	if err == nil {
		err = writeWhole(old.o.FS, old.group.path(scheduleFile), text)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.start("a")
	a := c.nodes["a"]
	if s := a.Status(t.Context(), true).Nodes[0].Failover.Scheduled; s == nil || s.To != "c" || !s.At.Equal(at) || s.From != "a" || s.Reason != "kernel" {
		t.Fatalf("after a restart status shows %+v", s)
	}
	c.promote("a")
	c.settled("c")
	if why := a.outcome(0); !strings.Contains(why, "c is active in epoch") {
		t.Fatal(why)
	}
	if s := a.group.schedule.get(); s != nil || exists(a.o.FS, a.group.path(scheduleFile)) {
		t.Fatalf("it is still planned: %+v", s)
	}
	rec, err := c.nodes["c"].group.token.Load(t.Context())
	if err != nil || !strings.Contains(rec.Reason, "switchover") {
		t.Fatalf("%+v, %v", rec, err)
	}
}

func (m *member) mustSchedule(t *testing.T, req admin.SwitchoverRequest) {
	t.Helper()
	if r, err := m.switchover(req); err != nil || r.Scheduled == nil || r.Already {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Said twice it is scheduled once; another one is refused; cancelled twice it is cancelled, and a restart does not bring it back.
func TestScheduleIsOne(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	a, b := c.nodes["a"], c.nodes["b"]
	at := time.Now().Add(time.Hour)
	a.mustSchedule(t, admin.SwitchoverRequest{To: "b", At: at})
	if r, err := b.switchover(admin.SwitchoverRequest{To: "b", At: at}); err != nil || !r.Already {
		t.Errorf("the same again: %+v, %v", r, err)
	}
	var fault *admin.Error
	for code, req := range map[string]admin.SwitchoverRequest{
		admin.CodeRefused + "1": {To: "c", At: at}, admin.CodeRefused + "2": {To: "b", At: at.Add(time.Minute)},
		admin.CodeUsage + "1": {To: "x", At: at}, admin.CodeUsage + "2": {To: "a", At: at}, admin.CodeUsage + "3": {At: at.Add(-2 * time.Hour)}, admin.CodeUsage + "4": {At: at.Add(maxSchedule)},
	} {
		if r, err := a.switchover(req); !errors.As(err, &fault) || fault.Code != code[:len(code)-1] {
			t.Errorf("%+v: %+v, %v; want %s", req, r, err, code[:len(code)-1])
		}
	}
	if r, err := b.switchover(admin.SwitchoverRequest{Cancel: true}); err != nil || r.Scheduled == nil || r.Scheduled.To != "b" {
		t.Errorf("cancel: %+v, %v", r, err)
	}
	if r, err := a.switchover(admin.SwitchoverRequest{Cancel: true}); err != nil || r.Scheduled != nil {
		t.Errorf("cancel again: %+v, %v", r, err)
	}
	c.stop("a")
	c.start("a")
	if s := c.nodes["a"].group.schedule.get(); s != nil {
		t.Errorf("a restart brought it back: %+v", s)
	}
	c.promote("a")
	// A switchover to whom has it already changes nothing, too.
	epoch := c.nodes["a"].epoch()
	if r, err := c.nodes["a"].switchover(admin.SwitchoverRequest{To: "a"}); err != nil || !r.Already || uint64(r.Epoch) != epoch || c.nodes["a"].epoch() != epoch {
		t.Errorf("switchover to the active: %+v, %v", r, err)
	}
}

// Another active makes a plan void, and so does time that passed while the node was away: it must not hand over when nobody expects it any more.
func TestScheduleIsOff(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	a := c.nodes["a"]
	a.mustSchedule(t, admin.SwitchoverRequest{To: "c", At: time.Now().Add(time.Hour)})
	before := a.events.Last()
	c.promote("b")
	if why := a.outcome(before); !strings.Contains(why, "b holds epoch") {
		t.Fatal(why)
	}
	c.settled("b")
	b := c.nodes["b"]
	c.stop("b")
	text, err := json.Marshal(admin.Scheduled{At: time.Now().Add(-2 * scheduleGrace), To: "c"})
	if err == nil {
		err = writeWhole(b.o.FS, b.group.path(scheduleFile), text)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.start("b")
	b = c.nodes["b"]
	if why := b.outcome(0); !strings.Contains(why, "late") {
		t.Fatal(why)
	}
	if exists(b.o.FS, b.group.path(scheduleFile)) {
		t.Fatal("a plan that is off is still on disk")
	}
}

// What cannot be made durable is not planned; what cannot be understood plans nothing and stops nobody.
func TestScheduleFile(t *testing.T) {
	files := vfs.NewMem()
	var s schedule
	if bad, err := s.open(files, "missing/switchover"); bad != nil || err != nil {
		t.Fatal(bad, err)
	}
	if _, err := s.set(admin.Scheduled{At: time.Unix(1, 0)}); err == nil || s.get() != nil {
		t.Fatalf("planned without a file: %v", err)
	}
	for _, text := range []string{"", "{", "{}", "null", `{"at":"now"}`} {
		if err := writeWhole(files, "switchover", []byte(text)); err != nil {
			t.Fatal(err)
		}
		var s schedule
		if bad, err := s.open(files, "switchover"); bad == nil || err != nil || s.get() != nil {
			t.Errorf("%q: %v, %v, planned %+v", text, bad, err, s.get())
		}
		if already, err := s.set(admin.Scheduled{At: time.Unix(1, 0)}); already || err != nil {
			t.Errorf("over %q: %v", text, err)
		}
	}
}
