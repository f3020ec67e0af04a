package coresim

import (
	"errors"
	"fmt"
	"sort"

	"repld/test/invariant"
	"repld/wal"
)

// frame is what one group commit writes.
type frame struct {
	epoch     wal.Epoch
	first     wal.LSN
	prev      wal.Hash
	end       wal.Position
	committed wal.LSN  // known to its writer when it was written
	records   []uint64 // their contents, each one unique
}

func newFrame(epoch wal.Epoch, after wal.Position, committed wal.LSN, records []uint64) *frame {
	h := mix(uint64(after.Hash), uint64(epoch))
	for _, r := range records {
		h = mix(h, r)
	}
	end := wal.Position{Epoch: epoch, LSN: after.LSN + wal.LSN(len(records)), Hash: wal.Hash(h)}
	return &frame{epoch: epoch, first: after.LSN + 1, prev: after.Hash, end: end, committed: committed, records: records}
}

func mix(h, x uint64) uint64 {
	h ^= x + 0x9e3779b97f4a7c15 + h<<6 + h>>2
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}

var (
	errGap      = errors.New("frame does not continue the log")
	errDiverged = errors.New("frame of another history")
	errStale    = errors.New("frame of an older epoch")
	errFailed   = errors.New("log has failed")
)

// simLog is a node's log: frames in order, of which the first durable ones survive a crash for sure. It is what package wal promises, reduced to frames.
type simLog struct {
	start   wal.Position
	frames  []*frame
	durable int
	claimed int  // mutant: what a sync that failed pretended
	failed  bool // a sync failed: nothing more is written (R10)
}

var _ invariant.History = (*simLog)(nil)

func (l *simLog) clone() *simLog {
	return &simLog{start: l.start, frames: append([]*frame(nil), l.frames...), durable: l.durable}
}

// Start implements replicate.History.
func (l *simLog) Start() wal.Position { return l.start }

// End implements replicate.History: the end of what is written.
func (l *simLog) End() wal.Position { return l.endOf(len(l.frames)) }

// Durable is the end of what is synced.
func (l *simLog) Durable() wal.Position { return l.endOf(max(l.durable, l.claimed)) }

// sync ends a sync of everything up to lsn. It reports false when the disk failed. After a failure that went unnoticed nothing becomes durable any more: what is behind
// a hole is lost with it.
func (l *simLog) sync(p *proc, lsn wal.LSN) bool {
	switch {
	case p.n.failSync:
		p.n.failSync = false
		p.s.note(p.n, "sync failed")
		if !p.s.mutant(AckAfterFailure) {
			l.failed = true
			return false
		}
		l.claimed = l.upTo(lsn)
	case l.claimed > 0:
		l.claimed = l.upTo(lsn)
	default:
		l.durable = max(l.durable, l.upTo(lsn))
	}
	return true
}

func (l *simLog) endOf(n int) wal.Position {
	if n == 0 {
		return l.start
	}
	return l.frames[n-1].end
}

// upTo returns how many frames end at or below lsn.
func (l *simLog) upTo(lsn wal.LSN) int {
	return sort.Search(len(l.frames), func(i int) bool { return l.frames[i].end.LSN > lsn })
}

// PositionAt implements replicate.History.
func (l *simLog) PositionAt(lsn wal.LSN) (wal.Position, error) {
	if lsn < l.start.LSN {
		return wal.Position{}, fmt.Errorf("%w: LSN %d, the log starts after %v", wal.ErrTrimmed, lsn, l.start)
	}
	return l.endOf(l.upTo(lsn)), nil
}

// has reports whether a frame ends at p, or the log starts there.
func (l *simLog) has(p wal.Position) bool {
	at, err := l.PositionAt(p.LSN)
	return err == nil && at == p
}

// after returns the frame behind p, nil if p is the end.
func (l *simLog) after(p wal.Position) (*frame, error) {
	at, err := l.PositionAt(p.LSN)
	if err != nil {
		return nil, err
	}
	if at != p {
		return nil, errDiverged
	}
	if i := l.upTo(p.LSN); i < len(l.frames) {
		return l.frames[i], nil
	}
	return nil, nil
}

// Frames implements invariant.History.
func (l *simLog) Frames(after, to wal.LSN) []invariant.Frame {
	var out []invariant.Frame
	for _, f := range l.frames {
		if f.first > after && f.end.LSN <= to {
			out = append(out, f.fact())
		}
	}
	return out
}

func (f *frame) fact() invariant.Frame {
	return invariant.Frame{Prev: f.prev, First: f.first, End: f.end, Records: f.records}
}

func facts(fs []*frame) []invariant.Frame {
	out := make([]invariant.Frame, len(fs))
	for i, f := range fs {
		out[i] = f.fact()
	}
	return out
}

// append writes a frame; it is durable after the next sync.
func (l *simLog) append(f *frame) error {
	end := l.End()
	switch {
	case l.failed:
		return errFailed
	case f.first != end.LSN+1:
		return errGap
	case f.prev != end.Hash:
		return errDiverged
	case f.epoch < end.Epoch:
		return errStale
	}
	l.frames = append(l.frames, f)
	return nil
}

// cut drops what is behind to, and returns it.
func (l *simLog) cut(to wal.LSN) []*frame {
	n := l.upTo(to)
	gone := append([]*frame(nil), l.frames[n:]...)
	l.frames = l.frames[:n:n]
	l.durable, l.claimed = min(l.durable, n), min(l.claimed, n)
	return gone
}

// reset makes the log begin at to, and returns what it held.
func (l *simLog) reset(to wal.Position) []*frame {
	gone := l.frames
	l.start, l.frames, l.durable, l.claimed = to, nil, 0, 0
	return gone
}

// trim drops what is not needed for anything behind to.
func (l *simLog) trim(to wal.LSN) {
	n := min(l.upTo(to), l.durable)
	if n == 0 {
		return
	}
	l.start = l.frames[n-1].end
	l.frames = append([]*frame(nil), l.frames[n:]...)
	l.durable, l.claimed = l.durable-n, max(0, l.claimed-n)
}
