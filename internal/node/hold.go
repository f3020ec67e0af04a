package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/durable"
)

// hold keeps a standby's state where it is, at a person's word: the log goes on being received, fsynced and acked, but nothing more is applied. It is a file, so
// that it outlives a restart: whoever decides what to do about a mistake must not lose the last good state to a crash in between.
type hold struct {
	mu    sync.Mutex
	since *admin.Hold // nil while not held
}

// Names of the file and of the alarm.
const (
	holdFile  = "hold"
	alarmHeld = "held"
)

// openHold reads the file that an earlier process left. A file that cannot be read holds as well: it was written for a reason.
func (g *group) openHold() error {
	f, err := g.o.FS.Open(g.path(holdFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", g.path(holdFile), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %s: %w", g.path(holdFile), err)
	}
	h := admin.Hold{}
	if err := json.Unmarshal(b, &h); err != nil {
		h.Reason = "by a file that cannot be read"
	}
	g.holdApplier(h)
	return nil
}

// holdApplier stops the applier in memory and says so.
func (g *group) holdApplier(h admin.Hold) {
	g.hold.since = &h
	g.applier.hold(true)
	g.alarms.raise(alarmHeld, fmt.Sprintf("%s is held since %s (%s): it applies nothing, and its log grows until it is released or promoted", g.o.Name, h.Since.UTC().Format(time.RFC3339), h.Reason))
}

// held says since when and why nothing is applied, nil if that is not so.
func (g *group) held() *admin.Hold {
	g.hold.mu.Lock()
	defer g.hold.mu.Unlock()
	return g.hold.since
}

// Hold implements admin.Handler. When it returns, nothing more is applied, and that is durable.
func (a adminAPI) Hold(ctx context.Context, req admin.HoldRequest, emit func(admin.Event)) (admin.HoldResult, error) {
	if other := req.Node; other != "" && other != a.o.Name {
		req.Node = ""
		end, err := a.forward(ctx, other, admin.PathHold, req, emit)
		return value(end.Hold), err
	}
	var err error
	if req.Release {
		err = a.release()
	} else {
		err = a.holdNow(req.Reason)
	}
	if err != nil {
		return admin.HoldResult{}, err
	}
	r := admin.HoldResult{Node: a.o.Name, Hold: a.held(), Applied: a.state.applied(), Durable: a.log.Durable()}
	if next := r.Applied.LSN + 1; next <= r.Durable.LSN {
		if t, err := a.log.TimeOf(next); err == nil {
			r.Next = t
		}
	}
	return r, nil
}

// holdNow stops the applier first, then makes that durable. Called again it changes nothing.
func (g *group) holdNow(reason string) error {
	if g.active() {
		return &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("node %s is the active: its state holds every write that it answered", g.o.Name)}
	}
	g.hold.mu.Lock()
	defer g.hold.mu.Unlock()
	if g.hold.since != nil {
		return nil
	}
	if reason == "" {
		reason = "by hand"
	}
	h := admin.Hold{Since: time.Now().UTC(), Reason: reason}
	g.holdApplier(h)
	b, err := json.Marshal(h)
	if err == nil {
		err = g.writeHold(b)
	}
	if err != nil {
		return fmt.Errorf("the node is held, but would not be after a restart: %w", err)
	}
	g.logger.Warn("held: nothing more is applied", "applied", g.state.applied(), "reason", reason)
	return nil
}

func (g *group) writeHold(b []byte) error {
	f, err := g.o.FS.Create(g.path(holdFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.SyncDir(g.o.FS, g.dir)
}

// release forgets the hold on disk, then lets the applier go on.
func (g *group) release() error {
	g.hold.mu.Lock()
	defer g.hold.mu.Unlock()
	err := g.o.FS.Remove(g.path(holdFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("release: %w", err)
	}
	if err := durable.SyncDir(g.o.FS, g.dir); err != nil {
		return err
	}
	if g.hold.since == nil {
		return nil
	}
	g.hold.since = nil
	g.alarms.clear(alarmHeld)
	g.applier.hold(false)
	g.logger.Warn("released: the state goes on following the log", "applied", g.state.applied())
	return nil
}

// hold stops the applier, or lets it go on. When hold(true) returns, a step that was going on has ended, and no other begins but in a promotion (hurry).
func (a *applier) hold(on bool) {
	a.held.Store(on)
	func() {
		a.step.Lock() // waits for the step that may be going on
		defer a.step.Unlock()
	}()
	a.kick()
}
