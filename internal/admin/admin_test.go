package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"repld/internal/admin"
	"repld/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers with what the test put into it.
type fake struct {
	promote  func(req admin.PromoteRequest, emit func(admin.Event)) (admin.PromoteResult, error)
	verify   admin.VerifyResult
	ready    error
	from, to wal.LSN
	local    bool
	demoted  admin.DemoteRequest
}

func (f *fake) Status(_ context.Context, local bool) (admin.ClusterStatus, error) {
	f.local = local
	return admin.ClusterStatus{Cluster: "shop", Asked: "a", Nodes: []admin.NodeStatus{{Node: "a", Durable: wal.Position{Epoch: 1, LSN: 7, Hash: 0xfedcba9876543210}}}}, nil
}

func (f *fake) Promote(_ context.Context, req admin.PromoteRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
	return f.promote(req, emit)
}

func (f *fake) Demote(_ context.Context, req admin.DemoteRequest, _ func(admin.Event)) error {
	f.demoted = req
	return nil
}

func (f *fake) Switchover(context.Context, admin.SwitchoverRequest, func(admin.Event)) (admin.PromoteResult, error) {
	return admin.PromoteResult{}, &admin.Error{Code: admin.CodeNoActive, Message: "no active"}
}

func (f *fake) Verify(context.Context, admin.VerifyRequest, func(admin.Event)) (admin.VerifyResult, error) {
	return f.verify, nil
}
func (f *fake) Diverged(context.Context) ([]admin.Diverged, error) { return nil, nil }
func (f *fake) Log(_ context.Context, from, to wal.LSN) ([]admin.LogFrame, error) {
	f.from, f.to = from, to
	return []admin.LogFrame{{First: from, Last: to}}, nil
}
func (f *fake) Ready(context.Context) error { return f.ready }

// serve starts h on a unix socket and returns its path.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := admin.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return path
}

func client(t *testing.T, f *fake) *admin.Client {
	t.Helper()
	c := admin.NewClient(serve(t, admin.NewHandler(f, nil)))
	t.Cleanup(c.Close)
	return c
}

func TestQuestions(t *testing.T) {
	f := &fake{}
	c := client(t, f)
	st, err := c.Status(t.Context(), true)
	if err != nil || st.Cluster != "shop" || !f.local || st.Nodes[0].Durable.Hash != 0xfedcba9876543210 {
		t.Fatalf("status: %+v, local %v, %v", st, f.local, err)
	}
	if out, err := c.Log(t.Context(), 3, 9); err != nil || len(out) != 1 || f.from != 3 || f.to != 9 {
		t.Fatalf("log: %+v %v", out, err)
	}
	if out, err := c.Diverged(t.Context()); err != nil || len(out) != 0 {
		t.Fatalf("diverged: %+v %v", out, err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatalf("ready: %v", err)
	}
	f.ready = errors.New("still replaying")
	var fault *admin.Error
	if err := c.Ready(t.Context()); !errors.As(err, &fault) || fault.Code != admin.CodeDegraded || fault.Message != "still replaying" {
		t.Fatalf("not ready: %v", err)
	}
}

// A refusal carries its code and its reasons (R5), and progress arrives before it.
func TestPromoteRefused(t *testing.T) {
	f := &fake{promote: func(req admin.PromoteRequest, emit func(admin.Event)) (admin.PromoteResult, error) {
		emit(admin.Event{Message: "asking peers"})
		return admin.PromoteResult{Node: req.Node, Reasons: []string{"c does not answer"}}, &admin.Error{Code: admin.CodeRefused, Message: "not enough answers"}
	}}
	c := client(t, f)
	var lines []string
	out, err := c.Promote(t.Context(), admin.PromoteRequest{Node: "b"}, func(e admin.Event) { lines = append(lines, e.Message) })
	var fault *admin.Error
	if !errors.As(err, &fault) || fault.Code != admin.CodeRefused {
		t.Fatalf("error %v, want code refused", err)
	}
	if out.Node != "b" || len(out.Reasons) != 1 || len(lines) != 1 || lines[0] != "asking peers" {
		t.Fatalf("result %+v, lines %q", out, lines)
	}
}

// A node that dies in the middle has not said how it came out: the client must not take that for success (R13).
func TestStreamEndsEarly(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"message":"asking peers"}`+"\n")
	})
	c := admin.NewClient(serve(t, h))
	defer c.Close()
	_, err := c.Promote(t.Context(), admin.PromoteRequest{}, nil)
	var fault *admin.Error
	if !errors.As(err, &fault) || fault.Code != admin.CodeFailed || !strings.Contains(fault.Message, "before the node said") {
		t.Fatalf("error %v", err)
	}
}

func TestOtherWork(t *testing.T) {
	f := &fake{verify: admin.VerifyResult{OK: true}}
	c := client(t, f)
	if err := c.Demote(t.Context(), admin.DemoteRequest{Node: "a", Reason: "test"}, nil); err != nil || f.demoted.Reason != "test" {
		t.Fatalf("demote: %+v %v", f.demoted, err)
	}
	if out, err := c.Verify(t.Context(), admin.VerifyRequest{}, nil); err != nil || !out.OK {
		t.Fatalf("verify: %+v %v", out, err)
	}
	var fault *admin.Error
	if _, err := c.Switchover(t.Context(), admin.SwitchoverRequest{}, nil); !errors.As(err, &fault) || fault.Code != admin.CodeNoActive {
		t.Fatalf("switchover: %v", err)
	}
}

func TestServerRefuses(t *testing.T) {
	h := admin.NewHandler(&fake{}, nil)
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"method", "GET", admin.PathPromote, "", 405, "takes POST"},
		{"method of a question", "DELETE", admin.PathStatus, "", 405, "takes GET"},
		{"unknown field", "POST", admin.PathPromote, `{"force":true}`, 400, `unknown field`},
		{"two values", "POST", admin.PathDemote, `{} {}`, 400, "more than one"},
		{"too large", "POST", admin.PathDemote, `{"reason":"` + strings.Repeat("x", 70<<10) + `"}`, 400, "too large"},
		{"not json", "POST", admin.PathDemote, `plan`, 400, "decode request"},
		{"lsn", "GET", admin.PathLog + "?from=-1", "", 400, "not an LSN"},
		{"path", "GET", "/v2/status", "", 404, "no such path"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &recorder{header: http.Header{}}
			r, _ := http.NewRequest(tc.method, "http://x"+tc.path, strings.NewReader(tc.body))
			h.ServeHTTP(w, r)
			if w.status != tc.status || !strings.Contains(w.body.String(), tc.says) || !strings.Contains(w.body.String(), `"code":"usage"`) {
				t.Fatalf("got %d %s", w.status, w.body.String())
			}
		})
	}
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(s int)           { r.status = s }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := admin.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(path, 0o600); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("live socket: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = admin.Listen(path, 0o660)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o660 {
		t.Fatalf("mode %v", info.Mode())
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(path, 0o600); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Fatalf("plain file: %v", err)
	}
}
