package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"repld/wal"
)

const (
	maxAnswerBytes = 64 << 20 // of a document
	maxEventBytes  = 1 << 20  // of one event
	dialTimeout    = 5 * time.Second
)

// Client asks one node. It is safe for concurrent use. Requests last as long as their context: long work has no bound of its own here,
// the node bounds each of its steps (R12).
type Client struct {
	http *http.Client
	name string // of what is asked, for errors
}

// NewClient returns a client for the admin socket at path.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	return NewClientDial(path, func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", path)
	})
}

// NewClientDial returns a client that reaches the node, called name in errors, through dial.
func NewClientDial(name string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	t := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
	}
	return &Client{http: &http.Client{Transport: t}, name: name}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for the cluster as the node sees it; with local only for the node itself.
func (c *Client) Status(ctx context.Context, local bool) (ClusterStatus, error) {
	var out ClusterStatus
	path := PathStatus
	if local {
		path += "?local=1"
	}
	return out, c.get(ctx, path, &out)
}

// Promote makes a node the active. on, which may be nil, is called for each line of progress. A refusal is an *Error of CodeRefused, and the
// result then carries the reasons.
func (c *Client) Promote(ctx context.Context, req PromoteRequest, on func(Event)) (PromoteResult, error) {
	return promoteResult(c.stream(ctx, PathPromote, req, on))
}

// Switchover hands the activity over; see Promote for on and the error.
func (c *Client) Switchover(ctx context.Context, req SwitchoverRequest, on func(Event)) (PromoteResult, error) {
	return promoteResult(c.stream(ctx, PathSwitchover, req, on))
}

// Demote makes a node step down.
func (c *Client) Demote(ctx context.Context, req DemoteRequest, on func(Event)) error {
	_, err := c.stream(ctx, PathDemote, req, on)
	return err
}

// Verify compares the copies of all nodes. Copies that differ are a result with OK false, not an error.
func (c *Client) Verify(ctx context.Context, req VerifyRequest, on func(Event)) (VerifyResult, error) {
	end, err := c.stream(ctx, PathVerify, req, on)
	if end.Verify == nil {
		if err == nil {
			err = &Error{Code: CodeFailed, Message: c.name + " ended without a result"}
		}
		return VerifyResult{}, err
	}
	return *end.Verify, err
}

// Hold makes a standby apply nothing more, or go on.
func (c *Client) Hold(ctx context.Context, req HoldRequest) (HoldResult, error) {
	end, err := c.stream(ctx, PathHold, req, nil)
	if end.Hold == nil {
		return HoldResult{}, noResult(c.name, err)
	}
	return *end.Hold, err
}

// Salvage writes records that were set aside again, or says what that would do.
func (c *Client) Salvage(ctx context.Context, req SalvageRequest, on func(Event)) (SalvageResult, error) {
	end, err := c.stream(ctx, PathSalvage, req, on)
	if end.Salvage == nil {
		return SalvageResult{}, noResult(c.name, err)
	}
	return *end.Salvage, err
}

func noResult(name string, err error) error {
	if err == nil {
		err = &Error{Code: CodeFailed, Message: name + " ended without a result"}
	}
	return err
}

// Diverged lists the suffixes that the node saved aside (R9).
func (c *Client) Diverged(ctx context.Context) ([]Diverged, error) {
	var out []Diverged
	return out, c.get(ctx, PathDiverged, &out)
}

// Log returns the frames with records in [from, to], as many as fit one answer; to 0 means up to the end.
func (c *Client) Log(ctx context.Context, from, to wal.LSN) ([]LogFrame, error) {
	q := url.Values{"from": {strconv.FormatUint(uint64(from), 10)}, "to": {strconv.FormatUint(uint64(to), 10)}}
	var out []LogFrame
	return out, c.get(ctx, PathLog+"?"+q.Encode(), &out)
}

// Ready returns nil when the node is of use to clients or follows, else an *Error that says why not.
func (c *Client) Ready(ctx context.Context) error { return c.get(ctx, PathReady, nil) }

func promoteResult(end Event, err error) (PromoteResult, error) {
	if end.Promote == nil {
		if err == nil {
			err = &Error{Code: CodeFailed, Message: "the node ended without a result"}
		}
		return PromoteResult{}, err
	}
	return *end.Promote, err
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	body, err := c.open(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if into == nil {
		return nil
	}
	return decode(io.LimitReader(body, maxAnswerBytes), into)
}

// open asks and returns the answer, which the caller closes.
func (c *Client) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://repld"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.name, err)
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// stream posts body and hands each event to on, up to the one with Done, which it returns. A connection that ends before is a failure:
// nothing is concluded from silence.
func (c *Client) stream(ctx context.Context, path string, body any, on func(Event)) (Event, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return Event{}, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://repld"+path, bytes.NewReader(text))
	if err != nil {
		return Event{}, fmt.Errorf("ask %s: %w", c.name, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.do(req)
	if err != nil {
		return Event{}, err
	}
	defer resp.Body.Close()
	return readEvents(resp.Body, on)
}

func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the URL says nothing: the socket does
		}
		return nil, fmt.Errorf("ask the node at %s: %w", c.name, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	fault := &Error{}
	if decode(io.LimitReader(resp.Body, maxEventBytes), fault) != nil || fault.Message == "" {
		fault.Message = "the node answered " + resp.Status
	}
	if fault.Code == "" {
		fault.Code = CodeFailed
	}
	return nil, fault
}
