package node

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"repld/internal/admin"
	"repld/wal"
)

// witnessAPI is the admin.Handler of a witness: it knows the cluster's status, and passes on what concerns data.
type witnessAPI struct{ *Witness }

var _ admin.Handler = witnessAPI{}

// Status implements admin.Handler.
func (a witnessAPI) Status(ctx context.Context, local bool) (admin.ClusterStatus, error) {
	return a.Witness.Status(ctx, local), nil
}

// noData refuses what only a node with data can do.
func (a witnessAPI) noData(what string) error {
	return &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("node %s is a witness and holds no data: %s", a.o.Name, what)}
}

// Promote implements admin.Handler.
func (a witnessAPI) Promote(ctx context.Context, req admin.PromoteRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
	other := req.Node
	if other == "" || other == a.o.Name {
		return admin.PromoteResult{}, a.noData("name the node to promote")
	}
	req.Node = ""
	end, err := forward(ctx, a.peers, other, admin.PathPromote, req, emit)
	return value(end.Promote), err
}

// Demote implements admin.Handler.
func (a witnessAPI) Demote(ctx context.Context, req admin.DemoteRequest, emit func(admin.Event)) error {
	other := req.Node
	if other == "" || other == a.o.Name {
		return a.noData("name the node to demote")
	}
	req.Node = ""
	_, err := forward(ctx, a.peers, other, admin.PathDemote, req, emit)
	return err
}

// active is the node to ask for what only the active does.
func (a witnessAPI) active() (string, error) {
	if h := a.fence.Holder(); h != "" {
		return h, nil
	}
	return "", &admin.Error{Code: admin.CodeNoActive, Message: "no active is known"}
}

// Switchover implements admin.Handler.
func (a witnessAPI) Switchover(ctx context.Context, req admin.SwitchoverRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
	active, err := a.active()
	if err != nil {
		return admin.PromoteResult{}, err
	}
	end, err := forward(ctx, a.peers, active, admin.PathSwitchover, req, emit)
	return value(end.Promote), err
}

// Verify implements admin.Handler.
func (a witnessAPI) Verify(ctx context.Context, req admin.VerifyRequest, emit func(admin.Event)) (admin.VerifyResult, error) {
	active, err := a.active()
	if err != nil {
		return admin.VerifyResult{}, err
	}
	end, err := forward(ctx, a.peers, active, admin.PathVerify, req, emit)
	return value(end.Verify), err
}

// Diverged implements admin.Handler: nothing was ever cut here.
func (a witnessAPI) Diverged(context.Context) ([]admin.Diverged, error) { return nil, nil }

// Log implements admin.Handler.
func (a witnessAPI) Log(context.Context, wal.LSN, wal.LSN) ([]admin.LogFrame, error) {
	return nil, a.noData("ask another node")
}

// Ready implements admin.Handler: it takes part in the token log and sees its leader.
func (a witnessAPI) Ready(context.Context) error {
	if a.raft == nil {
		return nil
	}
	if st := a.raft.Status(); !st.Started || st.Leader == "" {
		return fmt.Errorf("witness %s does not see a leader of the token log: %s", a.o.Name, st.Waits)
	}
	return nil
}

// Web is what monitoring may see over TCP.
func (w *Witness) Web() http.Handler {
	reg := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"cluster": w.o.Cluster, "node": w.o.Name}, reg).MustRegister(witnessMetrics{w})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	health := func(path string, ok func() bool) {
		mux.HandleFunc(path, func(rw http.ResponseWriter, _ *http.Request) {
			if !ok() {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
	}
	health("/livez", func() bool { return true })
	health("/readyz", func() bool { return witnessAPI{w}.Ready(context.Background()) == nil })
	health("/active", func() bool { return false })
	health("/standby", func() bool { return false })
	return mux
}

// witnessMetrics collects what a witness says of itself at each scrape.
type witnessMetrics struct{ w *Witness }

// Describe implements prometheus.Collector.
func (m witnessMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m witnessMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.w.status()
	gauge := func(name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(desc(name, help), prometheus.GaugeValue, v)
	}
	out <- prometheus.MustNewConstMetric(desc("role", "1 for the node's role, 0 for the others", "role"), prometheus.GaugeValue, 1, admin.RoleWitness)
	gauge("epoch", "highest epoch that this node has promised to obey", float64(s.Epoch))
	gauge("alarms", "alarms raised", float64(len(s.Alarms)))
	tokenMetrics(s.Token, gauge)
}
