package node

import (
	"log/slog"

	"repld/internal/admin"
	"repld/internal/events"
)

var _ admin.Auditor = adminAPI{}

// Audit implements admin.Auditor: each request that changes something leaves a line in log and journal, with who asked and the epochs before and after.
func (a adminAPI) Audit(who admin.Caller, verb, request string) func(error) {
	before := a.fence.Epoch()
	return func(err error) {
		attrs := []slog.Attr{
			slog.String("verb", verb), slog.String("who", who.String()), slog.Uint64("old_epoch", uint64(before)),
			slog.Uint64("new_epoch", uint64(a.fence.Epoch())), slog.String("request", request), slog.Bool("ok", err == nil),
		}
		if who.Known {
			attrs = append(attrs, slog.Int("uid", who.UID), slog.Int("pid", who.PID))
		}
		if err != nil {
			attrs = append(attrs, slog.Any("error", err))
		}
		a.events.Record(events.Audit, "admin request", attrs...)
		args := make([]any, 0, len(attrs))
		for _, x := range attrs {
			args = append(args, x)
		}
		a.logger.Info("audit", args...)
	}
}

// Refused notes that a process was not let in.
func (n *Node) Refused(what string, who admin.Caller) { refusedProcess(n.events, what, who) }

// Refused notes that a process was not let in.
func (w *Witness) Refused(what string, who admin.Caller) { refusedProcess(w.events, what, who) }

func refusedProcess(journal *events.Log, what string, who admin.Caller) {
	journal.Record(events.Refused, "connection of a process refused", slog.String("at", what), slog.Int("uid", who.UID), slog.Int("gid", who.GID), slog.Int("pid", who.PID))
}
