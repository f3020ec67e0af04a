package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"repld/internal/strict"
	"repld/wal"
)

const maxRequestBytes = 64 << 10

// NewHandler serves the admin API from h. It logs each request that changes something, with its outcome.
//
// Work that changes something is detached from the request's context: a client that goes away in the middle of a promotion does not leave the
// cluster without an active. Verify and the questions end with their client.
func NewHandler(h Handler, logger *slog.Logger) http.Handler {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &service{h: h, logger: logger}
	mux := http.NewServeMux()
	mux.HandleFunc(PathStatus, s.question(s.status))
	mux.HandleFunc(PathDiverged, s.question(s.diverged))
	mux.HandleFunc(PathLog, s.question(s.logFrames))
	mux.HandleFunc(PathReady, s.question(s.ready))
	mux.HandleFunc(PathPromote, work(s, true, func(ctx context.Context, r PromoteRequest, emit func(Event)) (Event, error) {
		out, err := h.Promote(ctx, r, emit)
		return Event{Promote: &out}, err
	}))
	mux.HandleFunc(PathSwitchover, work(s, true, func(ctx context.Context, r SwitchoverRequest, emit func(Event)) (Event, error) {
		out, err := h.Switchover(ctx, r, emit)
		return Event{Promote: &out}, err
	}))
	mux.HandleFunc(PathDemote, work(s, true, func(ctx context.Context, r DemoteRequest, emit func(Event)) (Event, error) {
		return Event{}, h.Demote(ctx, r, emit)
	}))
	mux.HandleFunc(PathVerify, work(s, false, func(ctx context.Context, r VerifyRequest, emit func(Event)) (Event, error) {
		out, err := h.Verify(ctx, r, emit)
		return Event{Verify: &out}, err
	}))
	serveCopies(mux, s, h)
	serveProof(mux, s, h)
	s.remembers(mux)
	serveMaintenance(mux, s, h)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, &Error{Code: CodeUsage, Message: "no such path: " + r.URL.Path})
	})
	return mux
}

type service struct {
	h      Handler
	logger *slog.Logger
}

func (s *service) status(r *http.Request) (any, error) {
	local, err := flagParam(r, "local")
	if err != nil {
		return nil, err
	}
	return s.h.Status(r.Context(), local)
}

func (s *service) diverged(r *http.Request) (any, error) {
	out, err := s.h.Diverged(r.Context())
	if out == nil {
		out = []Diverged{}
	}
	return out, err
}

func (s *service) logFrames(r *http.Request) (any, error) {
	from, err := lsnParam(r, "from")
	if err != nil {
		return nil, err
	}
	to, err := lsnParam(r, "to")
	if err != nil {
		return nil, err
	}
	out, err := s.h.Log(r.Context(), from, to)
	if out == nil {
		out = []LogFrame{}
	}
	return out, err
}

func (s *service) ready(r *http.Request) (any, error) {
	if err := s.h.Ready(r.Context()); err != nil {
		return nil, &Error{Code: CodeDegraded, Message: err.Error()}
	}
	return map[string]bool{"ready": true}, nil
}

// question answers a GET with one document.
func (s *service) question(ask func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !allow(w, r, http.MethodGet) {
			return
		}
		out, err := ask(r)
		if err != nil {
			fault := asError(err)
			writeError(w, statusOf(fault.Code), fault)
			return
		}
		writeJSON(w, http.StatusOK, out)
	}
}

// work answers a POST with events. detach keeps the work going when the client leaves.
func work[R any](s *service, detach bool, do func(ctx context.Context, req R, emit func(Event)) (Event, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !allow(w, r, http.MethodPost) {
			return
		}
		var req R
		if err := decodeRequest(w, r, &req); err != nil {
			writeError(w, http.StatusBadRequest, &Error{Code: CodeUsage, Message: err.Error()})
			return
		}
		ctx := r.Context()
		if detach {
			ctx = context.WithoutCancel(ctx)
		}
		events := newEventWriter(w)
		audited := func(error) {}
		if a, ok := s.h.(Auditor); ok {
			audited = a.Audit(caller(r), strings.TrimPrefix(r.URL.Path, "/v1/"), requestText(req))
		}
		end, err := do(ctx, req, events.emit)
		audited(err)
		s.logger.Info("admin request done", "path", r.URL.Path, "request", requestText(req), "err", err)
		events.finish(end, err)
	}
}

func requestText(req any) string {
	text, err := json.Marshal(req)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func allow(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method || (method == http.MethodGet && r.Method == http.MethodHead) {
		return true
	}
	w.Header().Set("Allow", method)
	writeError(w, http.StatusMethodNotAllowed, &Error{Code: CodeUsage, Message: r.URL.Path + " takes " + method + ", not " + r.Method})
	return false
}

// decodeRequest reads one limited JSON object and nothing behind it. An empty body is an empty request.
func decodeRequest(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if len(body) == 0 {
		return nil
	}
	if err := strict.Decode(body, into); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	return nil
}

func lsnParam(r *http.Request, name string) (wal.LSN, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &Error{Code: CodeUsage, Message: fmt.Sprintf("%s=%q is not an LSN", name, text)}
	}
	return wal.LSN(n), nil
}

func flagParam(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, &Error{Code: CodeUsage, Message: fmt.Sprintf("%s=%q is not a boolean", name, text)}
	}
	return v, nil
}

// asError returns err as an *Error; what is not one becomes CodeFailed.
func asError(err error) *Error {
	var fault *Error
	if errors.As(err, &fault) {
		return &Error{Code: fault.Code, Message: err.Error()}
	}
	return &Error{Code: CodeFailed, Message: err.Error()}
}

func statusOf(code string) int {
	switch code {
	case CodeUsage:
		return http.StatusBadRequest
	case CodeRefused:
		return http.StatusConflict
	case CodeNoActive, CodeDegraded:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func writeError(w http.ResponseWriter, status int, e *Error) { writeJSON(w, status, e) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"code":"failed","error":"encode answer"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A failed write means that the client left; there is nobody to tell.
	_, _ = w.Write(append(text, '\n'))
}

func decode(r io.Reader, into any) error {
	if err := json.NewDecoder(r).Decode(into); err != nil {
		return &Error{Code: CodeFailed, Message: fmt.Sprintf("the node sent an answer that cannot be read: %v", err)}
	}
	return nil
}
