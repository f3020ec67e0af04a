package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// peerHandler answers the calls of other nodes.
func (g *group) peerHandler(forwarded http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+peerState, answerTo(g.exchange))
	mux.HandleFunc("GET "+peerSurvey, answerTo(func(context.Context, struct{}) (failover.Answer, error) { return g.answer(), nil }))
	mux.HandleFunc("POST "+peerFence, answerTo(g.grant))
	mux.HandleFunc("POST "+peerPrepare, answerTo(g.prepareTakeOver))
	mux.HandleFunc("POST "+peerTakeOver, answerTo(g.takeOver))
	mux.HandleFunc("GET "+peerStatus, answerTo(func(context.Context, struct{}) (admin.NodeStatus, error) { return g.nodeStatus(), nil }))
	mux.HandleFunc("POST "+peerRoster, answerTo(g.roster.answer))
	mux.HandleFunc("POST "+peerMark, answerTo(g.mark))
	mux.HandleFunc("POST "+peerDigest, answerTo(g.digest))
	mux.HandleFunc("POST "+peerRanges, answerTo(g.ranges))
	mux.HandleFunc("POST "+peerVerified, answerTo(g.learned))
	mux.HandleFunc("POST "+peerReceipt, answerTo(g.receiptHere))
	mux.HandleFunc("POST "+peerReplace, answerTo(g.replaceState))
	mux.HandleFunc("GET "+peerSuffix+"{name}", g.serveSuffix)
	mux.HandleFunc("GET "+peerFrames, g.serveFrames)
	mux.Handle(peerAdmin+"/", http.StripPrefix(peerAdmin, forwarded))
	return mux
}

// answerTo decodes one JSON request and encodes one JSON answer.
func answerTo[In, Out any](do func(context.Context, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPeerBody)).Decode(&in); err != nil {
				fail(w, http.StatusBadRequest, fmt.Errorf("decode request: %w", err))
				return
			}
		}
		out, err := do(r.Context(), in)
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // a caller that left needs no answer
	}
}

func fail(w http.ResponseWriter, status int, err error) {
	e := peerError{Code: admin.CodeFailed, Message: err.Error()}
	var coded *admin.Error
	switch {
	case errors.As(err, &coded):
		e.Code = coded.Code
	case errors.Is(err, failover.ErrRefused):
		e.Code = admin.CodeRefused
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e)
}

// exchange takes note of a peer's epoch and tells it ours.
func (g *group) exchange(_ context.Context, theirs nodeState) (nodeState, error) {
	g.observe(theirs)
	if theirs.Holder == g.follower.target() && !g.receiver.Status().Running {
		g.follower.kick() // it may be ready to serve now
	}
	return g.epochState(), nil
}

func (g *group) epochState() nodeState {
	st := g.fence.State()
	return nodeState{Epoch: st.Epoch(), Holder: st.Holder(), Sync: st.Sync()}
}

// grant promises an epoch to a candidate (R3, R5). When it answers, the promise is durable, nothing of an older epoch is appended or acked here any more,
// and the position in the answer is final for those epochs. Called twice for the same candidate it answers the same way; a refusal answers with the
// epoch that this node obeys.
func (g *group) grant(ctx context.Context, r fenceRequest) (failover.Answer, error) {
	err := g.fence.Grant(r.Epoch, r.Candidate, r.Sync)
	switch {
	case errors.Is(err, failover.ErrFailed):
		g.fatal(fmt.Errorf("epoch file: %w", err))
		return failover.Answer{}, err
	case errors.Is(err, failover.ErrStaleEpoch), errors.Is(err, failover.ErrConflict):
		g.logger.Info("epoch not granted", "epoch", r.Epoch, "candidate", r.Candidate, "error", err)
		return g.answer(), nil
	case err != nil:
		return failover.Answer{}, err
	}
	if err := g.follower.settled(ctx); err != nil {
		return failover.Answer{}, fmt.Errorf("stream of an older epoch does not end: %w", err)
	}
	g.logger.Info("epoch granted", "epoch", r.Epoch, "candidate", r.Candidate)
	return g.answer(), nil
}

// mark appends a digest mark on the active.
func (g *group) mark(ctx context.Context, r markRequest) (markAnswer, error) {
	done := make(chan error, 1)
	var at wal.LSN
	g.seq.mark(ctx, r.ID, func(lsn wal.LSN, err error) {
		at = lsn
		done <- err
	})
	select {
	case err := <-done:
		return markAnswer{LSN: at}, err
	case <-ctx.Done():
		return markAnswer{}, fmt.Errorf("digest mark is not committed: %w", context.Cause(ctx))
	}
}

// errNoDigest says that a mark is not applied or not yet digested here.
var errNoDigest = errors.New("not digested yet")

// digest waits a while for the digest of a mark.
func (g *group) digest(ctx context.Context, r markRequest) (admin.NodeDigest, error) {
	ctx, cancel := context.WithTimeout(ctx, digestPoll)
	defer cancel()
	return g.digests.wait(ctx, r.ID)
}

// digestPoll is how long one call waits for a digest; the caller asks again.
const digestPoll = 2 * time.Second

// gossip exchanges epochs with the peers, so that a node that was away learns of a newer one (R15).
func (g *group) gossip(ctx context.Context) error {
	t := time.NewTicker(g.o.Gossip)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			g.askEpochs(ctx, g.o.Gossip*5, nil)
			g.refollow()
		case <-g.met:
			g.askEpochs(ctx, g.o.Gossip*5, nil)
		case <-ctx.Done():
			return nil
		}
	}
}

// refollow makes a standby follow the holder of the epoch, should it follow nobody: a step of a promotion that was given up may have ended that late (R15).
func (g *group) refollow() {
	if holder := g.otherHolder(); holder != "" && g.follower.target() == "" && g.runner.Role() == failover.RoleStandby {
		g.follower.follow(holder)
	}
}

// askEpochs exchanges epochs with all connected peers until all have answered, or enough, if it is given. It returns who did.
func (g *group) askEpochs(ctx context.Context, limit time.Duration, enough func(answered []string) bool) (answered []string) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	results := make(chan string, len(g.o.Peers)) // names, "" for one that does not answer
	asked := 0
	for _, p := range g.peers.mesh.Peers() {
		if !p.Connected {
			continue
		}
		asked++
		go func() {
			var theirs nodeState
			err := g.peers.call(ctx, p.Name, peerState, g.epochState(), &theirs)
			if err != nil {
				results <- ""
				return
			}
			g.observe(theirs)
			results <- p.Name
		}()
	}
	for range asked {
		if name := <-results; name != "" {
			answered = append(answered, name)
		}
		if enough != nil && enough(answered) {
			break
		}
	}
	return answered
}

// confirmLimit bounds how long a node that stood still waits for peers that do not answer.
const confirmLimit = 500 * time.Millisecond

// confirm asks the peers, after this process stood still, whether it is still the active. It returns false when it is not. Peers that do not answer within
// confirmLimit are passed over: a node that nobody can reach gets no acks for k ≥ 1 either, and for k = 0 there is nobody left to ask.
// One that was silent before is not waited for when a majority has answered: see saysEnough.
func (g *group) confirm() bool {
	g.confirming.Lock()
	defer g.confirming.Unlock()
	if !g.guard.paused() {
		return g.active()
	}
	deadline := time.Now().Add(confirmLimit)
	for g.active() && time.Now().Before(deadline) {
		if g.saysEnough(g.askEpochs(context.Background(), time.Until(deadline), g.saysEnough)) {
			break
		}
		select {
		case <-g.met: // a session came up: ask again
		case <-time.After(confirmLimit / 10):
		}
	}
	g.guard.cleared()
	return g.active()
}

// saysEnough reports whether the answers of these peers tell that nobody was promoted: all peers, or a majority of the voters and all but those that are suspected. The latter is for
// automatic failover, where the next active opens only once a majority obeys its epoch (outlastOlder), so that one of them has told it. A cluster that has lost a node would wait
// for that one otherwise, whenever the active stood still for a moment.
func (g *group) saysEnough(answered []string) bool {
	for _, name := range g.o.peerNames() {
		if !slices.Contains(answered, name) && !(g.majorityLease() && g.voter.suspected(name)) {
			return false
		}
	}
	return 2*(len(answered)+1) > len(g.o.Peers)+1
}
