package invariant

import (
	"fmt"

	"repld/wal"
)

// Frame is one frame of a log as the checker needs it.
type Frame struct {
	Prev    wal.Hash     // chain hash before it
	First   wal.LSN      // of its first record
	End     wal.Position // its end
	Records []uint64     // a number for each record's content
}

// History is the log of a node.
type History interface {
	Start() wal.Position
	End() wal.Position
	// PositionAt returns the greatest frame end at or below lsn, or an error below Start.
	PositionAt(lsn wal.LSN) (wal.Position, error)
	// Frames returns the frames with first LSN above after and last LSN up to to.
	Frames(after, to wal.LSN) []Frame
}

// Violation is a broken rule.
type Violation struct {
	Rule string // R1 … R15
	Text string
}

// Error names the rule first.
func (v *Violation) Error() string { return v.Rule + ": " + v.Text }

// entry is one committed LSN. end is zero where only a trimmed log knew the record.
type entry struct {
	end    wal.Position // of its frame
	record uint64
}

// promise is the highest epoch that a node answered under.
type promise struct {
	incarnation uint64
	epoch       wal.Epoch
	holder      string
}

// Checker follows one group. Make it with New.
type Checker struct {
	err *Violation

	committed []entry // by LSN, from 1
	committer map[wal.Epoch]string
	newest    wal.Epoch // highest epoch that committed anything
	rebased   wal.Epoch // highest epoch that was begun with consent and committed anything
	consents  map[wal.Epoch]bool
	givenUp   map[wal.Hash]bool // frames that consent gave up

	acked    uint64
	ackedTo  wal.LSN // highest
	forgiven uint64

	promises map[string]promise
	debts    map[string]wal.Position // wiped nodes: what they must hold before they count
}

// New returns a checker of a new group.
func New() *Checker {
	return &Checker{
		committer: map[wal.Epoch]string{}, consents: map[wal.Epoch]bool{}, givenUp: map[wal.Hash]bool{},
		promises: map[string]promise{}, debts: map[string]wal.Position{},
	}
}

// Err returns the first violation, nil if there is none.
func (c *Checker) Err() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

// Fail notes a violation that the driver found by itself.
func (c *Checker) Fail(rule, format string, args ...any) {
	if c.err == nil {
		c.err = &Violation{Rule: rule, Text: fmt.Sprintf(format, args...)}
	}
}

// End returns the end of the committed history.
func (c *Checker) End() wal.Position {
	if n := len(c.committed); n > 0 {
		return c.committed[n-1].end
	}
	return wal.Position{}
}

// Acks returns how many writes were acked, and how many of them consent gave up.
func (c *Checker) Acks() (acked, forgiven uint64) { return c.acked, c.forgiven }

// has reports whether the committed history has a frame that ends at p; known is false where it cannot tell.
func (c *Checker) has(p wal.Position) (yes, known bool) {
	if p.LSN == 0 || int(p.LSN) > len(c.committed) {
		return p == wal.Position{}, true
	}
	e := c.committed[p.LSN-1]
	if e.end.LSN == 0 {
		return true, false
	}
	return e.end == p, true
}

// continues reports whether log holds all that is committed in epochs up to epoch, as far as it is retained. A node that waits for older leases to end before it opens may
// have lost its epoch meanwhile without knowing: nothing of the newer one can be in its log, and nothing that it writes is committed.
func (c *Checker) continues(log History, epoch wal.Epoch) error {
	n := len(c.committed)
	for n > 0 && c.committed[n-1].end.Epoch > epoch {
		n--
	}
	if n == 0 || c.committed[n-1].end.LSN == 0 {
		return nil
	}
	end := c.committed[n-1].end
	at, err := log.PositionAt(end.LSN)
	if start := log.Start(); err != nil {
		return fmt.Errorf("the log starts after %v, committed is %v", start, end)
	}
	if at != end {
		return fmt.Errorf("committed is %v, the log has %v there", end, at)
	}
	return nil
}
