package admin

import (
	"context"
	"net/http"
	"time"

	"repld/wal"
)

// Paths of receipts and drills.
const (
	PathReceipt = "/v1/receipt" // POST ReceiptRequest → Events; Result is a ReceiptResult
	PathDrill   = "/v1/drill"   // POST DrillRequest → Events; Result is a DrillResult
)

// DrillRequest asks Node (empty: a standby) to promote a fork of itself in a sandbox.
type DrillRequest struct {
	Node string `json:"node,omitempty"`
}

// DrillResult is what a drill measured. Times are seconds.
type DrillResult struct {
	Node          string       `json:"node"`
	At            time.Time    `json:"at"` // when it began
	Scheduled     bool         `json:"scheduled,omitempty"`
	OK            bool         `json:"ok"`
	Missed        []string     `json:"missed,omitempty"` // objectives, in words
	Error         string       `json:"error,omitempty"`  // why it did not come to its end
	Unknown       []string     `json:"unknown,omitempty"`
	Position      wal.Position `json:"position"` // of the forked state
	End           wal.Position `json:"end"`      // of the forked log
	Epoch         wal.Epoch    `json:"epoch"`    // of the fork, which nobody else knows
	Keys          int64        `json:"keys"`
	Records       uint64       `json:"records"` // that were replayed
	ForkSeconds   float64      `json:"fork_seconds"`
	OpenSeconds   float64      `json:"open_seconds"`
	ReplaySeconds float64      `json:"replay_seconds"`
	ReplayRate    float64      `json:"replay_rate"`    // records a second; 0: there was nothing to replay
	ServeSeconds  float64      `json:"serve_seconds"`  // from opening the fork's files to the first answered SET and GET
	DetectSeconds float64      `json:"detect_seconds"` // that the configuration takes to notice a loss; 0 in manual mode: a person's time is not counted
	RTO           float64      `json:"rto"`            // DetectSeconds + ServeSeconds
	RPO           float64      `json:"rpo"`            // age of what is committed and was not durable here
	RPORecords    uint64       `json:"rpo_records"`
	ObjectiveRTO  float64      `json:"objective_rto"` // 0: none
	ObjectiveRPO  float64      `json:"objective_rpo"` // negative: none
	Probe         string       `json:"probe"`
	Took          float64      `json:"took"`
}

// Drill has a standby promote a fork of itself. on, which may be nil, is called for each line of progress.
func (c *Client) Drill(ctx context.Context, req DrillRequest, on func(Event)) (DrillResult, error) {
	end, err := c.stream(ctx, PathDrill, req, on)
	if end.Drill == nil {
		return DrillResult{}, noResult(c.name, err)
	}
	return *end.Drill, err
}

// ReceiptRequest asks whether a receipt (EPOCH/LSN/HASH) is of the cluster's history.
type ReceiptRequest struct {
	Receipt string `json:"receipt"`
}

// ReceiptRow is what one node says: in, not-in or unknown.
type ReceiptRow struct {
	Node    string `json:"node"`
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
}

// ReceiptResult is what all of them say.
type ReceiptResult struct {
	Receipt string       `json:"receipt"`
	Nodes   []ReceiptRow `json:"nodes"`
}

// Proof is what a Handler may do beyond: receipts and drills. NewHandler serves it when its Handler is one.
type Proof interface {
	// Receipt says whether a receipt is of the history of each node.
	Receipt(ctx context.Context, req ReceiptRequest, emit func(Event)) (ReceiptResult, error)
	// Drill promotes a fork of a standby and measures how long that takes. Objectives that are missed are a result with OK false, not an error.
	Drill(ctx context.Context, req DrillRequest, emit func(Event)) (DrillResult, error)
}

func serveProof(mux *http.ServeMux, s *service, handler Handler) {
	h, ok := handler.(Proof)
	if !ok {
		return
	}
	mux.HandleFunc(PathReceipt, work(s, false, func(ctx context.Context, r ReceiptRequest, emit func(Event)) (Event, error) {
		out, err := h.Receipt(ctx, r, emit)
		return Event{Receipt: &out}, err
	}))
	mux.HandleFunc(PathDrill, work(s, false, func(ctx context.Context, r DrillRequest, emit func(Event)) (Event, error) {
		out, err := h.Drill(ctx, r, emit)
		return Event{Drill: &out}, err
	}))
}

// Receipt asks all nodes whether a receipt is of their history.
func (c *Client) Receipt(ctx context.Context, req ReceiptRequest) (ReceiptResult, error) {
	end, err := c.stream(ctx, PathReceipt, req, nil)
	if end.Receipt == nil {
		return ReceiptResult{}, noResult(c.name, err)
	}
	return *end.Receipt, err
}
