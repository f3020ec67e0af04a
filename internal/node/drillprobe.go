package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"repld/internal/admin"
	"repld/internal/events"
	"repld/internal/hooks"
)

// drills is what a node knows of its drills.
type drills struct {
	running sync.Mutex
	last    atomic.Pointer[admin.DrillResult]
	at      func(stage string) // for tests; nil
}

const probeKey = "repld:drill"

// listen serves the fork's clients on a socket of its own, in a folder that nobody else may enter.
func (d *drill) listen(n *Node) (path string, closed func() error, err error) {
	dir, err := os.MkdirTemp("", "repld-drill-")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	done := make(chan error, 1)
	go func() { done <- n.ServeClients(l, false) }()
	return path, func() error {
		err := l.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		<-done
		return errors.Join(err, os.RemoveAll(dir))
	}, nil
}

// probe writes and reads a key as a client does, until that works: then the fork serves.
func (d *drill) probe(ctx context.Context, socket string, ended <-chan struct{}) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	in := bufio.NewReader(c)
	value := fmt.Sprint(d.out.At.UnixNano())
	ask := func(line string) (string, error) {
		if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
			return "", err
		}
		text, err := in.ReadString('\n')
		return strings.TrimSpace(text), err
	}
	retry := time.NewTicker(2 * time.Millisecond)
	defer retry.Stop()
	for {
		answer, err := ask("SET " + probeKey + " " + value)
		if err != nil {
			return fmt.Errorf("probe: %w", errors.Join(err, context.Cause(ctx)))
		}
		if answer == "+OK" {
			break
		}
		d.out.Probe = answer
		select {
		case <-retry.C:
		case <-ended:
			return fmt.Errorf("the fork ended while it was to take over; its last answer was %q", answer)
		case <-ctx.Done():
			return fmt.Errorf("probe: the fork still answers %q: %w", answer, context.Cause(ctx))
		}
	}
	answer, err := ask("GET " + probeKey)
	if err == nil && strings.HasPrefix(answer, "$") {
		answer, err = in.ReadString('\n')
	}
	if answer = strings.TrimSpace(answer); err != nil || answer != value {
		return fmt.Errorf("probe: read %q instead of %q: %w", answer, value, err)
	}
	d.out.Probe = "SET and GET"
	return nil
}

// command runs the probe of the configuration.
func (d *drill) command(ctx context.Context, socket string) error {
	o := d.g.o.Drill
	if len(o.Command) == 0 {
		return nil
	}
	h := hooks.Hook{Name: "drill.command", Command: o.Command, Timeout: o.Timeout, Cluster: d.g.o.Cluster, Node: d.g.o.Name}
	r, err := h.Run(ctx, map[string]any{"socket": socket, "lsn": d.out.End.LSN, "keys": d.out.Keys})
	d.out.Probe += fmt.Sprintf(", %s in %.3f s: %s", o.Command[0], r.Took.Seconds(), strings.TrimSpace(r.Output))
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return nil
}

// drilled remembers and tells how a drill came out.
func (g *group) drilled(r admin.DrillResult) {
	g.drills.last.Store(&r)
	if r.OK {
		g.alarms.clear(alarmDrill)
	} else {
		g.alarms.raise(alarmDrill, "the last drill missed its objectives: "+strings.Join(r.Missed, "; "))
	}
	g.logger.Info("drill ended", "ok", r.OK, "rto", r.RTO, "rpo", r.RPO, "records", r.Records, "missed", r.Missed, "error", r.Error)
	g.events.Record(events.Drill, "drill ended", slog.Bool("ok", r.OK), slog.Float64("rto_seconds", r.RTO), slog.Float64("rpo_seconds", r.RPO), slog.Uint64("records", r.Records),
		slog.Any("missed", r.Missed), slog.String("error", r.Error), slog.Bool("scheduled", r.Scheduled))
}

// drillNow and then, while this node is a standby.
func (g *group) drillNow(ctx context.Context) error {
	every := g.o.Drill.Every
	if every <= 0 {
		return nil
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		if g.active() && len(g.o.Peers) > 0 {
			continue
		}
		if _, err := g.drill(ctx, true, func(string) {}); err != nil && ctx.Err() == nil {
			g.logger.Warn("drill did not come to its end", "error", err)
		}
	}
}

// Drill implements admin.Proof. Without a node the asked one drills if it is a standby, else the first standby that is connected.
func (a adminAPI) Drill(ctx context.Context, req admin.DrillRequest, emit func(admin.Event)) (admin.DrillResult, error) {
	node := req.Node
	if node == "" && a.active() {
		for _, s := range a.nodeStatus().Standbys {
			if s.State == "stream" && node == "" {
				node = s.Node
			}
		}
		if node == "" && len(a.o.Peers) > 0 {
			return admin.DrillResult{}, &admin.Error{Code: admin.CodeFailed, Message: "no standby is connected that could drill"}
		}
	}
	if node != "" && node != a.o.Name {
		end, err := a.forward(ctx, node, admin.PathDrill, admin.DrillRequest{Node: node}, emit)
		return value(end.Drill), err
	}
	return a.drill(ctx, false, func(line string) { emit(admin.Event{Message: line}) })
}

// drillMetrics are those of the last drill.
func drillMetrics(r *admin.DrillResult, gauge func(name, help string, v float64)) {
	if r == nil {
		return
	}
	ok := 0.0
	if r.OK {
		ok = 1
	}
	gauge("drill_ok", "1 when the last drill met its objectives", ok)
	gauge("drill_rto_seconds", "time to serve that the last drill measured, with the time to notice", r.RTO)
	gauge("drill_rpo_seconds", "age of what was missing in the last drill", r.RPO)
	gauge("drill_timestamp_seconds", "when the last drill began", float64(r.At.Unix()))
}
