package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"repld/internal/events"
	"repld/wal"
)

// Paths of what a node remembers.
const (
	PathEvents  = "/v1/events"  // GET ?since=SEQ&limit=N&follow=1 → events.Event, one JSON object a line
	PathHistory = "/v1/history" // GET → []Epoch (?local=1: no peers asked)
)

// Journal is what a Handler has that remembers what happened.
type Journal interface {
	// Events returns the events after seq, oldest first, at most limit of the newest (0: all), and a channel that is closed when there are more.
	Events(seq uint64, limit int) ([]events.Event, <-chan struct{})
	// History lists the epochs, oldest first; with local only from what this node has.
	History(ctx context.Context, local bool) ([]Epoch, error)
}

// Epoch is one grant of the token that was used, or that may have been.
type Epoch struct {
	Epoch    wal.Epoch    `json:"epoch"`
	Holder   string       `json:"holder"`
	Time     time.Time    `json:"time,omitzero"` // of its first record
	Reason   string       `json:"reason,omitempty"`
	From     wal.Position `json:"from"`            // end of the log that it continues
	Start    wal.LSN      `json:"start,omitempty"` // of its first record; 0: no record of it is in a log that was looked at
	Records  uint64       `json:"records"`         // written in it, up to the next epoch or the log's end
	Sync     wal.SyncSet  `json:"sync"`
	LostFrom wal.LSN      `json:"lost_from,omitempty"` // given up with consent
	LostTo   wal.LSN      `json:"lost_to,omitempty"`
	Millis   float64      `json:"took_ms,omitempty"` // from candidate to active, 0 if not known
	Source   string       `json:"source"`            // log, tenure or journal: where this is known from
}

// remembers serves what h remembers, if it does.
func (s *service) remembers(mux *http.ServeMux) {
	j, ok := s.h.(Journal)
	if !ok {
		return
	}
	mux.HandleFunc(PathHistory, s.question(func(r *http.Request) (any, error) {
		local, err := flagParam(r, "local")
		if err != nil {
			return nil, err
		}
		out, err := j.History(r.Context(), local)
		if out == nil {
			out = []Epoch{}
		}
		return out, err
	}))
	mux.HandleFunc(PathEvents, func(w http.ResponseWriter, r *http.Request) {
		if !allow(w, r, http.MethodGet) {
			return
		}
		if err := streamEvents(w, r, j); err != nil {
			fault := asError(err)
			writeError(w, statusOf(fault.Code), fault)
		}
	})
}

// streamEvents writes events until there are no more, or with follow until the client leaves. An error is one of the request: nothing was written yet.
func streamEvents(w http.ResponseWriter, r *http.Request, j Journal) error {
	since, err := lsnParam(r, "since") // a number like any other
	if err != nil {
		return err
	}
	follow, err := flagParam(r, "follow")
	if err != nil {
		return err
	}
	limit := 0
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return &Error{Code: CodeUsage, Message: fmt.Sprintf("limit=%q is not a number above 0", text)}
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	at := uint64(since)
	for {
		all, more := j.Events(at, limit)
		for _, e := range all {
			if out.Encode(e) != nil {
				return nil // the client left
			}
			at = e.Seq
		}
		limit = 0 // what comes later is told in full
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		if !follow || more == nil {
			return nil
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return nil
		}
	}
}

// History asks for the epochs of the cluster, oldest first.
func (c *Client) History(ctx context.Context) ([]Epoch, error) {
	var out []Epoch
	return out, c.get(ctx, PathHistory, &out)
}

// EventsRequest says which events are wanted.
type EventsRequest struct {
	Since  uint64 // only events with a higher number
	Limit  int    // of what is there now, the newest; 0: all
	Follow bool   // go on until the context ends
}

// Events calls on for each event, oldest first.
func (c *Client) Events(ctx context.Context, q EventsRequest, on func(events.Event) error) error {
	v := url.Values{"since": {strconv.FormatUint(q.Since, 10)}}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Follow {
		v.Set("follow", "1")
	}
	body, err := c.open(ctx, PathEvents+"?"+v.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4096), maxEventBytes)
	for lines.Scan() {
		var e events.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return &Error{Code: CodeFailed, Message: fmt.Sprintf("the node sent a line that is no event: %v", err)}
		}
		if err := on(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return &Error{Code: CodeFailed, Message: fmt.Sprintf("the node's answer ended early: %v", err)}
	}
	return nil
}
