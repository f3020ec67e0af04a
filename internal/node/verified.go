package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"repld/internal/admin"
	"repld/internal/events"
	"repld/internal/kv"
)

const (
	alarmDiffers = "copies-differ"

	// Between verifyFirst and five times as long after it became active a node compares all copies for the first time: nodes are restarted more often than they compare.
	verifyFirst = 2 * time.Minute
	// verifyLook is how often it looks whether it is due.
	verifyLook = 5 * time.Second
	// tellWithin bounds the telling of a result.
	tellWithin = 5 * time.Second
)

// VerifyOptions say how the active compares all copies by itself.
type VerifyOptions struct {
	Every time.Duration // between two comparisons. Default 24 h; negative: never
	Rate  int64         // bytes/s that each node reads for it. Default 8 MiB/s; negative: as fast as it can
}

func (o *VerifyOptions) ensureDefaults() {
	def(&o.Every, 24*time.Hour)
	def(&o.Rate, 8<<20)
}

// proof is what a node knows of the sameness of the copies.
type proof struct {
	verified atomic.Pointer[admin.Verification]
	heads    heads
}

// verification puts a result into the words of status.
func verification(v admin.VerifyResult, by string, self bool, began time.Time) admin.Verification {
	out := admin.Verification{At: time.Now(), Took: time.Since(began).Seconds(), By: by, Self: self, OK: v.OK, Mark: v.Mark, Odd: odd(v)}
	for _, d := range v.Nodes {
		if d.Error == "" {
			out.Nodes = append(out.Nodes, d.Node)
		}
	}
	switch {
	case v.OK:
		out.Said = fmt.Sprintf("all copies are equal at lsn %d of epoch %d", v.Mark.LSN, v.Mark.Epoch)
	case len(out.Odd) > 0:
		out.Said = fmt.Sprintf("the copies on %s and %s differ at lsn %d of epoch %d", v.Reference, strings.Join(out.Odd, ", "), v.Mark.LSN, v.Mark.Epoch)
		for i, d := range v.Differences {
			if i == 3 {
				out.Said += "; …"
				break
			}
			out.Said += fmt.Sprintf("; %s from %s to %s", d.Node, d.From, d.To)
		}
	default:
		out.Said = "not all copies could be compared: " + strings.Join(v.Notes, "; ")
	}
	return out
}

// tellVerified has every node remember how a comparison came out: each may be asked, and may be the next active.
func (g *group) tellVerified(ctx context.Context, v admin.Verification) {
	g.learnVerified(v)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellWithin)
	defer cancel()
	for _, peer := range g.o.dataPeers() {
		var none struct{}
		if err := g.peers.call(ctx, peer, peerVerified, v, &none); err != nil {
			g.logger.Info("result of a verification not told", "peer", peer, "error", err)
		}
	}
}

// learned answers tellVerified.
func (g *group) learned(_ context.Context, v admin.Verification) (struct{}, error) {
	g.learnVerified(v)
	return struct{}{}, nil
}

// learnVerified remembers the newest result. The alarm is raised on those that differ and on the active; it stays until a comparison of all copies finds them equal.
func (g *group) learnVerified(v admin.Verification) {
	if old := g.proof.verified.Load(); old != nil && old.At.After(v.At) {
		return
	}
	g.proof.verified.Store(&v)
	level := slog.LevelInfo
	switch {
	case v.OK:
		g.alarms.clear(alarmDiffers)
	case v.Difference():
		level = slog.LevelError
		if g.active() || slices.Contains(v.Odd, g.o.Name) {
			g.alarms.raise(alarmDiffers, v.Said+": see replctl verify --keys")
		}
	}
	g.logger.Log(context.Background(), level, "copies compared", "ok", v.OK, "by", v.By, "result", v.Said)
	g.events.Record(events.Verified, "copies compared", slog.Bool("ok", v.OK), slog.String("by", v.By), slog.Bool("self", v.Self), slog.Any("mark", v.Mark),
		slog.Any("odd", v.Odd), slog.String("result", v.Said))
}

// selfVerify compares all copies now and then while this node is the active. With the log as it is, and the nodes' digests at a low rate, it costs a record and some reading.
func (g *group) selfVerify(ctx context.Context) error {
	o := g.o.Verify
	if o.Every < 0 {
		return nil
	}
	t := time.NewTicker(min(verifyLook, max(o.Every/4, time.Millisecond)))
	defer t.Stop()
	var due time.Time
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		if !g.active() {
			due = time.Time{}
			continue
		}
		if due.IsZero() {
			due = g.firstVerify(time.Now(), o.Every)
		}
		if time.Now().Before(due) {
			continue
		}
		req := admin.VerifyRequest{BytesPerSec: max(0, o.Rate), WaitSeconds: g.selfVerifyWait(o.Rate).Seconds()}
		if _, err := g.verifyOnce(ctx, req, true, func(admin.Event) {}); err != nil && ctx.Err() == nil {
			g.logger.Warn("copies not compared", "error", err)
		}
		due = time.Now().Add(o.Every)
	}
}

// firstVerify is when a node that is active now compares next: when it would have been due, or soon after it took over.
func (g *group) firstVerify(now time.Time, every time.Duration) time.Time {
	soon := now.Add(min(every, verifyFirst+rand.N(4*verifyFirst)))
	if last := g.proof.verified.Load(); last != nil && last.At.Add(every).After(soon) {
		return last.At.Add(every)
	}
	return soon
}

// selfVerifyWait is how long a comparison waits for a node: for its delay, and for reading the state at that rate twice over.
func (g *group) selfVerifyWait(rate int64) time.Duration {
	wait := verifySlack + g.o.ApplyDelay
	for _, peer := range g.o.dataPeers() {
		ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
		wait = max(wait, verifySlack+g.delayOf(ctx, peer))
		cancel()
	}
	if rate <= 0 {
		rate = kv.YieldFloor
	}
	return wait + 2*time.Duration(float64(g.state.size())/float64(rate)*float64(time.Second))
}

// size is about how many bytes a digest of the state reads.
func (s *state) size() int64 {
	st, err := s.acquire()
	if err != nil {
		return 0
	}
	defer s.release()
	m := st.Metrics()
	return max(int64(m.DiskBytes), m.Keys*256) * 4 // files are compressed
}

// verifiedMetrics are those of the last comparison.
func verifiedMetrics(v *admin.Verification, gauge func(name, help string, v float64)) {
	if v == nil {
		return
	}
	equal := 0.0
	if v.OK {
		equal = 1
	}
	gauge("verified_equal", "1 when the last comparison found all copies equal", equal)
	gauge("verified_differ", "copies that the last comparison found to differ", float64(len(v.Odd)))
	gauge("verified_lsn", "position of the last comparison", float64(v.Mark.LSN))
	gauge("verified_timestamp_seconds", "when the last comparison ended", float64(v.At.Unix()))
	gauge("verified_duration_seconds", "how long the last comparison took", v.Took)
}
