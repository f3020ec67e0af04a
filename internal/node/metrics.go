package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"repld/internal/admin"
	"repld/internal/server"
)

// metrics collects what a node says of itself at each scrape. Names are in base units; roles are 0/1 gauges, as Patroni's are; every metric carries cluster and node.
type metrics struct {
	group  *group
	server *server.Server
}

// desc describes one metric of the group; standby-labelled ones are per standby.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("repld_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector: what there is depends on the role, so the collector is unchecked.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	s := m.group.nodeStatus()
	gauge := func(name, help string, v float64, labels ...string) {
		names := []string{"standby"}[:len(labels)]
		out <- prometheus.MustNewConstMetric(desc(name, help, names...), prometheus.GaugeValue, v, labels...)
	}
	count := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(desc(name, help), prometheus.CounterValue, v)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, role := range []string{admin.RoleActive, admin.RoleStandby, admin.RoleCandidate, admin.RoleFenced} {
		out <- prometheus.MustNewConstMetric(desc("role", "1 for the node's role, 0 for the others", "role"), prometheus.GaugeValue, flag(s.Role == role), role)
	}
	gauge("voter", "1 while this node's log counts in promotions", flag(s.Voter))
	gauge("epoch", "highest epoch that this node has promised to obey", float64(s.Epoch))
	gauge("durable_lsn", "last LSN that is fsynced in this node's log", float64(s.Durable.LSN))
	gauge("committed_lsn", "last LSN known to be committed", float64(s.Committed))
	gauge("applied_lsn", "last LSN applied to this node's state", float64(s.Applied.LSN))
	gauge("lag_records", "records of the active that are not durable here", float64(s.Lag.Records))
	gauge("lag_seconds", "age of the newest durable record while records are missing", s.Lag.Seconds)
	gauge("apply_lag_records", "records that are durable here and not applied", float64(s.Lag.ApplyRecords))
	gauge("apply_lag_seconds", "age of the oldest record that is not applied", s.Lag.ApplySeconds)
	gauge("sync_k", "acks that a commit needs besides the active", float64(s.Sync.K))
	gauge("degraded", "1 while fewer copies are promised than configured", flag(s.Degraded != ""))
	scrub := m.group.scrub.Status()
	count("scrub_rounds_total", "scrubs of log and state that came to their end", float64(scrub.Rounds))
	count("scrub_found_total", "damaged places that the scrub found", float64(scrub.Found))
	count("scrub_repaired_total", "of these, places repaired from a peer", float64(scrub.Repaired))
	gauge("scrub_bytes", "bytes that the present or the last scrub has read", float64(scrub.Bytes))
	if !scrub.Finished.IsZero() {
		gauge("scrub_finished_timestamp_seconds", "when the last scrub ended", float64(scrub.Finished.Unix()))
	}
	verifiedMetrics(s.Verified, func(name, help string, v float64) { gauge(name, help, v) })
	drillMetrics(s.Drill, func(name, help string, v float64) { gauge(name, help, v) })
	count("log_repairs_total", "damaged places of the log that were repaired, at start or by the scrub", float64(m.group.repairs.Load()))
	gauge("alarms", "alarms raised", float64(len(s.Alarms)))
	if end := s.CertificateEnd; !end.IsZero() {
		gauge("certificate_expiry_timestamp_seconds", "when the certificate that peers see, or its authority, ends", float64(end.Unix()))
	}
	count("events_lost_total", "events that the journal could not write", float64(m.group.events.Lost()))
	gauge("diverged", "suffixes saved aside", float64(s.Diverged))
	gauge("log_bytes", "size of the log on disk", float64(s.LogBytes))
	gauge("state_bytes", "size of the state on disk", float64(s.StateBytes))
	gauge("keys", "keys in the state", float64(s.Keys))
	tokenMetrics(s.Token, func(name, help string, v float64) { gauge(name, help, v) })
	if a := s.Archive; a != nil {
		gauge("archived_lsn", "last LSN in the archive, as far as this node knows", float64(a.Archived.LSN))
		gauge("archive_lag_records", "committed records that are not archived, on the node that archives", float64(a.LagRecords))
		gauge("archive_lag_seconds", "age of the oldest committed record that is not archived", a.LagSeconds)
		gauge("archive_failed", "1 while the archive cannot be written", flag(a.Error != ""))
	}
	gauge("held", "1 while this node applies nothing, at a person's word", flag(s.Hold != nil))
	if c := s.Checkpoints; c != nil {
		gauge("checkpoints", "checkpoints that this node keeps", float64(c.Count))
		gauge("checkpoint_lsn", "position of the newest checkpoint", float64(c.Newest.LSN))
		gauge("checkpoint_extra_bytes", "what the checkpoints take beyond the state itself", float64(c.Extra))
	}
	for _, p := range s.Standbys {
		gauge("standby_durable_lsn", "last LSN durable on a standby", float64(p.Durable), p.Node)
		gauge("standby_in_sync", "1 while a standby's acks count", flag(p.InSync), p.Node)
	}
	l := m.group.log.Stats()
	count("log_frames_total", "frames written to the log", float64(l.Frames))
	count("log_records_total", "records written to the log", float64(l.Records))
	count("log_written_bytes_total", "bytes written to the log", float64(l.Bytes))
	count("log_syncs_total", "fsyncs of the log", float64(l.Syncs))
	count("log_sync_seconds_total", "time spent in fsyncs of the log", l.SyncTime.Seconds())
	m.group.phases.collect(out)
	c := m.server.Stats()
	gauge("clients", "client connections", float64(c.Clients))
	count("connections_total", "client connections accepted", float64(c.Connections))
	count("commands_total", "commands executed", float64(c.Commands))
	count("command_errors_total", "commands that were answered with an error", float64(c.Errors))
	count("unknown_outcomes_total", "writes that were answered with -UNKNOWN", float64(c.UnknownOutcomes))
	count("net_input_bytes_total", "bytes read from clients", float64(c.NetInput))
	count("net_output_bytes_total", "bytes written to clients", float64(c.NetOutput))
}

// Web is what monitoring may see over TCP: metrics and health, nothing that changes anything. Health answers 200 or 503: /livez while the process runs, /readyz while
// it serves clients or follows, /active and /standby by role.
func (n *Node) Web() http.Handler {
	reg := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"cluster": n.o.Cluster, "node": n.o.Name}, reg).MustRegister(metrics{n.group, n.server})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	health := func(path string, ok func() bool) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			if !ok() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
	}
	health("/livez", func() bool { return true })
	health("/readyz", func() bool { return n.group.active() || n.group.receiver.Status().Running })
	health("/active", n.group.active)
	health("/standby", func() bool { return !n.group.active() && n.group.receiver.Status().Running })
	return mux
}
