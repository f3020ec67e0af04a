package admin

import (
	"context"
	"net/http"
	"time"
)

// PathPause is where a person stops automatic failover for maintenance, and lets it go on.
const PathPause = "/v1/pause" // POST PauseRequest → Events; Result is a PauseResult

// PauseRequest pauses automatic failover on all nodes, or with Resume lets it go on.
type PauseRequest struct {
	Resume bool   `json:"resume,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// PauseResult is what is in force after a PauseRequest.
type PauseResult struct {
	Mode   string `json:"mode"` // manual or automatic
	Paused *Pause `json:"paused,omitempty"`
	// Knows are the nodes that have it on disk; Silent those that did not say so in time. They learn of it when they are reached.
	Knows  []string `json:"knows"`
	Silent []string `json:"silent,omitempty"`
}

// Pause says since when and why nothing happens by itself.
type Pause struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Node   string    `json:"node"` // that was asked
}

// FailoverStatus is what a node knows about failure.
type FailoverStatus struct {
	Mode     string   `json:"mode"`
	Paused   *Pause   `json:"paused,omitempty"`
	Lease    string   `json:"lease,omitempty"`    // of the active: live, lost, or "not asked for"
	Suspects []string `json:"suspects,omitempty"` // nodes that count as gone
	Waiting  string   `json:"waiting,omitempty"`  // why there is no failover although there is no active
	Sick     string   `json:"sick,omitempty"`     // why the application's probe fails
	// Scheduled is the switchover that this node will begin, if it is the active then.
	Scheduled *Scheduled `json:"scheduled,omitempty"`
}

// Scheduled is a switchover to come. The node that is to hand over keeps it on disk.
type Scheduled struct {
	At     time.Time `json:"at"`
	From   string    `json:"from,omitempty"`
	To     string    `json:"to,omitempty"` // empty: the best standby then
	Reason string    `json:"reason,omitempty"`
}

// Whom is To in words.
func (s Scheduled) Whom() string {
	if s.To == "" {
		return "the best standby"
	}
	return s.To
}

// Maintenance is what a Handler may do beyond: pausing automatic failover. NewHandler serves it when its Handler is one.
type Maintenance interface {
	Pause(ctx context.Context, req PauseRequest, emit func(Event)) (PauseResult, error)
}

func serveMaintenance(mux *http.ServeMux, s *service, handler Handler) {
	if h, ok := handler.(Maintenance); ok {
		mux.HandleFunc(PathPause, work(s, true, func(ctx context.Context, r PauseRequest, emit func(Event)) (Event, error) {
			out, err := h.Pause(ctx, r, emit)
			return Event{Pause: &out}, err
		}))
	}
}

// Pause pauses automatic failover, or lets it go on.
func (c *Client) Pause(ctx context.Context, req PauseRequest) (PauseResult, error) {
	end, err := c.stream(ctx, PathPause, req, nil)
	if end.Pause == nil {
		return PauseResult{}, noResult(c.name, err)
	}
	return *end.Pause, err
}
