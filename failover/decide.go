package failover

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"repld/wal"
)

// Decide is the promotion rule R5 as a pure function: may the candidate begin an epoch, from whose log, and what would be lost.
// It is asked twice, with the answers of a survey, which changed nothing, so that a refused promotion disturbs
// nobody, and with the answers of the fence, which bind.
//
// For every tenure that may hold writes which the answers do not show, there must count
//
//	the holder of that epoch, or |V| − k + 1 members of its sync set (V, k),
//
// because an acked write is on the holder and on k of V. Such tenures are the newest one known and, downwards, all
// those above the most advanced log that counts, and the one of that log itself: a log that reached an epoch began it from
// everything committed before. A granted epoch counts as a tenure before its holder writes, which is what R6 asks: the rule is the
// old one and the new one until the epoch-start record is committed.
//
// Without a shared token store the grants themselves must make the holder of the next epoch unique (R2), so two
// sets that suffice must intersect: then the holder needs k members beside it, and the members must also be a majority of V.
//
// Blank nodes and non-voters never count (R11), nor does one that others saw farther than it is. A cluster whose data nodes all answer and are all blank begins
// without consent.
func Decide(s Situation) Plan { return rule{}.decide(s) }

// rule holds what the test of the rule takes away, one clause at a time, to show that each is needed. The zero rule
// is R5.
type rule struct {
	countBlank, countNonVoters  bool // R11 does not hold
	countOutseen                bool // nor for a node that others saw ahead of where it is
	fewerMembers                bool // |V| − k members do
	holderAlone, minorityGrants bool // grants need not intersect
	newestTenureOnly            bool // the set before an unfinished promotion is forgotten
	candidateSource             bool // continue from the candidate's log, whatever the others have
}

// inquiry is one evaluation of the rule.
type inquiry struct {
	rule
	Situation
	plan    Plan
	answers map[string]Answer
	tenures []Tenure // falling order of epoch, without the one being granted
	hard    []string // reasons that no consent overrides
	unmet   []string // reasons that consent to data loss overrides
}

func (r rule) decide(s Situation) Plan {
	q := &inquiry{rule: r, Situation: s, answers: make(map[string]Answer, len(s.Answers))}
	for _, a := range s.Answers {
		q.answers[a.Node] = a
	}
	q.tenures = q.collectTenures()
	q.planEpoch()
	q.planNext()
	q.planHistory()
	q.checkCandidate()
	if q.allBlank() {
		q.decideFresh()
	} else {
		q.decideData()
		q.decideCut()
	}
	q.conclude()
	return q.plan
}

// collectTenures unites what the answers and the token remember: for each epoch the newest set. Two nodes that were promoted at the same time
// may each have been granted the same epoch, by itself at least; at most one of them can have committed anything in it, and as it is not
// known which, both count as tenures.
func (q *inquiry) collectTenures() []Tenure {
	type grant struct {
		epoch  wal.Epoch
		holder string
	}
	known := make(map[grant]Tenure)
	add := func(t Tenure) {
		if t.Epoch == 0 || (q.Fenced != 0 && t.Epoch == q.Fenced && t.Holder == q.Candidate) {
			return
		}
		if old, ok := known[grant{t.Epoch, t.Holder}]; !ok || t.Sync.Version > old.Sync.Version {
			known[grant{t.Epoch, t.Holder}] = t
		}
	}
	for _, a := range q.Answers {
		for _, t := range a.Tenures {
			add(t)
		}
		if a.Reachable && len(a.Tenures) == 0 {
			add(Tenure{Epoch: a.Epoch, Holder: a.Holder, Sync: a.Sync})
		}
	}
	for _, t := range q.Token.History {
		add(t)
	}
	add(Tenure{Epoch: q.Token.Epoch, Holder: q.Token.Holder, Sync: q.Token.Sync})
	return slices.SortedFunc(maps.Values(known), func(a, b Tenure) int {
		return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), cmp.Compare(a.Holder, b.Holder))
	})
}

// planEpoch chooses the epoch above everything seen; in the fence phase it checks that nothing rose above the one won.
func (q *inquiry) planEpoch() {
	seen, who := q.Token.Epoch, q.Token.Holder
	for _, a := range q.Answers {
		if e := max(a.Epoch, a.Position.Epoch); a.Reachable && e > seen {
			seen, who = e, a.Holder
		}
	}
	if q.Fenced == 0 {
		q.plan.Epoch = seen + 1
		switch {
		case q.Shared:
		case q.AllowDataLoss:
			q.plan.Epoch = q.ownEpoch(seen, consentBlock)
		case q.rivals():
			q.plan.Epoch = q.ownEpoch(seen, 1)
		}
		return
	}
	q.plan.Epoch = q.Fenced
	if seen > q.Fenced {
		q.hard = append(q.hard, fmt.Sprintf("epoch %d, held by %s, is above epoch %d", seen, who, q.Fenced))
	}
	for _, t := range q.tenures {
		if t.Epoch == q.Fenced {
			q.hard = append(q.hard, fmt.Sprintf("epoch %d is held by %s", t.Epoch, t.Holder))
		}
	}
}

// consentBlock is how many epochs in a row belong to a candidate that begins one with consent to data loss. Whom it could not ask goes on from the epoch that
// it knows, one by one, and so do those who follow the candidate: without room between them, both would come to one number, and neither would be fenced
// by the other (R2).
const consentBlock = 1000

// rivals reports whether two nodes were granted the newest epoch: they were promoted at the same time, and may be again.
func (q *inquiry) rivals() bool {
	return len(q.tenures) > 1 && q.tenures[0].Epoch == q.tenures[1].Epoch
}

// ownEpoch is the beginning of the first block of epochs above seen that only this candidate begins: each node has every n-th block, in the order of their names.
// The next number is unique when the grants of two candidates must intersect. With consent to data loss they need not, and rivals who both took
// it would do so again and again.
func (q *inquiry) ownEpoch(seen, block wal.Epoch) wal.Epoch {
	nodes := slices.Sorted(slices.Values(q.Nodes))
	n, own := wal.Epoch(len(nodes)), wal.Epoch(slices.Index(nodes, q.Candidate))
	b := seen/block + 1
	return (b + (own+n-b%n)%n) * block
}

// planNext completes the set that the new epoch will record, and checks that the epoch could commit anything: if it
// cannot, beginning it would only stop the cluster.
func (q *inquiry) planNext() {
	next := q.Next
	next.Members = slices.DeleteFunc(slices.Clone(next.Members), func(m string) bool { return m == q.Candidate })
	version := q.Token.Sync.Version
	for _, t := range q.tenures {
		version = max(version, t.Sync.Version)
	}
	if q.Fenced == 0 || next.Version == 0 {
		next.Version = version + 1
	}
	q.plan.Next = next
	if len(q.tenures) > 0 {
		q.plan.Sync = q.tenures[0].Sync
	}
	n := 0
	for _, m := range next.Members {
		if q.answered(m) {
			n++
		}
	}
	if n < next.K {
		q.hard = append(q.hard, fmt.Sprintf("nothing could be committed: sync is %s, and %d of them answer; bring one back, or promote with a lower sync (--sync)", next, n))
	}
}

// planHistory keeps the newest tenures for the token record.
func (q *inquiry) planHistory() {
	h := slices.Clone(q.tenures)
	q.plan.Forgotten = q.Token.Forgotten
	if len(h) > MaxTenures {
		q.plan.Forgotten = max(q.plan.Forgotten, h[MaxTenures].Epoch)
		h = h[:MaxTenures]
	}
	slices.Reverse(h)
	q.plan.History = h
}

func (q *inquiry) checkCandidate() {
	a, ok := q.answers[q.Candidate]
	switch {
	case !ok || !a.Reachable:
		q.hard = append(q.hard, fmt.Sprintf("the candidate %s did not answer", q.Candidate))
	case a.Stateless != "":
		q.hard = append(q.hard, fmt.Sprintf("the candidate %s has no state: %s", q.Candidate, a.Stateless))
	case q.Fenced != 0 && !q.answered(q.Candidate):
		q.hard = append(q.hard, fmt.Sprintf("the candidate %s has not granted itself epoch %d", q.Candidate, q.Fenced))
	}
}

// answered reports whether node answered and, in the fence phase, granted the epoch.
func (q *inquiry) answered(node string) bool {
	a, ok := q.answers[node]
	if !ok || !a.Reachable || a.Role == RoleWitness {
		return false
	}
	return q.Fenced == 0 || (a.Epoch == q.Fenced && a.Holder == q.Candidate)
}

// counts reports whether node's log counts for R5 (R11). A log in doubt counts when every data node answers: then nobody is left who could know
// more (R8), and the most advanced log is the best there is.
func (q *inquiry) counts(node string) bool {
	a := q.answers[node]
	voter := a.Voter || q.countNonVoters || (a.Doubt && q.allAnswered())
	return q.answered(node) && voter && (!a.Blank || q.countBlank) && (q.countOutseen || q.outseen(node) == "")
}

// outseen says who saw a node's log, of the same incarnation, ahead of where it is, "" if nobody did: the directory was put back from an older copy, which looks sound to itself and does not know
// what it acked and promised since (R11). For a moment it is said, too, of a node that cut a suffix which the new history does not contain, until it has that one's first frame.
func (q *inquiry) outseen(node string) string {
	a := q.answers[node]
	for _, o := range q.Answers {
		if s, ok := o.Seen[node]; ok && o.Reachable && o.Node != node && s.Incarnation == a.Incarnation && s.Position.Ahead(a.Position) {
			return fmt.Sprintf("it ends at %s, and %s saw it at %s: an older copy of its directory was put back; empty it, and it is seeded", a.Position, o.Node, s.Position)
		}
	}
	return ""
}

func (q *inquiry) allAnswered() bool {
	for _, n := range q.Nodes {
		if !q.answered(n) {
			return false
		}
	}
	return true
}

// granted counts the nodes whose promises hold, whatever is missing at the end of their logs.
func (q *inquiry) granted(nodes []string) int {
	n := 0
	for _, m := range nodes {
		if q.counts(m) || (q.answered(m) && q.answers[m].Doubt && q.outseen(m) == "") {
			n++
		}
	}
	return n
}

func (q *inquiry) counted(nodes []string) int {
	n := 0
	for _, m := range nodes {
		if q.counts(m) {
			n++
		}
	}
	return n
}

func (q *inquiry) allBlank() bool {
	for _, a := range q.Answers {
		if a.Reachable && a.Role != RoleWitness && !a.Blank {
			return false
		}
	}
	return true
}

// conclude turns the reasons into the verdict.
func (q *inquiry) conclude() {
	p := &q.plan
	p.Reasons = append(q.hard, q.unmet...)
	p.Allowed = len(p.Reasons) == 0
	if !p.Allowed && len(q.hard) == 0 && q.AllowDataLoss {
		p.Allowed, p.Consented = true, true
		p.Loss = q.loss()
		p.Reasons = append(p.Reasons, fmt.Sprintf("consented to data loss: %s", p.Loss))
	}
	if p.Allowed && p.Cut != nil {
		q.concludeCut()
	}
	for _, a := range q.Answers {
		if p.Allowed && q.Fenced == 0 && a.Reachable && a.Role == RoleActive && a.Node != q.Candidate {
			p.Reasons = append(p.Reasons, fmt.Sprintf("%s is active in epoch %d and will be fenced", a.Node, a.Epoch))
		}
	}
}

// loss is the range given up when the rule is not met: nothing after the target is adopted, and what the silent nodes
// acked cannot be known.
func (q *inquiry) loss() Loss {
	l := Loss{From: q.plan.Target.LSN + 1, Unknown: true}
	for _, a := range q.Answers {
		if a.Reachable && a.Committed > q.plan.Target.LSN {
			l.To = max(l.To, a.Committed)
		}
	}
	return l
}

// missing says for each configured node that does not count why it does not.
func (q *inquiry) missing() []string {
	var out []string
	for _, n := range q.Nodes {
		a := q.answers[n]
		switch {
		case q.counts(n):
		case !a.Reachable && a.Err != "":
			out = append(out, fmt.Sprintf("%s (no answer: %s)", n, a.Err))
		case !a.Reachable:
			out = append(out, n+" (no answer)")
		case a.Role == RoleWitness:
			out = append(out, n+" (witness)")
		case !q.answered(n):
			out = append(out, fmt.Sprintf("%s (refused: it obeys epoch %d of %s)", n, a.Epoch, a.Holder))
		case a.Blank:
			out = append(out, n+" (blank)")
		case q.outseen(n) != "":
			out = append(out, fmt.Sprintf("%s (%s)", n, q.outseen(n)))
		default:
			out = append(out, n+" (not a voter)")
		}
	}
	return out
}

func list(names []string) string { return "[" + strings.Join(names, " ") + "]" }
