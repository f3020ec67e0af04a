package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"repld/internal/admin"
	"repld/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a cluster that stands still: an admin.Handler whose answers the test sets by name.
type scene struct {
	status  admin.ClusterStatus
	promote func(admin.PromoteRequest) (admin.PromoteResult, error)
	verify  admin.VerifyResult
}

func at(epoch wal.Epoch, lsn wal.LSN) wal.Position {
	return wal.Position{Epoch: epoch, LSN: lsn, Hash: wal.Hash(0xabc000 + uint64(lsn))}
}

// healthy is a cluster of three: a active, b in step, c a minute behind in its state.
func healthy() admin.ClusterStatus {
	set := wal.SyncSet{Version: 3, Members: []string{"b", "c"}, K: 1}
	return admin.ClusterStatus{
		Cluster: "shop", Asked: "b", Epoch: 2, Active: "a", Sync: set,
		Nodes: []admin.NodeStatus{
			{Node: "a", Role: "active", Mode: "hot", Epoch: 2, Durable: at(2, 1204), End: at(2, 1204), Committed: 1204, Applied: at(2, 1204), Voter: true,
				Standbys: []admin.Standby{{Node: "b", State: "stream", InSync: true}, {Node: "c", State: "stream", InSync: true}}},
			{Node: "b", Role: "standby", Mode: "hot", Epoch: 2, Durable: at(2, 1204), Committed: 1203, Applied: at(2, 1203), Source: "a", Link: "stream", Voter: true},
			{Node: "c", Role: "standby", Mode: "lagged", ApplyDelay: time.Minute, Epoch: 2, Durable: at(2, 1190), Committed: 1190, Applied: at(2, 800), Source: "a", Link: "stream",
				Voter: true, Lag: admin.Lag{Records: 14, Bytes: 3000, Seconds: 0.2, ApplyRecords: 390, ApplySeconds: 60}},
		},
		AtRisk: admin.AtRisk{Lossless: []string{"b"}, Known: true, Statement: "nothing would be lost: b has every acknowledged write"},
	}
}

func scenes() map[string]*scene {
	degraded := healthy()
	degraded.Nodes[2] = admin.NodeStatus{Node: "c", Mode: "lagged", Error: "no answer"}
	degraded.Nodes[0].Degraded = "1 of 2 standbys is in the sync set"
	degraded.Nodes[0].Diverged = 1
	degraded.Alarms = []string{"c has not been heard of for 12 s"}
	headless := healthy()
	headless.Active, headless.Nodes[0].Role = "", "standby"
	headless.Nodes[0].Standbys = nil
	headless.AtRisk = admin.AtRisk{}
	promoted := admin.PromoteResult{Node: "b", Allowed: true, Epoch: 3, Previous: 2, From: at(2, 1204), Sync: wal.SyncSet{Members: []string{"a", "c"}, K: 1},
		Replay: 1, ReplaySec: 0.01, Have: []string{"b", "c"}, Missing: []string{"a: no answer"}, Millis: 41.6}
	refused := promoted
	refused.Allowed, refused.Have, refused.Missing = false, []string{"b"}, []string{"a: no answer", "c: no answer"}
	refused.Reasons = []string{"1 of 2 members of the sync set answered, 2 are needed", "the last active, a, did not answer"}
	already := promoted
	already.Already = true
	verified := admin.VerifyResult{OK: true, Mark: at(2, 1210), Nodes: []admin.NodeDigest{
		{Node: "a", Position: at(2, 1210), Digest: 0x1122334455667788, Rows: 1000, Bytes: 123456},
		{Node: "b", Position: at(2, 1210), Digest: 0x1122334455667788, Rows: 1000, Bytes: 123456}}}
	differs := admin.VerifyResult{Mark: at(2, 1210), Nodes: append([]admin.NodeDigest(nil), verified.Nodes...), Notes: []string{"c was not reached"}}
	differs.Nodes[1].Digest = 0x99
	differs.Nodes = append(differs.Nodes, admin.NodeDigest{Node: "c", Error: "no answer"})
	return map[string]*scene{
		"healthy": {status: healthy(), verify: verified, promote: func(r admin.PromoteRequest) (admin.PromoteResult, error) {
			out := promoted
			out.Plan = r.Plan
			return out, nil
		}},
		"degraded": {status: degraded, verify: differs, promote: func(admin.PromoteRequest) (admin.PromoteResult, error) { return already, nil }},
		"headless": {status: headless, promote: func(r admin.PromoteRequest) (admin.PromoteResult, error) {
			out := refused
			out.Plan = r.Plan
			if r.AllowDataLoss {
				out.Allowed, out.LossSaid = true, "acknowledged writes after LSN 1204 may be lost, how many is not known"
				return out, nil
			}
			if r.Plan {
				return out, nil
			}
			return out, &admin.Error{Code: admin.CodeRefused, Message: "too few nodes answered"}
		}},
	}
}

func (s *scene) Status(context.Context, bool) (admin.ClusterStatus, error) { return s.status, nil }
func (s *scene) Promote(_ context.Context, r admin.PromoteRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
	if !r.Plan {
		emit(admin.Event{Message: "asking b, c"})
		emit(admin.Event{Message: "replaying", Percent: 50})
	}
	return s.promote(r)
}
func (s *scene) Demote(context.Context, admin.DemoteRequest, func(admin.Event)) error { return nil }
func (s *scene) Switchover(_ context.Context, r admin.SwitchoverRequest, _ func(admin.Event)) (admin.PromoteResult, error) {
	if s.status.Active == "" {
		return admin.PromoteResult{}, &admin.Error{Code: admin.CodeNoActive, Message: "there is no active to hand over from: use promote"}
	}
	next := &admin.Scheduled{At: r.At, From: "a", To: r.To, Reason: r.Reason}
	switch {
	case r.Cancel && s.status.Active == "a":
		next.At = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
		return admin.PromoteResult{Scheduled: next}, nil
	case r.Cancel:
		return admin.PromoteResult{}, nil
	case !r.At.IsZero():
		return admin.PromoteResult{Node: r.To, Allowed: true, Scheduled: next, Already: r.To == "c"}, nil
	}
	return s.promote(admin.PromoteRequest{Node: r.To, Plan: r.Plan})
}
func (s *scene) Verify(context.Context, admin.VerifyRequest, func(admin.Event)) (admin.VerifyResult, error) {
	return s.verify, nil
}
func (s *scene) Diverged(context.Context) ([]admin.Diverged, error) {
	if s.status.Nodes[0].Diverged == 0 {
		return nil, nil
	}
	return []admin.Diverged{{Node: "a", Name: "1-1205-1230", Path: "/none", From: at(1, 1204), To: at(1, 1230), Records: 26, Bytes: 4096, Reason: "not in epoch 2 of b",
		Time: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}}, nil
}
func (s *scene) Log(context.Context, wal.LSN, wal.LSN) ([]admin.LogFrame, error) {
	return nil, errors.New("not here")
}
func (s *scene) Ready(context.Context) error { return nil }

// Each transcript is a command line and all that a person sees. `scene=` chooses the cluster, `stdin=` what the person types.
func TestGolden(t *testing.T) {
	t.Setenv("REPLD_ADMIN_SOCKET", "")
	t.Setenv("REPLD_CONFIG", "")
	sockets := map[string]string{}
	for name, s := range scenes() {
		path := filepath.Join(t.TempDir(), "a")
		l, err := admin.Listen(path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: admin.NewHandler(s, nil)}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close(); <-done })
		sockets[name] = path
	}
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var where, typed string
			d.MaybeScanArgs(t, "scene", &where)
			d.MaybeScanArgs(t, "stdin", &typed)
			if typed != "" {
				typed += "\n"
			}
			var args []string
			if where != "" {
				args = append(args, "--socket", sockets[where])
			}
			var out, errOut bytes.Buffer
			code := execute(t.Context(), streams{in: strings.NewReader(typed), out: &out, err: &errOut}, append(args, strings.Fields(d.Input)...))
			text := out.String()
			if errOut.Len() > 0 {
				text += "-- stderr\n" + errOut.String()
			}
			return text + fmt.Sprintf("-- exit %d\n", code)
		})
	})
}
