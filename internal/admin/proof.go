package admin

import (
	"context"
	"net/http"
)

// PathReceipt is POST ReceiptRequest → Events; Result is a ReceiptResult.
const PathReceipt = "/v1/receipt"

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
}

// Receipt asks all nodes whether a receipt is of their history.
func (c *Client) Receipt(ctx context.Context, req ReceiptRequest) (ReceiptResult, error) {
	end, err := c.stream(ctx, PathReceipt, req, nil)
	if end.Receipt == nil {
		return ReceiptResult{}, noResult(c.name, err)
	}
	return *end.Receipt, err
}
