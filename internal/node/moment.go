package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// moment is a place in this node's log at which a person wants the history to end.
type moment struct {
	admin.Moment
	cut failover.Cut
}

// errFound ends a walk.
var errFound = errors.New("found")

// walk calls fn with every frame behind lsn up to the durable end.
func (g *group) walk(ctx context.Context, after wal.LSN, fn func(*wal.Frame) error) error {
	end := g.log.Durable().LSN
	r, err := g.log.NewReader(after)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Position().LSN < end {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		f, err := r.TryNext()
		if err != nil || f == nil {
			return err
		}
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}

// findMoment turns a person's words into a cut of this node's log. What the state has applied cannot be left out any more, so the search begins there.
func (g *group) findMoment(ctx context.Context, req admin.PromoteRequest) (moment, error) {
	m := moment{}
	m.Applied, m.Held = g.state.applied(), g.held() != nil
	var bad predicate
	var err error
	switch {
	case req.Before != "":
		if bad, err = parsePredicate(req.Before); err != nil {
			return m, err
		}
		m.LSN, err = g.findBefore(ctx, bad, req)
		m.Why = "before " + req.Before
	case req.ToTime != nil:
		m.LSN, err = g.findTime(ctx, *req.ToTime)
		m.Why = "at " + req.ToTime.UTC().Format(time.RFC3339Nano)
	default:
		m.LSN, m.Why = req.ToLSN, req.CutWhy
		def(&m.Why, fmt.Sprintf("at LSN %d", req.ToLSN))
	}
	if err != nil {
		return m, err
	}
	return m, g.describeMoment(ctx, &m, req.Before != "", bad)
}

// findBefore returns the LSN just before the first record that the predicate means.
func (g *group) findBefore(ctx context.Context, bad predicate, req admin.PromoteRequest) (wal.LSN, error) {
	var found wal.LSN
	err := g.walk(ctx, g.state.applied().LSN, func(f *wal.Frame) error {
		if f.Last() <= req.After || (req.AfterTime != nil && f.Time.Before(*req.AfterTime)) {
			return nil
		}
		return f.Each(func(r wal.Record) error {
			n, err := bad.record(r)
			if err == nil && n > 0 && r.LSN > req.After {
				found, err = r.LSN, errFound
			}
			return err
		})
	})
	switch {
	case errors.Is(err, errFound):
		return found - 1, nil
	case err != nil:
		return 0, err
	}
	return 0, usage("no record behind LSN %d, which the state of %s has applied, is %q: look for it with 'replctl log grep'; if it is applied here already, use another node or restore a backup",
		g.state.applied().LSN, g.o.Name, req.Before)
}

// findTime returns the last LSN before the first frame that was written after t: a frame is written at one moment.
func (g *group) findTime(ctx context.Context, t time.Time) (wal.LSN, error) {
	at := g.state.applied().LSN
	err := g.walk(ctx, at, func(f *wal.Frame) error {
		if f.Time.After(t) {
			return errFound
		}
		at = f.Last()
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return 0, err
	}
	if first, e := g.log.TimeOf(g.state.applied().LSN + 1); at == g.state.applied().LSN && e == nil && first.After(t) {
		if last, e := g.log.TimeOf(at); at > 0 && e == nil && last.After(t) {
			return 0, usage("the state of %s has applied records up to %s, after %s", g.o.Name, last.UTC().Format(time.RFC3339Nano), t.UTC().Format(time.RFC3339Nano))
		}
	}
	return at, nil
}

// Records shown before and behind a cut.
const (
	shownBefore = 3
	shownBehind = 5
)

// describeMoment fills in the place of the cut and what lies around it.
func (g *group) describeMoment(ctx context.Context, m *moment, counted bool, bad predicate) error {
	end := g.log.Durable()
	lsn := m.LSN
	switch {
	case lsn < m.Applied.LSN:
		return usage("LSN %d is applied at %s already, which is at LSN %d: effects are never undone; use a node that is further behind, or restore a backup", lsn, g.o.Name, m.Applied.LSN)
	case lsn > end.LSN:
		return usage("the log of %s ends at LSN %d, before LSN %d", g.o.Name, end.LSN, lsn)
	}
	at, err := g.log.PositionAt(lsn)
	if err != nil {
		return err
	}
	m.At = at
	m.cut = failover.Cut{At: at, LSN: lsn, Why: m.Why}
	m.Aside = uint64(end.LSN - lsn)
	if t, err := g.log.TimeOf(lsn); err == nil && lsn > 0 {
		m.Time = t
	}
	return g.walk(ctx, at.LSN, func(f *wal.Frame) error {
		if !counted && f.First > lsn+shownBehind {
			return errFound
		}
		return f.Each(func(r wal.Record) error {
			if r.LSN <= lsn && r.Kind == wal.KindEffects {
				m.Carried++
			}
			if counted && r.LSN > lsn {
				n, err := bad.record(r)
				if err != nil {
					return err
				}
				if n > 0 {
					m.Matched, m.MatchedEffects = m.Matched+1, m.MatchedEffects+n
				}
			}
			return nil
		})
	})
}

// around returns the records on both sides of a cut.
func (g *group) around(lsn wal.LSN) ([]admin.MomentRecord, error) {
	var out []admin.MomentRecord
	from := wal.LSN(1)
	if lsn > shownBefore {
		from = lsn - shownBefore + 1
	}
	frames, err := g.logFrames(from, min(lsn+shownBehind, g.log.Durable().LSN))
	if err != nil {
		return nil, err
	}
	for _, f := range frames {
		for _, r := range f.Records {
			if r.LSN >= from && r.LSN <= lsn+shownBehind {
				effects := r.Effects
				if len(effects) > 4 {
					effects = append(effects[:4:4], fmt.Sprintf("… %d effects in all", len(r.Effects)))
				}
				out = append(out, admin.MomentRecord{LSN: r.LSN, Time: f.Time, Kind: r.Kind, Effects: effects, Kept: r.LSN <= lsn})
			}
		}
	}
	return out, nil
}

// promoteToMoment promotes this node with a history that ends where a person says. It holds the state first: the decision must not be overtaken by the delay.
func (a adminAPI) promoteToMoment(ctx context.Context, req admin.PromoteRequest, opts failover.PromoteOptions, emit func(admin.Event)) (admin.PromoteResult, error) {
	n := 0
	for _, given := range []bool{req.ToLSN != 0, req.ToTime != nil, req.Before != ""} {
		if given {
			n++
		}
	}
	if n != 1 {
		return admin.PromoteResult{}, usage("say one of an LSN, a time, and what the history is to end before")
	}
	if a.active() {
		return admin.PromoteResult{}, usage("node %s is the active and has applied all that it acknowledged: promote a standby that is behind, or restore a backup", a.o.Name)
	}
	if req.Before != "" {
		if err := CheckPredicate(req.Before); err != nil { // nothing is held for a word that is misspelt
			return admin.PromoteResult{}, err
		}
	}
	if !req.Plan {
		if err := a.holdNow("promotion to a moment"); err != nil {
			return admin.PromoteResult{}, err
		}
		emit(admin.Event{Message: fmt.Sprintf("%s is held at LSN %d", a.o.Name, a.state.applied().LSN)})
	}
	m, err := a.findMoment(ctx, req)
	if err != nil && !errors.Is(err, errFound) {
		return admin.PromoteResult{}, err
	}
	if m.Around, err = a.around(m.LSN); err != nil {
		return admin.PromoteResult{}, err
	}
	opts.Cut = &m.cut
	if opts.K == nil {
		opts.K = new(int) // the others have to be rebuilt before they can ack: see syncSet, which raises it again
	}
	plan, err := a.runner.Plan(ctx, opts)
	r := a.promoteResult(plan)
	r.Plan, r.Moment = true, &m.Moment
	switch {
	case req.Plan || err != nil:
		return r, asAdmin(err)
	case !plan.Allowed:
		return r, &admin.Error{Code: admin.CodeRefused, Message: (&failover.RefusedError{Plan: plan, Phase: "survey"}).Error()}
	case !req.AcceptCut:
		return r, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("%d records behind LSN %d would leave the history: that needs a person's consent", m.Aside, m.LSN)}
	}
	r, err = a.promote(ctx, opts, emit)
	r.Moment = &m.Moment
	if err != nil {
		return r, err
	}
	if err := a.release(); err != nil {
		return r, err
	}
	r.Replay = uint64(m.LSN - min(m.Applied.LSN, m.LSN))
	emit(admin.Event{Message: "the other nodes are rebuilt from this one; until then the new epoch promises no copies, then as many as configured"})
	return r, nil
}

// cutLog ends the log at start.Previous, having saved what comes after (R9), and returns the records up to CutAt, which have to be written again. A crash
// before the epoch-start record leaves a log that is only shorter: the next promotion continues from a longer one, and the cut never was.
func (g *group) cutLog(start wal.EpochStart) ([]wal.Record, error) {
	carried, err := g.carried(start)
	if err != nil {
		return nil, err
	}
	if applied := g.stopApplying(start.Previous); applied.LSN > start.Previous.LSN {
		return nil, fmt.Errorf("the state holds LSN %d, the history is to end at %d", applied.LSN, start.Previous.LSN)
	}
	d, err := g.log.TruncateTail(start.Previous, wal.SaveOptions{Dir: g.path("diverged"), Reason: fmt.Sprintf("cut %s by the promotion of %s to epoch %d: %s", start.Cut, g.o.Name, start.Epoch, start.Reason)})
	if err != nil {
		return nil, fmt.Errorf("end the history at %s: %w", start.Previous, err)
	}
	g.logger.Warn("history cut by a person's word", "at", start.CutAt, "cut", start.Cut, "epoch", start.Epoch, "saved", d.Path, "records", d.Records, "carried", len(carried))
	return carried, nil
}

// carried copies the records between start.Previous and CutAt: they share a frame with what is cut.
func (g *group) carried(start wal.EpochStart) (out []wal.Record, err error) {
	if start.CutAt == start.Previous.LSN {
		return nil, nil
	}
	f, err := g.log.FrameAt(start.CutAt)
	if err != nil {
		return nil, err
	}
	if f.First != start.Previous.LSN+1 || f.Prev != start.Previous.Hash {
		return nil, fmt.Errorf("%w: LSN %d is not in the frame behind %s", wal.ErrDiverged, start.CutAt, start.Previous)
	}
	err = f.Each(func(r wal.Record) error {
		if r.LSN <= start.CutAt && r.Kind == wal.KindEffects {
			out = append(out, wal.Record{Kind: r.Kind, Payload: append([]byte(nil), r.Payload...)})
		}
		return nil
	})
	return out, err
}
