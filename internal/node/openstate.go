package node

import (
	"errors"
	"fmt"

	"repld/internal/failpoint"
	"repld/internal/kv"
	"repld/wal"
)

// openState opens the state, then the log, which must reach at least as far as the state surely did (R8), then checks that the state lies on
// the log's history. What is damaged is repaired or built anew, with the help of peers where that is needed (repair.go, rebuild.go).
func (g *group) openState(id identity) error {
	o := g.o
	g.state = &state{drain: o.CommitTimeout, options: kv.Options{
		FS: o.FS, Dir: g.path("state"), CacheBytes: o.CacheBytes, MemTableBytes: o.MemTableBytes, StallLimit: o.StallLimit,
		OnFatal: g.stateFailed, OnMark: g.digests.marked, Logger: g.logger,
	}}
	options := wal.Options{
		FS: o.FS, Dir: g.path("wal"), Identity: wal.Identity{Cluster: o.Cluster, Group: o.Group, Incarnation: id.incarnation()},
		SegmentBytes: o.SegmentBytes, MaxFrameBytes: o.MaxFrameBytes, MemoryBytes: o.MemoryTail, Logger: g.logger,
	}
	if err := g.finishRewind(); err != nil {
		return err
	}
	g.repair = newRepairer(g, options)
	defer g.repair.end()
	err := g.openStore(func(at wal.Position) error {
		// A crash interrupted the install of a snapshot: the log begins anew at its position.
		if err := g.repair.openLogFor(at); err != nil {
			return err
		}
		return g.resetLog(at, 0) // which records are in the new history is not known any more: all that are not sure to be are saved
	})
	if err != nil {
		return err
	}
	at := g.state.applied()
	if g.log == nil {
		if err := g.repair.openLog(at); err != nil {
			return err
		}
	}
	failpoint.Hit(failpoint.RecoverState)
	if err := g.fitState(at); err != nil {
		return err
	}
	if g.recovery.Doubt && len(o.Peers) > 0 && g.fence.Voter() {
		g.logger.Warn("log tail was damaged and cut: this node does not vote for data until a peer has shown it that nothing is missing", "end", g.log.End())
		return g.fence.SetVoter(false)
	}
	return nil
}

// fitState checks that the state lies on the log's history. One that does not is no state: its MANIFEST was damaged in a way that Pebble takes for an older or an
// empty one, or it is of another copy than the log.
func (g *group) fitState(at wal.Position) error {
	have, err := g.log.PositionAt(at.LSN)
	if g.state.lacking() == "" && err == nil && have == at {
		g.rebuilt()
		return nil
	}
	reason := g.state.lacking()
	if reason == "" {
		reason = fmt.Sprintf("state at %s is not on the history of the log, which has %s there (%v)", at, have, err)
	}
	return g.rebuild(errors.New(reason))
}
