package node

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"repld/internal/admin"
	"repld/internal/events"
)

// The operator's hook is asked before a promotion and aborts it by failing, with nothing changed; a change of role and an alarm are told to their hooks, in
// order, with the event as JSON; a hook that hangs is killed and holds up neither the node nor its end.
func TestHooks(t *testing.T) {
	dir := t.TempDir()
	said, veto := filepath.Join(dir, "said"), filepath.Join(dir, "veto")
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	c := newCluster(t, 1, func(name string, o *Options) {
		if name == "b" {
			o.Hooks = HookOptions{
				OnRoleChange: sh("cat >> " + said), OnAlarm: sh("sleep 1000"), Timeout: 5 * time.Second,
				PrePromote: sh(`read in; echo "asked: $in"; test ! -e ` + veto),
			}
		}
	}, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	if err := os.WriteFile(veto, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := c.nodes["b"].group.fence.Epoch()
	_, err := c.nodes["b"].promote(admin.PromoteRequest{Reason: "drill"})
	var refusal *admin.Error
	if err == nil || !errors.As(err, &refusal) || refusal.Code != admin.CodeRefused || !strings.Contains(refusal.Message, "hook") {
		t.Fatalf("promoted against the hook: %v", err)
	}
	if now := c.nodes["b"].group.fence.Epoch(); now != before || !c.nodes["a"].group.active() {
		t.Fatalf("epoch %d, was %d: %s", now, before, c)
	}
	if err := os.Remove(veto); err != nil {
		t.Fatal(err)
	}
	c.promote("b")
	c.settled("b")
	until(t, func() error {
		text, err := os.ReadFile(said)
		if err == nil && !strings.Contains(string(text), `"new":"active"`) {
			return errText("the hook has heard " + string(text))
		}
		return err
	})
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	if candidate := strings.Index(string(text), `"new":"candidate"`); candidate < 0 || candidate > strings.Index(string(text), `"new":"active"`) || !strings.Contains(string(text), `"cluster":"shop"`) {
		t.Errorf("the hook has heard %s", text)
	}
	var asked int
	all, _ := c.nodes["b"].events.Since(0, 0)
	for _, e := range all {
		if e.Kind == events.Hook && e.Text("hook") == "pre_promote" && strings.Contains(e.Text("output"), `"reason":`) {
			asked++
		}
	}
	if asked < 2 {
		t.Errorf("pre_promote is %d times in the journal", asked)
	}
	c.nodes["b"].group.alarms.raise("drill", "an alarm whose hook hangs")
	c.nodes["b"].mustSet("k")
	c.stop("b") // within the bounds of a stop, or the test fails
}

type errText string

func (e errText) Error() string { return string(e) }

// A pre_promote that does not end in time has failed; one that says no to the target of a switchover leaves the old active active. An alarm is told when it begins and when it ends, in order,
// with its event as JSON on standard input.
func TestHooksRefuseAndTell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	c := newCluster(t, 1, func(name string, o *Options) {
		switch name {
		case "b":
			o.Hooks = HookOptions{PrePromote: []string{"/bin/sleep", "1000"}, Timeout: 200 * time.Millisecond}
		case "c":
			o.Hooks = HookOptions{PrePromote: []string{"/bin/false"}, OnAlarm: []string{"/bin/sh", "-c", "cat >> " + said + "; echo >> " + said}}
		}
	}, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	epoch := c.nodes["a"].epoch()
	var refusal *admin.Error
	if _, err := c.nodes["b"].promote(admin.PromoteRequest{}); !errors.As(err, &refusal) || refusal.Code != admin.CodeRefused || !strings.Contains(err.Error(), "hook") {
		t.Errorf("a hook that hangs: %v", err)
	}
	if r, err := c.nodes["a"].switchover(admin.SwitchoverRequest{To: "c"}); err == nil || !strings.Contains(err.Error(), "hook") {
		t.Errorf("a hook that says no to the target of a switchover: %+v, %v", r, err)
	}
	c.nodes["a"].mustSet("goes on")
	if c.nodes["a"].epoch() != epoch || c.nodes["b"].epoch() != epoch || c.nodes["c"].epoch() != epoch {
		t.Fatalf("something was changed: %s", c)
	}
	alarms := c.nodes["c"].group.alarms
	alarms.raise("drill", "the drill has begun")
	alarms.clear("drill")
	until(t, func() error {
		text, err := os.ReadFile(said)
		if err != nil {
			return err
		}
		var kinds []events.Kind
		for line := range strings.Lines(string(text)) {
			var in hookInput
			if strings.TrimSpace(line) == "" {
				continue
			}
			if err := json.Unmarshal([]byte(line), &in); err != nil {
				return err // half written
			}
			if in.Hook == "on_alarm" && in.Node == "c" && in.Event != nil && strings.Contains(line, "drill") {
				kinds = append(kinds, in.Event.Kind)
			}
		}
		if !slices.Equal(kinds, []events.Kind{events.Alarm, events.Cleared}) {
			return errText("on_alarm has heard " + string(text))
		}
		return nil
	})
}
