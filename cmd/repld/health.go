package main

import (
	"context"
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"repld/internal/admin"
)

// statusOf is what health checks and metrics need of a node.
type statusOf interface {
	Status(ctx context.Context, local bool) admin.ClusterStatus
	Handler() http.Handler
}

// healthHandler serves what may be asked over TCP without a password: nothing that changes anything.
func healthHandler(n statusOf) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{node: n})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("GET "+admin.PathReady, n.Handler())
	// Alive is a process that answers: it must not depend on role, lag or disk, or a supervisor would kill the last copy.
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return mux
}

// collector turns a node's status into metrics at each scrape.
type collector struct{ node statusOf }

var (
	nodeLabels = []string{"cluster", "node"}

	descRole     = prometheus.NewDesc("repld_role", "1 for the node's role, 0 for the others.", append(nodeLabels, "role"), nil)
	descEpoch    = prometheus.NewDesc("repld_epoch", "Highest epoch that the node has persisted.", nodeLabels, nil)
	descDurable  = prometheus.NewDesc("repld_durable_lsn", "Last LSN on the node's disk.", nodeLabels, nil)
	descCommit   = prometheus.NewDesc("repld_committed_lsn", "Last LSN known to be committed.", nodeLabels, nil)
	descApplied  = prometheus.NewDesc("repld_applied_lsn", "Last LSN in the node's state.", nodeLabels, nil)
	descLag      = prometheus.NewDesc("repld_lag_records", "Records of the active's log that are not durable here.", nodeLabels, nil)
	descLagTime  = prometheus.NewDesc("repld_lag_seconds", "Age of the newest durable record while records are missing.", nodeLabels, nil)
	descApplyLag = prometheus.NewDesc("repld_apply_lag_records", "Records that are durable here and not applied.", nodeLabels, nil)
	descLog      = prometheus.NewDesc("repld_log_bytes", "Size of the log on disk.", nodeLabels, nil)
	descState    = prometheus.NewDesc("repld_state_bytes", "Size of the state on disk.", nodeLabels, nil)
	descKeys     = prometheus.NewDesc("repld_keys", "Keys in the state.", nodeLabels, nil)
	descClients  = prometheus.NewDesc("repld_clients", "Connected clients.", nodeLabels, nil)
	descDegraded = prometheus.NewDesc("repld_degraded", "1 while fewer copies are promised than configured.", nodeLabels, nil)
	descAlarms   = prometheus.NewDesc("repld_alarms", "Alarms that are raised.", nodeLabels, nil)
	descDiverged = prometheus.NewDesc("repld_diverged", "Pieces of log that were set aside.", nodeLabels, nil)
	descSyncK    = prometheus.NewDesc("repld_sync_k", "Acknowledgements that a commit needs besides the active.", nodeLabels, nil)
	descStandby  = prometheus.NewDesc("repld_standby_durable_lsn", "Last LSN that a standby has acknowledged, as its active knows it.", append(nodeLabels, "standby"), nil)
	descInSync   = prometheus.NewDesc("repld_standby_in_sync", "1 while a standby's acknowledgements count.", append(nodeLabels, "standby"), nil)
)

// Describe implements prometheus.Collector: unchecked, the descriptions come with the values.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	st := c.node.Status(context.Background(), true)
	for _, n := range st.Nodes {
		collectNode(out, st.Cluster, n)
	}
}

func collectNode(out chan<- prometheus.Metric, cluster string, n admin.NodeStatus) {
	gauge := func(d *prometheus.Desc, v float64, more ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{cluster, n.Node}, more...)...)
	}
	for _, role := range []string{admin.RoleActive, admin.RoleStandby, admin.RoleCandidate, admin.RoleFenced} {
		gauge(descRole, number(n.Role == role), role)
	}
	gauge(descEpoch, float64(n.Epoch))
	gauge(descDurable, float64(n.Durable.LSN))
	gauge(descCommit, float64(n.Committed))
	gauge(descApplied, float64(n.Applied.LSN))
	gauge(descLag, float64(n.Lag.Records))
	gauge(descLagTime, n.Lag.Seconds)
	gauge(descApplyLag, float64(n.Lag.ApplyRecords))
	gauge(descLog, float64(n.LogBytes))
	gauge(descState, float64(n.StateBytes))
	gauge(descKeys, float64(n.Keys))
	gauge(descClients, float64(n.Clients))
	gauge(descDegraded, number(n.Degraded != ""))
	gauge(descAlarms, float64(len(n.Alarms)))
	gauge(descDiverged, float64(n.Diverged))
	gauge(descSyncK, float64(n.Sync.K))
	for _, s := range n.Standbys {
		gauge(descStandby, float64(s.Durable), s.Node)
		gauge(descInSync, number(s.InSync), s.Node)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
