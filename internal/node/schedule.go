package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/admin"
	"repld/internal/durable"
	"repld/internal/events"
)

const (
	scheduleFile = "switchover"
	// maxSchedule is how far ahead a switchover may be scheduled: nobody remembers for longer what is to happen by itself.
	maxSchedule = 7 * 24 * time.Hour
	// scheduleGrace is how late a scheduled switchover may begin: the node was restarting, or the target was not ready. Later it would come as a surprise.
	scheduleGrace = time.Minute
	scheduleLook  = 100 * time.Millisecond
	maxScheduled  = 16 << 10 // bytes of the file
)

// schedule is the switchover that a person planned for later, on the node that is to hand over: the file `switchover`, so that it outlives a restart. One at a time. It ends when it
// was tried, was cancelled, comes too late, or another node holds the epoch: then what the person had in mind is over.
type schedule struct {
	fs      vfs.FS
	path    string
	changed chan struct{} // capacity 1

	mu struct {
		sync.Mutex
		next  *admin.Scheduled
		begun bool // next is under way
	}
}

// open reads what was planned before the start. A file that cannot be understood plans nothing: bad says why.
func (s *schedule) open(files vfs.FS, path string) (bad, err error) {
	s.fs, s.path, s.changed = files, path, make(chan struct{}, 1)
	f, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxScheduled))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	next := new(admin.Scheduled)
	if err := json.Unmarshal(text, next); err != nil || next.At.IsZero() {
		return fmt.Errorf("%s: %q is no scheduled switchover", path, text[:min(len(text), 100)]), nil
	}
	s.mu.next = next
	return nil, nil
}

func (s *schedule) get() *admin.Scheduled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.next
}

// set plans next, durably. Asked for the same again it changes nothing and says so.
func (s *schedule) set(next admin.Scheduled) (already bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.mu.next; old != nil {
		if old.To == next.To && old.At.Equal(next.At) {
			return true, nil
		}
		return false, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("a switchover to %s is scheduled at %s already: cancel it with replctl switchover --cancel", old.Whom(), old.At.UTC().Format(time.RFC3339))}
	}
	text, err := json.Marshal(next)
	if err == nil {
		err = writeWhole(s.fs, s.path, text)
	}
	if err != nil {
		return false, fmt.Errorf("schedule a switchover: %w", err)
	}
	s.mu.next = &next
	s.kick()
	return false, nil
}

// cancel forgets what is planned, unless it has begun; nil when there was nothing.
func (s *schedule) cancel() (*admin.Scheduled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.begun {
		return nil, &admin.Error{Code: admin.CodeRefused, Message: "the scheduled switchover has begun"}
	}
	return s.forgetLocked()
}

// begin marks next as under way, false if it was cancelled meanwhile.
func (s *schedule) begin(next *admin.Scheduled) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.begun = s.mu.next == next
	return s.mu.begun
}

// end forgets next after it was tried, or will not be.
func (s *schedule) end(next *admin.Scheduled) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.next != next {
		return nil // cancelled
	}
	s.mu.begun = false
	_, err := s.forgetLocked()
	return err
}

// forgetLocked removes the file first: what is not planned here must not be planned after a restart either. If that fails it is forgotten all the same, by the running node.
func (s *schedule) forgetLocked() (old *admin.Scheduled, err error) {
	if s.mu.next == nil {
		return nil, nil
	}
	if err = s.fs.Remove(s.path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = durable.SyncDir(s.fs, s.fs.PathDir(s.path))
	}
	old, s.mu.next = s.mu.next, nil
	s.kick()
	if err != nil {
		err = fmt.Errorf("the scheduled switchover is off, but would be on again after a restart: %w", err)
	}
	return old, err
}

func (s *schedule) kick() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// later plans a switchover at a person's word.
func (a adminAPI) later(req admin.SwitchoverRequest) (admin.PromoteResult, error) {
	if ahead := time.Until(req.At); ahead > maxSchedule || ahead < 0 {
		return admin.PromoteResult{}, &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("%s is not within the next %s", req.At.Format(time.RFC3339), maxSchedule)}
	}
	if len(a.o.Peers) == 0 || req.To == a.o.Name || req.To != "" && !slices.Contains(a.nodes(), req.To) {
		return admin.PromoteResult{}, &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("%q is not another node that holds data", req.To)}
	}
	next := admin.Scheduled{At: req.At.UTC(), To: req.To, Reason: req.Reason, From: a.o.Name}
	already, err := a.schedule.set(next)
	if err != nil {
		return admin.PromoteResult{}, err
	}
	if !already {
		a.events.Record(events.Promotion, "switchover scheduled", slog.String("to", next.To), slog.Time("at", next.At), slog.String("reason", next.Reason))
	}
	return admin.PromoteResult{Node: req.To, Allowed: true, Already: already, Previous: a.fence.Epoch(), Scheduled: &next}, nil
}

// unschedule cancels what is planned here. Without a plan it changes nothing.
func (a adminAPI) unschedule() (admin.PromoteResult, error) {
	old, err := a.schedule.cancel()
	if old != nil {
		a.events.Record(events.Promotion, "scheduled switchover cancelled", slog.String("to", old.To), slog.Time("at", old.At))
	}
	return admin.PromoteResult{Scheduled: old}, err
}

// keepSchedule carries a scheduled switchover out when its time has come.
func (g *group) keepSchedule(ctx context.Context) error {
	look := time.NewTicker(scheduleLook)
	defer look.Stop()
	for {
		tick := look.C
		next := g.schedule.get()
		if next == nil {
			tick = nil
		} else if why := g.scheduled(ctx, next); why != "" {
			g.events.Record(events.Promotion, "scheduled switchover ended", slog.String("to", next.To), slog.Time("at", next.At), slog.String("outcome", why))
			g.logger.Info("scheduled switchover ended", "to", next.Whom(), "at", next.At, "outcome", why)
			if err := g.schedule.end(next); err != nil {
				g.logger.Error("schedule not forgotten", "error", err)
			}
			continue
		}
		select {
		case <-tick:
		case <-g.schedule.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// scheduled looks at what is planned and carries it out if it is time; it says how that ended, "" while there is more to wait for. What is not possible yet is tried again until the
// grace is over; a hand-over that failed is not: it has held writes up once.
func (g *group) scheduled(ctx context.Context, next *admin.Scheduled) string {
	late := time.Since(next.At)
	why := ""
	switch holder := g.otherHolder(); {
	case holder != "":
		return fmt.Sprintf("off: %s holds epoch %d by now", holder, g.fence.Epoch())
	case late < 0:
		return ""
	case !g.active():
		why = "node " + g.o.Name + " was not active then"
	case late <= scheduleGrace:
		if _, err := g.switchoverPlan(next.To); err != nil {
			return "" // not ready yet
		}
		if !g.schedule.begin(next) {
			return "" // cancelled
		}
		reason := next.Reason
		if reason == "" {
			reason = "scheduled"
		}
		r, err := g.switchover(ctx, next.To, reason, nil)
		if ctx.Err() != nil {
			return "" // the node stops: whoever starts it again finds the plan as it is
		}
		if err != nil {
			return "failed: " + err.Error()
		}
		return fmt.Sprintf("%s is active in epoch %d", r.Node, r.Epoch)
	default:
		_, err := g.switchoverPlan(next.To)
		why = fmt.Sprint(err)
		if err == nil {
			why = "its time passed while the node did not run"
		}
	}
	if late <= scheduleGrace {
		return ""
	}
	return fmt.Sprintf("off, %s late: %s", late.Round(time.Second), why)
}
