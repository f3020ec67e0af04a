package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// handover is the target's side of a switchover, in two calls of the active: prepare, while clients still write, and take over, while they wait.
// What may take long, or refuse, is in the first: the operator's hook, the survey, memory. The active may ask for the second without the first (one of an older
// version does), or too late: then everything happens in the second.
type handover struct {
	sync.Mutex
	seen   *failover.SurveyDone // nil: nothing is prepared
	epoch  wal.Epoch            // obeyed when it was
	before time.Time            // until when it counts
}

// prepareKeeps is how long a preparation counts. The hook allowed the promotion of now, not one of later.
const prepareKeeps = 5 * time.Second

// take returns what was prepared while the node obeyed epoch, once.
func (h *handover) take(epoch wal.Epoch) *failover.SurveyDone {
	h.Lock()
	defer h.Unlock()
	seen := h.seen
	h.seen = nil
	if h.epoch != epoch || !time.Now().Before(h.before) {
		return nil
	}
	return seen
}

type prepareRequest struct {
	Epoch  wal.Epoch `json:"epoch"` // of the active
	Reason string    `json:"reason"`
}

// prepareTakeOver does what of a promotion can be done ahead. It changes nothing that lasts: a switchover that is not carried out leaves nothing to be undone.
func (g *group) prepareTakeOver(ctx context.Context, r prepareRequest) (struct{}, error) {
	if at := g.fence.Epoch(); at != r.Epoch {
		return struct{}{}, fmt.Errorf("node %s obeys epoch %d, not %d", g.o.Name, at, r.Epoch)
	}
	opts := failover.PromoteOptions{Reason: r.Reason}
	if err := g.askPrePromote(ctx, opts, func(text string) { g.logger.Info("promotion", "progress", text) }); err != nil {
		return struct{}{}, err
	}
	seen, err := g.runner.Prepare(ctx, opts)
	if err != nil {
		return struct{}{}, err
	}
	if err := g.checkTail(ctx); err != nil {
		return struct{}{}, err
	}
	g.prepareState()
	g.handover.Lock()
	defer g.handover.Unlock()
	g.handover.seen, g.handover.epoch, g.handover.before = seen, r.Epoch, time.Now().Add(prepareKeeps)
	return struct{}{}, nil
}

// prepareState has the state's part of a promotion ready.
func (g *group) prepareState() {
	if st, err := g.state.acquire(); err == nil {
		st.Prepare()
		g.state.release()
	}
}

// takeOver is the active asking this node to promote itself.
func (g *group) takeOver(ctx context.Context, r takeOverRequest) (takeOverAnswer, error) {
	if at := g.log.Durable(); at != r.Position {
		return takeOverAnswer{}, fmt.Errorf("log ends at %s, not at %s", at, r.Position)
	}
	say := func(text string) { g.logger.Info("promotion", "progress", text) }
	opts := failover.PromoteOptions{Reason: r.Reason}
	if seen := g.handover.take(g.fence.Epoch()); seen != nil {
		opts.Surveyed = seen
		res, err := g.runner.Promote(ctx, opts, say)
		if !errors.Is(err, failover.ErrConflict) {
			return takeOverAnswer{Epoch: res.Epoch}, err
		}
		opts.Surveyed = nil // the token was written since (a sync set that changed): look again
		res, err = g.runner.Promote(ctx, opts, say)
		return takeOverAnswer{Epoch: res.Epoch}, err
	}
	res, err := g.promoteNow(ctx, opts, say)
	return takeOverAnswer{Epoch: res.Epoch}, err
}

// prepareLimit bounds the preparation, the operator's hook apart, which has a limit of its own.
const prepareLimit = 10 * time.Second

// prepareOther asks the target of a switchover to prepare. Clients still write, so a refusal costs them nothing.
func (g *group) prepareOther(ctx context.Context, to string) error {
	ctx, cancel := g.whileWell(ctx, to)
	defer cancel()
	ctx, late := context.WithTimeoutCause(ctx, prepareLimit+g.o.Hooks.Timeout, errors.New("it does not answer in time"))
	defer late()
	err := g.peers.call(ctx, to, peerPrepare, prepareRequest{Epoch: g.fence.Epoch(), Reason: "switchover from " + g.o.Name}, new(struct{}))
	var fault *peerError
	if err == nil || errors.As(err, &fault) && fault.Status == http.StatusNotFound {
		return nil // or an older version: it does everything when it takes over
	}
	said := &admin.Error{Code: admin.CodeFailed, Message: fmt.Sprintf("switchover to %s: nothing was changed: %v", to, err)}
	if fault != nil {
		said.Code = fault.Code
	}
	return said
}
