package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// The target's hook is asked while clients still write; its veto ends the switchover with nothing changed, and its assent is not asked for again while they wait.
func TestSwitchoverPreparesFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	asked, reply := filepath.Join(dir, "asked"), filepath.Join(dir, "reply")
	c := newCluster(t, 1, func(name string, o *Options) {
		if name == "b" {
			o.Hooks = HookOptions{Timeout: patience, PrePromote: []string{"/bin/sh", "-c",
				"echo asked >> " + asked + "; while ! test -s " + reply + "; do sleep 0.01; done; test $(cat " + reply + ") = yes"}}
		}
	}, "a", "b", "c")
	c.start()
	c.promote("a")
	c.settled("a")
	epoch := c.nodes["a"].epoch()
	for _, answer := range []string{"no", "yes"} {
		_ = os.Remove(asked) // the first time there is none
		_ = os.Remove(reply)
		done := make(chan error, 1)
		begin := func() {
			_, err := c.nodes["a"].group.switchover(t.Context(), "b", "test", nil)
			done <- err
		}
		go begin()
		until(t, func() error {
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), "not ready") { // its acks count a moment after it has caught up
					t.Fatalf("over before the hook was asked: %v", err)
				}
				go begin()
			default:
			}
			_, err := os.Stat(asked)
			return err
		})
		c.nodes["a"].mustSet("while the hook thinks") // writes are not paused
		if err := os.WriteFile(reply, []byte(answer), 0o600); err != nil {
			t.Fatal(err)
		}
		err := <-done
		var fault *admin.Error
		switch {
		case answer == "yes" && err != nil:
			t.Fatal(err)
		case answer == "no" && (!errors.As(err, &fault) || fault.Code != admin.CodeRefused || !strings.Contains(err.Error(), "hook")):
			t.Fatalf("the hook said no: %v", err)
		case answer == "no" && (c.nodes["a"].epoch() != epoch || !c.nodes["a"].group.active()):
			t.Fatalf("a veto changed something: %s", c)
		}
	}
	if text, err := os.ReadFile(asked); err != nil || strings.Count(string(text), "asked") != 1 {
		t.Fatalf("the hook was asked again while clients waited: %q, %v", text, err)
	}
	c.settled("b")
	if now := c.nodes["b"].epoch(); now != epoch+1 {
		t.Fatalf("epoch %d after %d", now, epoch)
	}
}

// A preparation counts once, in the epoch in which it was made, and not for long.
func TestPreparationExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h handover
		prepare := func() {
			h.seen, h.epoch, h.before = new(failover.SurveyDone), 7, time.Now().Add(prepareKeeps)
		}
		prepare()
		if h.take(7) == nil || h.take(7) != nil {
			t.Error("a preparation does not count once")
		}
		prepare()
		if h.take(8) != nil || h.take(7) != nil {
			t.Error("a preparation counts in another epoch")
		}
		prepare()
		ctx, cancel := context.WithTimeout(t.Context(), prepareKeeps)
		defer cancel()
		<-ctx.Done()
		if h.take(7) != nil {
			t.Error("a preparation counts too long")
		}
	})
}

// A standby waits for the candidate that it granted the epoch, until the epoch begins, something else does, or its time is over (R12).
func TestServingAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, begins := range []wal.Epoch{0, 4, 5} {
			var s serving
			began := time.Now()
			done := make(chan struct{})
			go func() {
				s.await(4, time.Second)
				close(done)
			}()
			synctest.Wait()
			if begins > 0 {
				s.set(begins)
				synctest.Wait()
			}
			<-done
			if waited := time.Since(began); (waited == time.Second) != (begins == 0) {
				t.Errorf("waited %v, epoch %d began", waited, begins)
			}
			s.set(4)
			s.await(4, time.Hour) // at once
			if time.Since(began) > time.Second {
				t.Error("waits for what is there")
			}
		}
	})
}
