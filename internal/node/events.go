package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/durable"
	"repld/internal/events"
	"repld/replicate"
	"repld/wal"
)

// openEvents opens the node's journal. What goes wrong with it later is an alarm, never a reason to stop.
func (n *Node) openEvents() (err error) {
	dir := n.o.FS.PathJoin(n.o.Dir, "events")
	if err := durable.MakeDir(n.o.FS, dir); err != nil {
		return err
	}
	n.events, err = events.Open(events.Options{FS: n.o.FS, Dir: dir, Logger: n.logger, OnTrouble: n.journalTrouble})
	return err
}

const alarmJournal = "event-journal"

func (n *Node) journalTrouble(err error) {
	if err == nil {
		n.group.alarms.clear(alarmJournal)
		return
	}
	n.group.alarms.raise(alarmJournal, fmt.Sprintf("the event journal cannot be written: %v", err))
}

// opened notes how this life begins.
func (n *Node) opened() {
	g := n.group
	n.events.Record(events.Start, "node opened", slog.String("node", n.o.Name), slog.String("version", n.o.Version), slog.String("incarnation", n.id.Incarnation),
		slog.Uint64("epoch", uint64(g.fence.Epoch())), slog.String("holder", g.holder()), slog.Any("log_end", g.log.End()),
		slog.Uint64("applied", uint64(g.state.applied().LSN)), slog.Bool("clean", g.recovery.Clean))
	if g.recovery.Doubt {
		n.events.Record(events.Repair, "damaged tail of the log was cut", slog.Any("log_end", g.log.End()))
	}
}

// closes notes why the node ends.
func (n *Node) closes() {
	select {
	case <-n.failed:
		n.events.Record(events.Stop, "node stops because it failed", slog.Any("error", n.failure))
	default:
		n.events.Record(events.Stop, "node stops as asked")
	}
}

// witness notes what the parts of the group tell of themselves.
func (g *group) witness() {
	g.runner.Subscribe((&roleWatch{g: g}).changed)
	g.fence.OnRise(func(e wal.Epoch, holder string) {
		g.events.Record(events.Epoch, "epoch promised", slog.Uint64("epoch", uint64(e)), slog.String("holder", holder))
	})
}

// roleWatch follows the role to tell how long a promotion took.
type roleWatch struct {
	g     *group
	mu    sync.Mutex
	began time.Time // this node became a candidate
}

// changed runs on the runner's goroutine: it must not wait.
func (w *roleWatch) changed(c failover.RoleChange) {
	attrs := []slog.Attr{slog.String("old", string(c.Old)), slog.String("new", string(c.New)), slog.Uint64("epoch", uint64(c.Epoch)), slog.String("reason", c.Reason)}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch c.New {
	case failover.RoleCandidate:
		w.began = time.Now()
	case failover.RoleActive:
		if !w.began.IsZero() {
			attrs = append(attrs, slog.Float64("took_ms", float64(time.Since(w.began).Microseconds())/1000))
		}
		w.began = time.Time{}
	default:
		w.began = time.Time{}
	}
	w.g.events.Record(events.Role, "role changed", attrs...)
}

// divergedEvent notes a suffix that was set aside (R9).
func (g *group) divergedEvent(d wal.Diverged) {
	g.events.Record(events.Diverged, "suffix of the log set aside", slog.Uint64("from", uint64(d.From.LSN+1)), slog.Uint64("to", uint64(d.To.LSN)),
		slog.Uint64("records", d.Records), slog.String("path", d.Path), slog.String("reason", d.Reason))
}

// regressEvent notes that a standby lost what it had acked (R11).
func (g *group) regressEvent(standby string, r replicate.Regress) {
	g.events.Record(events.Repair, "standby lost records that it had acked", slog.String("standby", standby), slog.Uint64("had", uint64(r.Had)),
		slog.Uint64("has", uint64(r.Has)), slog.String("reason", r.Reason))
}

// journal is the part that writes the events.
func (n *Node) journal(ctx context.Context) error { return n.events.Run(ctx) }
