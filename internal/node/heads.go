package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"repld/internal/events"
	"repld/wal"
)

// heads are the ends of the peers' logs as their heartbeats say them, (epoch, LSN, chain hash), to be compared with this log. A heartbeat only leaves its head here: finding a place in
// the log may read a segment, and heartbeats do not wait.
type heads struct {
	mu   sync.Mutex
	news map[string]wal.Position // by peer: not compared yet
}

const (
	alarmChain   = "history-differs-"
	compareHeads = time.Second // how often, at most
)

// heard takes note of a peer's head.
func (h *heads) heard(peer string, at wal.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.news == nil {
		h.news = map[string]wal.Position{}
	}
	h.news[peer] = at
}

func (h *heads) take() map[string]wal.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := h.news
	h.news = nil
	return news
}

// compareHeads compares what was heard, until ctx ends.
func (g *group) compareHeads(ctx context.Context) error {
	t := time.NewTicker(compareHeads)
	defer t.Stop()
	last := map[string]wal.Position{} // compared already
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		for peer, at := range g.proof.heads.take() {
			if last[peer] != at {
				last[peer] = at
				g.compareHead(peer, at)
			}
		}
	}
}

// compareHead: one LSN of one epoch with two hashes cannot be, because who holds an epoch writes an LSN once (R2). Suffixes of different epochs are another matter, which the peers
// settle when they meet on a log stream (R9, R15). A head that this log does not reach is compared by the other side.
func (g *group) compareHead(peer string, theirs wal.Position) {
	if theirs.LSN == 0 || theirs.LSN > g.log.End().LSN || theirs.LSN <= g.log.Start().LSN {
		return
	}
	ours, err := g.log.PositionAt(theirs.LSN)
	if err != nil || ours.LSN != theirs.LSN || ours.Epoch != theirs.Epoch {
		return
	}
	alarm := alarmChain + peer
	if ours.Hash == theirs.Hash {
		g.alarms.clear(alarm)
		return
	}
	if g.alarms.get(alarm) == "" {
		g.logger.Error("chain heads differ", "peer", peer, "theirs", theirs, "ours", ours)
		g.events.Record(events.Verified, "chain heads differ", slog.String("peer", peer), slog.Any("theirs", theirs), slog.Any("ours", ours), slog.Bool("ok", false))
	}
	g.alarms.raise(alarm, fmt.Sprintf("%s has another history than this node: %s there, %s here. Keep both data directories: replctl verify DIR says which is damaged", peer, theirs, ours))
}
