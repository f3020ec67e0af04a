package replicate

import (
	"fmt"
	"slices"

	"repld/wal"
)

// CommitRule decides which records are committed: those that are durable here and acked by at least k of V (DESIGN
// section 4). It is pure and not safe for concurrent use: one goroutine, or one lock, owns it. Acked counts only acks
// whose Ack.Counts is true.
//
// Two conditions besides the count:
//
//   - Nothing above what was known to be committed when the epoch opened commits before the epoch-start record
//     does. Until then a later epoch could still be won by a log without those older records, because positions are
//     compared by epoch first (R1, R5).
//   - Only an ack that carries the version of the set in force, or a later one, counts: who acked has persisted the
//     set, so whoever asks it during a promotion learns which set the records were committed under (R6).
//
// A change of the set goes through these calls, in this order; a crash after any of them leaves promotion and commit
// intersecting (R6):
//
//  1. SetRule(next): from now on a commit needs the current set and the next one. It only tightens.
//  2. Wait until Covered: the next set alone would have committed everything that is committed. Before that, a
//     promotion by the next set could miss records that the current one committed.
//  3. Record the next set: compare-and-set in a shared token store, or Sender.SetSync where each node keeps the record.
//  4. Wait until the store confirmed, or, without a shared store, until Recorded.
//  5. Settle: from now on a commit needs the next set alone. This may loosen.
//
// Abandon instead of step 3 goes back to the current set. After step 3 began there is no way back but a further change.
type CommitRule struct {
	self      string
	set       wal.SyncSet
	next      *wal.SyncSet
	first     wal.LSN
	durable   wal.LSN
	committed wal.LSN
	acks      map[string]standbyAck
	scratch   []wal.LSN
}

type standbyAck struct {
	lsn  wal.LSN
	sync uint64
}

// NewCommitRule starts the rule of an epoch. self never counts as a standby, though it may be named in the set. known
// is the committed LSN known when the epoch opened, first the LSN of the epoch-start record.
func NewCommitRule(self string, set wal.SyncSet, known, first wal.LSN) *CommitRule {
	return &CommitRule{self: self, set: cloneSet(set), first: first, committed: known, acks: map[string]standbyAck{}}
}

// Durable says that our own log is durable up to lsn.
func (r *CommitRule) Durable(lsn wal.LSN) {
	r.durable = max(r.durable, lsn)
	r.advance()
}

// Acked says that standby has our log durable up to lsn, and has persisted the sync set of the given version.
func (r *CommitRule) Acked(standby string, lsn wal.LSN, sync uint64) {
	a := r.acks[standby]
	a.lsn = max(a.lsn, lsn)
	a.sync = max(a.sync, sync)
	r.acks[standby] = a
	r.advance()
}

// Forget drops what standby acked: it lost records or came back as another incarnation. What is committed stays so.
func (r *CommitRule) Forget(standby string) { delete(r.acks, standby) }

// Committed returns the highest committed LSN. It never falls.
func (r *CommitRule) Committed() wal.LSN { return r.committed }

// AckedBy returns how many standbys, members or not, have acked lsn: what WAIT reports.
func (r *CommitRule) AckedBy(lsn wal.LSN) int {
	n := 0
	for name, a := range r.acks {
		if name != r.self && a.lsn >= lsn {
			n++
		}
	}
	return n
}

// SetRule begins a change to next: commits need both sets until Settle. It fails with ErrChangePending while another
// change is under way, and when next is not newer than the current set or could never be met.
func (r *CommitRule) SetRule(next wal.SyncSet) error {
	if r.next != nil {
		return fmt.Errorf("%w: from version %d to %d", ErrChangePending, r.set.Version, r.next.Version)
	}
	if next.Version <= r.set.Version {
		return fmt.Errorf("sync set version %d is not above %d", next.Version, r.set.Version)
	}
	if next.K < 0 || next.K > r.size(next) {
		return fmt.Errorf("sync set %v can never be met by standbys of %s", next, r.self)
	}
	n := cloneSet(next)
	r.next = &n
	return nil
}

// Covered reports whether the pending set alone would have committed all that is committed. Once true it stays true
// until a member of the set is forgotten.
func (r *CommitRule) Covered() bool {
	return r.next != nil && r.ackedByAll(*r.next, 0) >= r.committed
}

// Recorded reports whether enough members of the current set have persisted the pending one for every promotion by the
// current set to learn of it: k of V, any of which a promotion must ask.
func (r *CommitRule) Recorded() bool {
	if r.next == nil {
		return false
	}
	n := 0
	for _, m := range r.members(r.set) {
		if r.acks[m].sync >= r.next.Version {
			n++
		}
	}
	return n >= r.set.K
}

// Settle puts the pending set in force alone. The caller made sure that the set is recorded: see the type.
func (r *CommitRule) Settle() error {
	if r.next == nil {
		return fmt.Errorf("no change of the sync set is pending")
	}
	if !r.Covered() {
		return fmt.Errorf("sync set %v does not cover committed LSN %d", *r.next, r.committed)
	}
	r.set, r.next = *r.next, nil
	r.advance()
	return nil
}

// Abandon drops the pending set. Only allowed before it was recorded anywhere.
func (r *CommitRule) Abandon() {
	r.next = nil
	r.advance()
}

// Rule returns the set in force and the pending one, nil if none is.
func (r *CommitRule) Rule() (current wal.SyncSet, next *wal.SyncSet) {
	if r.next != nil {
		n := cloneSet(*r.next)
		next = &n
	}
	return cloneSet(r.set), next
}

func (r *CommitRule) advance() {
	c := min(r.durable, r.ackedByAll(r.set, r.set.Version))
	if r.next != nil {
		c = min(c, r.ackedByAll(*r.next, 0))
	}
	if c >= r.first && c > r.committed {
		r.committed = c
	}
}

// ackedByAll returns the highest LSN that k members of the set have acked at the version or a later one.
func (r *CommitRule) ackedByAll(set wal.SyncSet, version uint64) wal.LSN {
	if set.K <= 0 {
		return ^wal.LSN(0)
	}
	lsns := r.scratch[:0]
	for _, m := range r.members(set) {
		if a, ok := r.acks[m]; ok && a.sync >= version {
			lsns = append(lsns, a.lsn)
		}
	}
	r.scratch = lsns
	if len(lsns) < set.K {
		return 0
	}
	slices.Sort(lsns)
	return lsns[len(lsns)-set.K]
}

// members yields each member of the set once, without ourselves.
func (r *CommitRule) members(set wal.SyncSet) func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		for i, m := range set.Members {
			if m != r.self && !slices.Contains(set.Members[:i], m) && !yield(i, m) {
				return
			}
		}
	}
}

func (r *CommitRule) size(set wal.SyncSet) (n int) {
	for range r.members(set) {
		n++
	}
	return n
}

func cloneSet(s wal.SyncSet) wal.SyncSet {
	s.Members = slices.Clone(s.Members)
	return s
}
