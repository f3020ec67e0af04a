package client

import (
	"context"
	"errors"
	"fmt"
)

// Receipt is the proof of a write, EPOCH/LSN/HASH: the epoch and the chain hash of the frame of the log that holds it. The hash covers all of the log before it. Keep it as text, and ask
// any node later whether its history still is the one with that write in it: CheckReceipt, REPLD.HISTORY, or replctl receipt check.
type Receipt string

// Verdict is what a node says of a Receipt.
type Verdict string

// Verdicts.
const (
	In      Verdict = "in"
	NotIn   Verdict = "not-in"  // the history holds something else there: the write was given up
	Unknown Verdict = "unknown" // the node's log does not reach there any more, or not yet
)

// DoReceipt is Do, with the receipt of the write.
func (c *Client) DoReceipt(ctx context.Context, id string, args ...any) (any, Receipt, error) {
	if id == "" || len(args) == 0 {
		return nil, "", errors.New("client: DoReceipt needs an id and a command")
	}
	line := append([]any{"REPLD.RECEIPT", "REPLD.ONCE", id, c.o.Retention.Milliseconds()}, args...)
	return split(c.call(ctx, line, func(outcome) bool { return true }))
}

// WriteReceipt is Write, with the receipt of the write.
func (c *Client) WriteReceipt(ctx context.Context, args ...any) (any, Receipt, error) {
	line := append([]any{"REPLD.RECEIPT"}, args...)
	return split(c.call(ctx, line, func(o outcome) bool { return o == refused }))
}

func split(value any, err error) (any, Receipt, error) {
	if err != nil {
		return value, "", err
	}
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return nil, "", fmt.Errorf("client: the write was executed and answered %v, which is no receipt", value)
	}
	text, _ := pair[1].(string) // nil: the log could not be asked
	return pair[0], Receipt(text), nil
}

// CheckReceipt asks the active whether a write is in its history, and why it says so.
func (c *Client) CheckReceipt(ctx context.Context, r Receipt) (Verdict, string, error) {
	value, err := c.Read(ctx, "REPLD.HISTORY", string(r))
	if err != nil {
		return "", "", err
	}
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return "", "", fmt.Errorf("client: REPLD.HISTORY answered %v", value)
	}
	return Verdict(fmt.Sprint(pair[0])), fmt.Sprint(pair[1]), nil
}
