package failover

import (
	"fmt"
	"slices"
	"strings"

	"repld/wal"
)

// decideFresh is the rule for a cluster in which no node that answers holds anything.
func (q *inquiry) decideFresh() {
	p := &q.plan
	p.Needed = "every data node, all blank"
	p.Source = q.Candidate
	var silent []string
	for _, n := range q.Nodes {
		if q.answered(n) {
			p.Have = append(p.Have, n)
			continue
		}
		silent = append(silent, n)
	}
	p.Missing = silent
	known := wal.Epoch(0)
	for _, a := range q.Answers {
		known = max(known, a.Epoch)
	}
	switch {
	case q.Bootstrap:
		p.Bootstrap = true
	case len(silent) > 0:
		q.hard = append(q.hard, fmt.Sprintf("every node that answers is blank, and %s might hold data; bring them up, or use --bootstrap if this is a new cluster", list(silent)))
	case q.Token.Epoch > known:
		q.hard = append(q.hard, fmt.Sprintf("every data node is blank, but the token knows epoch %d of %s: is the data directory the right one? use --bootstrap to begin anew", q.Token.Epoch, q.Token.Holder))
	default:
		p.Bootstrap = true
	}
}

// decideData is the rule for a cluster that holds data.
func (q *inquiry) decideData() {
	p := &q.plan
	for _, n := range q.Nodes {
		if q.counts(n) {
			p.Have = append(p.Have, n)
		}
	}
	p.Missing = q.missing()
	p.Source, p.Target = q.mostAdvanced()
	self := q.answers[q.Candidate]
	if self.Blank {
		q.hard = append(q.hard, fmt.Sprintf("%s is blank and must be seeded first", q.Candidate))
	} else if !q.counts(q.Candidate) && q.answered(q.Candidate) {
		why := "is not a voter: its log is not known to be complete"
		if older := q.outseen(q.Candidate); older != "" {
			why = "does not count: " + older
		}
		q.unmet = append(q.unmet, q.Candidate+" "+why)
	}
	q.checkTenures()
	q.checkHistory()
}

// mostAdvanced chooses the log to continue: the candidate's own among equals. With consent to data loss a log whose completeness is
// in doubt may be used as well, because it can only lose less.
func (q *inquiry) mostAdvanced() (string, wal.Position) {
	if q.candidateSource {
		return q.Candidate, q.answers[q.Candidate].Position
	}
	var source string
	var best wal.Position
	for _, n := range append([]string{q.Candidate}, q.Nodes...) {
		a := q.answers[n]
		usable := q.counts(n) || (q.AllowDataLoss && q.answered(n) && !a.Blank)
		if usable && (source == "" || a.Position.Ahead(best)) {
			source, best = n, a.Position
		}
	}
	return source, best
}

// checkTenures asks the rule for each tenure that may hold writes the answers do not show.
func (q *inquiry) checkTenures() {
	best := q.bestCounted()
	var needed []string
	for i, t := range q.tenures {
		if i > 0 && q.tenures[i-1].Epoch != t.Epoch && (q.tenures[i-1].Epoch <= best.Epoch || q.newestTenureOnly) {
			break
		}
		met, text := q.checkTenure(t)
		needed = append(needed, text)
		if !met {
			q.unmet = append(q.unmet, "needed for "+text)
		}
	}
	q.plan.Needed = strings.Join(needed, "; and for ")
	known := func(t Tenure) bool { return t.Epoch == best.Epoch }
	if best.Epoch > 0 && !slices.ContainsFunc(q.tenures, known) {
		q.unmet = append(q.unmet, fmt.Sprintf("nobody knows who held epoch %d under which sync set", best.Epoch))
	}
	for _, a := range q.Answers {
		if q.counts(a.Node) && a.Forgotten > 0 && a.Forgotten >= best.Epoch {
			q.unmet = append(q.unmet, fmt.Sprintf("%s has forgotten the sync sets up to epoch %d", a.Node, a.Forgotten))
		}
	}
	if f := q.Token.Forgotten; f > 0 && f >= best.Epoch {
		q.unmet = append(q.unmet, fmt.Sprintf("the token has forgotten the sync sets up to epoch %d", f))
	}
}

// bestCounted is the most advanced position that R5 may rely on, without any that only consent admits.
func (q *inquiry) bestCounted() wal.Position {
	var best wal.Position
	for _, n := range q.Nodes {
		if a := q.answers[n]; q.counts(n) && a.Position.Ahead(best) {
			best = a.Position
		}
	}
	return best
}

// checkTenure is R5 for one tenure, and says in words who is needed.
func (q *inquiry) checkTenure(t Tenure) (met bool, text string) {
	holder := q.counts(t.Holder)
	if t.Sync.Version == 0 {
		return holder, fmt.Sprintf("epoch %d: %s, who held it (its sync set is not known)", t.Epoch, t.Holder)
	}
	v, k := len(t.Sync.Members), t.Sync.K
	members, quorum, beside := q.counted(t.Sync.Members), v-k+1, 0
	if q.fewerMembers {
		quorum--
	}
	if !q.Shared {
		if !q.holderAlone {
			beside = k
		}
		if !q.minorityGrants {
			quorum = max(quorum, v/2+1)
		}
	}
	text = fmt.Sprintf("epoch %d: %s, who held it", t.Epoch, t.Holder)
	if beside > 0 {
		text += fmt.Sprintf(", and %d of %s", beside, list(t.Sync.Members))
	}
	if quorum <= v {
		text += fmt.Sprintf("; or %d of %s", quorum, list(t.Sync.Members))
	}
	return (holder && q.granted(t.Sync.Members) >= beside) || members >= quorum, text
}

// checkHistory holds the answers against each other: a committed LSN that no log reaches, or two histories of one
// epoch, show that a promise was broken somewhere (a disk restored from an older copy, a lost epoch file).
func (q *inquiry) checkHistory() {
	target := q.plan.Target
	for _, a := range q.Answers {
		if !a.Reachable {
			continue
		}
		if a.Committed > target.LSN && !q.candidateSource {
			q.unmet = append(q.unmet, fmt.Sprintf("%s knows that LSN %d was committed, but the most advanced log that counts, of %s, ends at LSN %d", a.Node, a.Committed, q.plan.Source, target.LSN))
		}
		twin := a.Position.Epoch == target.Epoch && a.Position.LSN == target.LSN && a.Position.Hash != target.Hash
		if twin && q.counts(a.Node) {
			q.unmet = append(q.unmet, fmt.Sprintf("%s and %s hold two histories of epoch %d that both end at LSN %d", a.Node, q.plan.Source, target.Epoch, target.LSN))
		}
	}
}
