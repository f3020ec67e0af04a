package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/replicate"
	"repld/wal"
)

// Kinds of streams between nodes.
const (
	streamLog  = "log"
	streamHTTP = "http"

	streamForward = "forward" // commands of a standby's clients: package server's links
)

// Paths of the calls between nodes: HTTP over streams of the yamux session (design decision 9).
const (
	peerState    = "/peer/v1/state"    // POST: exchange of epochs
	peerSurvey   = "/peer/v1/survey"   // GET: failover.Answer
	peerFence    = "/peer/v1/fence"    // POST: grant an epoch to a candidate, failover.Answer
	peerPrepare  = "/peer/v1/prepare"  // POST: the active is about to hand over
	peerTakeOver = "/peer/v1/takeover" // POST: the active hands over
	peerStatus   = "/peer/v1/status"   // GET: admin.NodeStatus
	peerDigest   = "/peer/v1/digest"   // POST: admin.NodeDigest of a mark
	peerMark     = "/peer/v1/mark"     // POST: append a digest mark
	peerRoster   = "/peer/v1/roster"   // POST: profile, when it changes
	peerAdmin    = "/admin"            // the admin API, for commands that concern another node
)

// maxPeerBody bounds what a peer may say in one call.
const maxPeerBody = 1 << 20

// nodeState is what nodes tell each other to find the newest epoch (R3, R15).
type nodeState struct {
	Epoch  wal.Epoch   `json:"epoch"`
	Holder string      `json:"holder"`
	Sync   wal.SyncSet `json:"sync"`
}

type fenceRequest struct {
	Epoch     wal.Epoch   `json:"epoch"`
	Candidate string      `json:"candidate"`
	Sync      wal.SyncSet `json:"sync"`
}

type takeOverRequest struct {
	Position wal.Position `json:"position"`
	Reason   string       `json:"reason"`
}

type takeOverAnswer struct {
	Epoch wal.Epoch `json:"epoch"`
}

type markRequest struct {
	ID string `json:"id"`
}

type markAnswer struct {
	LSN wal.LSN `json:"lsn"`
}

// errUnreached says that there is no connection to a node.
var errUnreached = errors.New("not connected to node")

// peerError is an error that a peer answered with.
type peerError struct {
	Peer    string `json:"-"`
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"error"`
}

func (e *peerError) Error() string { return fmt.Sprintf("node %s: %s", e.Peer, e.Message) }

// peers calls the other nodes.
type peers struct {
	mesh *replicate.Mesh
	data []string // those that hold data
	http http.Client
}

func newPeers(mesh *replicate.Mesh, data []string) *peers {
	return &peers{mesh: mesh, data: data, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return mesh.Open(ctx, name, streamHTTP, "")
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     30 * time.Second,
	}}}
}

func (p *peers) close() { p.http.CloseIdleConnections() }

// call sends in (nil for GET) to a peer and decodes its answer into out.
func (p *peers) call(ctx context.Context, peer, path string, in, out any) error {
	method, body := http.MethodGet, io.Reader(nil)
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		method, body = http.MethodPost, bytes.NewReader(b)
	}
	resp, err := p.do(ctx, method, peer, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	limited := io.LimitReader(resp.Body, maxPeerBody)
	if err := json.NewDecoder(limited).Decode(out); err != nil {
		return fmt.Errorf("answer of node %s: %w", peer, err)
	}
	return nil
}

// get asks a peer for something that is not JSON. The caller closes the body.
func (p *peers) get(ctx context.Context, peer, path string) (*http.Response, error) {
	return p.do(ctx, http.MethodGet, peer, path, nil)
}

// do makes a call. Whatever the peer says but OK is a *peerError.
func (p *peers) do(ctx context.Context, method, peer, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+peer+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(req)
	if errors.Is(err, replicate.ErrNotConnected) {
		return nil, fmt.Errorf("%w: %s", errUnreached, peer)
	}
	if err != nil {
		return nil, fmt.Errorf("call node %s: %w", peer, trimURL(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &peerError{Peer: peer, Status: resp.StatusCode, Message: resp.Status}
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxPeerBody)).Decode(e) // the status says enough
	return nil, e
}

// trimURL drops the "Post http://…" that net/http puts before an error.
func trimURL(err error) error {
	for {
		u := errors.Unwrap(err)
		if u == nil {
			return err
		}
		if _, opaque := err.(interface{ Timeout() bool }); !opaque {
			return err
		}
		err = u
	}
}

// askTimeout is how long a promotion waits for a node that shows no sign of life, in each of its rounds of questions.
const askTimeout = 500 * time.Millisecond

// suspectGrace is how long a peer that is suspected to be gone is waited for once all others have answered, if their answers are enough.
const suspectGrace = 20 * time.Millisecond

// surveyTerms say whom a survey need not wait for. The zero value waits for everybody.
type surveyTerms struct {
	suspected func(peer string) bool               // gone, as far as this node knows
	enough    func(answers []failover.Answer) bool // these answers, without those of the suspected, decide
}

// survey asks all peers that hold data the same question at once. A peer that does not answer within askTimeout is given up, and reported as unreachable; one that is suspected
// already, soon after the others have answered, if that is enough. With patient, a peer that is alive but slow (its disk is) is waited for until ctx ends.
func (p *peers) survey(ctx context.Context, patient bool, terms surveyTerms, ask func(ctx context.Context, peer string) (failover.Answer, error)) []failover.Answer {
	names := p.data
	answers := make([]failover.Answer, len(names))
	var all, healthy sync.WaitGroup
	others := make(chan struct{}) // closed when all that are not suspected have answered
	doubt := make([]bool, len(names))
	for i, name := range names {
		if doubt[i] = terms.suspected != nil && terms.suspected(name); !doubt[i] {
			healthy.Add(1)
		}
	}
	go func() {
		healthy.Wait()
		var have []failover.Answer
		for i := range names {
			if !doubt[i] {
				have = append(have, answers[i]) // written before healthy was done
			}
		}
		if len(have) < len(names) && terms.enough(have) {
			close(others)
		}
	}()
	for i, name := range names {
		all.Go(func() {
			if !doubt[i] {
				defer healthy.Done()
			}
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			if doubt[i] {
				stop := giveUpAfter(ctx, others, cancel)
				defer stop()
			}
			late := time.AfterFunc(askTimeout, func() {
				if !patient || !p.alive(ctx, name) {
					cancel(fmt.Errorf("no answer within %s", askTimeout))
				}
			})
			defer late.Stop()
			a, err := ask(ctx, name)
			if err != nil {
				a = failover.Answer{Err: fmt.Sprintf("%v", errors.Join(err, context.Cause(ctx)))}
			}
			a.Node, a.Reachable = name, err == nil
			answers[i] = a
		})
	}
	all.Wait()
	return answers
}

// giveUpAfter cancels a question to a suspected peer suspectGrace after others is closed, unless stop is called before.
func giveUpAfter(ctx context.Context, others <-chan struct{}, cancel context.CancelCauseFunc) (stop func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-others:
		case <-ctx.Done():
			return
		}
		t := time.NewTimer(suspectGrace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(errors.New("suspected to be gone, and no answer"))
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel(nil)
		<-ended
	}
}

// alive asks a peer something that costs it no disk access.
func (p *peers) alive(ctx context.Context, peer string) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var a failover.Answer
	return p.call(ctx, peer, peerSurvey, nil, &a) == nil
}

// status asks a peer for its own row of the status table.
func (p *peers) status(ctx context.Context, peer string) admin.NodeStatus {
	var s admin.NodeStatus
	if err := p.call(ctx, peer, peerStatus, nil, &s); err != nil {
		return admin.NodeStatus{Node: peer, Error: err.Error()}
	}
	return s
}
