package replicate

import (
	"errors"
	"fmt"

	"repld/wal"
)

// ProgressState is what a sender is doing for a standby.
type ProgressState string

const (
	// StateProbe: the common position of both logs is being looked for.
	StateProbe ProgressState = "probe"
	// StateStream: the standby's log is a prefix of ours, and frames follow.
	StateStream ProgressState = "stream"
	// StateSnapshot: the standby is seeded, because our log does not reach back far enough or its state holds what the
	// new history does not.
	StateSnapshot ProgressState = "snapshot"
)

// History is what Progress asks of our own log; *wal.Log is one.
type History interface {
	Start() wal.Position
	End() wal.Position
	PositionAt(lsn wal.LSN) (wal.Position, error)
}

// Op is what Progress wants done next.
type Op string

// The operations of an Action.
const (
	OpProbe    Op = "probe"    // ask the standby for its greatest frame end at or below Action.LSN
	OpBegin    Op = "begin"    // tell the standby that streaming will start after Action.From
	OpStream   Op = "stream"   // stream the frames after Action.From
	OpSnapshot Op = "snapshot" // seed the standby, then Join again
)

// Action is one thing to do for a standby.
type Action struct {
	Op     Op
	LSN    wal.LSN
	From   wal.Position
	Reason string // of a snapshot
}

// String is the action as the transcripts write it.
func (a Action) String() string {
	switch a.Op {
	case OpProbe:
		return fmt.Sprintf("probe lsn=%d", a.LSN)
	case OpSnapshot:
		return "snapshot: " + a.Reason
	}
	return fmt.Sprintf("%s from=%v", a.Op, a.From)
}

// Progress is the state of one standby as its sender sees it (model: etcd-io/raft tracker.Progress). It is pure but
// for the questions it asks of History, and owned by one goroutine.
//
//	         Join                      Probed, Joined at the end
//	────────────────────► StateProbe ───────────── begin/ready ───────────► StateStream
//	                       ▲      │                                            │
//	                  Join │      │ no common position, or Rebuild             │ Trimmed
//	                       │      ▼                                            │
//	                     StateSnapshot ◄───────────────────────────────────────┘
//
// The search: positions of frame ends with equal (LSN, hash) have equal histories before them (chain hash), so "common"
// is monotone in the LSN, and a binary search over LSNs finds the last common frame end in about log2 questions.
type Progress struct {
	h     History
	state ProgressState
	// The search: low is the greatest LSN known to be common (best its position, known says whether there is one),
	// high the greatest that may be.
	best      wal.Position
	known     bool
	low, high wal.LSN
	asked     wal.LSN
	begun     *wal.Position
	// Streaming: sent and durable are ends of what was sent and acked.
	sent    wal.Position
	durable wal.LSN
}

// NewProgress returns the progress of a standby that has not joined yet.
func NewProgress(h History) *Progress { return &Progress{h: h, state: StateProbe} }

// State returns the state.
func (p *Progress) State() ProgressState { return p.state }

// Sent returns the end of what was sent.
func (p *Progress) Sent() wal.Position { return p.sent }

// Durable returns what the standby acked on this stream.
func (p *Progress) Durable() wal.LSN { return p.durable }

// Join starts over with the ends of the standby's log: at the beginning, and after a snapshot was installed.
func (p *Progress) Join(start, end wal.Position) (Action, error) {
	*p = Progress{h: p.h, state: StateProbe}
	own := p.h.Start()
	if end.LSN < own.LSN {
		return p.snapshot(fmt.Sprintf("log starts after %d, standby ends at %d", own.LSN, end.LSN)), nil
	}
	at, err := p.h.PositionAt(end.LSN)
	switch {
	case errors.Is(err, wal.ErrTrimmed):
		return p.snapshot("log was trimmed while joining"), nil
	case err != nil:
		return Action{}, err
	case at == end:
		return p.begin(end), nil
	}
	p.low, p.high = max(start.LSN, own.LSN), min(end.LSN, p.h.End().LSN)
	if p.low == 0 { // every log begins at the zero position
		p.known = true
	}
	return p.step()
}

// Probed takes the standby's answer: its greatest frame end at or below the LSN asked for, or not ok when its log does
// not reach back that far.
func (p *Progress) Probed(at wal.Position, ok bool) (Action, error) {
	if p.state != StateProbe || p.begun != nil {
		return Action{}, fmt.Errorf("%w: probe answered in state %s", ErrProtocol, p.state)
	}
	if !ok {
		return p.snapshot("standby's log was trimmed"), nil
	}
	if at.LSN > p.asked {
		return Action{}, fmt.Errorf("%w: asked for a position up to %d, answered %v", ErrProtocol, p.asked, at)
	}
	own, err := p.h.PositionAt(at.LSN)
	switch {
	case errors.Is(err, wal.ErrTrimmed):
		return p.snapshot("no common position is retained"), nil
	case err != nil:
		return Action{}, err
	}
	if own == at {
		// No frame of the standby ends in (at.LSN, asked], so no common one does.
		p.best, p.known, p.low = at, true, p.asked
	} else if at.LSN <= p.low {
		// Even the lowest that both retain, or the end of a frame over it, differs.
		if !p.known {
			return p.snapshot("no common position is retained"), nil
		}
		p.high = p.low
	} else {
		p.high = at.LSN - 1
	}
	return p.step()
}

func (p *Progress) step() (Action, error) {
	switch {
	case p.low > p.high:
		if !p.known {
			return p.snapshot("the logs do not overlap"), nil
		}
		return p.begin(p.best), nil
	case !p.known:
		p.asked = p.low // is the lowest that both retain common?
	case p.low == p.high:
		return p.begin(p.best), nil
	default:
		p.asked = p.low + (p.high-p.low+1)/2
	}
	return Action{Op: OpProbe, LSN: p.asked}, nil
}

// Ready says that the standby's log ends at the position that begin named.
func (p *Progress) Ready(at wal.Position) (Action, error) {
	if p.state != StateProbe || p.begun == nil || *p.begun != at {
		return Action{}, fmt.Errorf("%w: ready at %v in state %s", ErrProtocol, at, p.state)
	}
	p.state, p.sent, p.durable = StateStream, at, at.LSN
	return Action{Op: OpStream, From: at}, nil
}

// Rebuild says that the standby cannot begin where it was told to: its state holds effects beyond that (R15).
func (p *Progress) Rebuild(reason string) (Action, error) {
	if p.state != StateProbe || p.begun == nil {
		return Action{}, fmt.Errorf("%w: rebuild in state %s", ErrProtocol, p.state)
	}
	return p.snapshot(reason), nil
}

// Trimmed says that our log does not hold the frame after Sent any more.
func (p *Progress) Trimmed() Action { return p.snapshot("log was trimmed below the stream") }

// SentFrame notes a frame as sent. It must continue what was sent before.
func (p *Progress) SentFrame(prev wal.Hash, end wal.Position, first wal.LSN) error {
	if p.state != StateStream || prev != p.sent.Hash || first != p.sent.LSN+1 {
		return fmt.Errorf("frame %d..%d does not continue %v in state %s", first, end.LSN, p.sent, p.state)
	}
	p.sent = end
	return nil
}

// Acked notes the standby's durable LSN. It must lie between what it was before and what was sent.
func (p *Progress) Acked(lsn wal.LSN) error {
	if p.state != StateStream || lsn > p.sent.LSN || lsn < p.durable {
		return fmt.Errorf("%w: ack of %d in state %s, sent %d, acked before %d", ErrProtocol, lsn, p.state, p.sent.LSN, p.durable)
	}
	p.durable = lsn
	return nil
}

func (p *Progress) begin(at wal.Position) Action {
	p.begun = &at
	return Action{Op: OpBegin, From: at}
}

func (p *Progress) snapshot(reason string) Action {
	p.state, p.begun = StateSnapshot, nil
	return Action{Op: OpSnapshot, Reason: reason}
}
