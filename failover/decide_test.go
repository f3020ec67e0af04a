package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"repld/wal"
)

var names = []string{"a", "b", "c", "d"}

// others returns the first n names without self.
func others(n int, self string) []string {
	return slices.DeleteFunc(slices.Clone(names[:n]), func(s string) bool { return s == self })
}

// subsets calls fn with each subset of {0..n-1} as a bit set.
func subsets(n int, fn func(set int)) {
	for s := range 1 << n {
		fn(s)
	}
}

func in(set, i int) bool { return set&(1<<i) != 0 }

func count(set int) int {
	n := 0
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

// oneEpoch is a cluster in which "a" held epoch 1 with all others in V. LSN 2 is on a and on the nodes of acked, and committed if
// those are k or more; an unacked suffix up to LSN 3 is on a alone.
type oneEpoch struct {
	n, k                    int
	acked, answers, nonVote int // bit sets over names
	blank                   int
}

func (c oneEpoch) situation(candidate int, shared bool) Situation {
	s := Situation{Candidate: names[candidate], Nodes: names[:c.n], Shared: shared}
	s.Next = wal.SyncSet{Members: others(c.n, s.Candidate)}
	set := setOf(1, c.k, others(c.n, "a")...)
	for i := range c.n {
		a := Answer{Node: names[i], Reachable: in(c.answers, i)}
		if a.Reachable {
			a.Epoch, a.Holder, a.Sync, a.Tenures = 1, "a", set, []Tenure{{Epoch: 1, Holder: "a", Sync: set}}
			a.Position = wal.Position{Epoch: 1, LSN: c.end(i), Hash: wal.Hash(c.end(i))}
			a.Voter, a.Blank = !in(c.nonVote|c.blank, i), in(c.blank, i)
		}
		if a.Blank {
			a.Epoch, a.Holder, a.Sync, a.Tenures, a.Position = 0, "", wal.SyncSet{}, nil, wal.Position{}
		}
		s.Answers = append(s.Answers, a)
	}
	return s
}

func (c oneEpoch) end(i int) wal.LSN {
	switch {
	case in(c.blank|c.nonVote, i):
		return 0 // whatever it acked before, it holds it no more: blank, or restored from an older copy
	case i == 0:
		return 3
	case in(c.acked, i):
		return 2
	}
	return 1
}

// eachOneEpoch visits every such cluster of up to four data nodes. At most one node of those that acked was wiped or restored, as
// the policy k ≥ 1 covers (R1); with k = 0 only a holds the write, so a is not the one.
func eachOneEpoch(fn func(c oneEpoch, committed bool)) {
	for n := 1; n <= 4; n++ {
		for k := 0; k < n; k++ {
			subsets(n-1, func(ack int) {
				subsets(n, func(answers int) {
					c := oneEpoch{n: n, k: k, acked: ack << 1, answers: answers}
					committed := count(ack) >= k
					fn(c, committed)
					for i := range n {
						if k == 0 && i == 0 {
							continue
						}
						wiped, old := c, c
						wiped.blank, old.nonVote = 1<<i, 1<<i
						fn(wiped, committed)
						fn(old, committed)
					}
				})
			})
		}
	}
}

// lost counts the situations in which the rule allows a promotion without consent whose adopted log misses the committed LSN.
func (r rule) lost(shared bool) (lost, allowed int, first string) {
	eachOneEpoch(func(c oneEpoch, committed bool) {
		for candidate := range c.n {
			p := r.decide(c.situation(candidate, shared))
			if !p.Allowed {
				continue
			}
			allowed++
			if committed && p.Target.LSN < 2 {
				lost++
				if first == "" {
					first = fmt.Sprintf("%+v, candidate %s: %+v", c, names[candidate], p)
				}
			}
		}
	})
	return lost, allowed, first
}

// R1, R5, R11: exhaustive over all clusters of up to four data nodes, all k, all sets that acked and that answer: what was
// acked is in the log that is adopted.
func TestDecideNeverLosesCommitted(t *testing.T) {
	for _, shared := range []bool{true, false} {
		lost, allowed, first := rule{}.lost(shared)
		if lost > 0 {
			t.Fatalf("shared %v: %d lost, first: %s", shared, lost, first)
		}
		if allowed < 300 {
			t.Fatalf("shared %v: only %d promotions allowed; the test shows nothing", shared, allowed)
		}
	}
}

// Each clause of the rule is needed: without it the same search finds a lost write.
func TestDecideClausesAreNeeded(t *testing.T) {
	for name, r := range map[string]rule{
		"blank nodes count":         {countBlank: true, countNonVoters: true},
		"non-voters count":          {countNonVoters: true},
		"|V| - k members":           {fewerMembers: true},
		"continue from candidate":   {candidateSource: true},
		"one fewer, k of one group": {fewerMembers: true, minorityGrants: true},
	} {
		if lost, _, _ := r.lost(true); lost == 0 {
			t.Errorf("%s: nothing is lost, so either the clause or the test is idle", name)
		}
	}
}

// R5, availability: with every node answering as a voter, each node may be promoted, for every k.
func TestDecideAllows(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for k := 0; k < n; k++ {
			for candidate := range n {
				s := oneEpoch{n: n, k: k, answers: 1<<n - 1}.situation(candidate, false)
				s.Next.K = k
				p := Decide(s)
				if !p.Allowed || p.Consented || p.Epoch != 2 || p.Source != "a" || p.Next.Version != 2 {
					t.Fatalf("n %d, k %d, candidate %s: %+v", n, k, names[candidate], p)
				}
			}
		}
	}
}

func three(k int) Situation { return oneEpoch{n: 3, k: k, acked: 6, answers: 7}.situation(1, false) }

func silence(s Situation, nodes ...string) Situation {
	s.Answers = slices.Clone(s.Answers)
	for i, a := range s.Answers {
		if slices.Contains(nodes, a.Node) {
			s.Answers[i] = Answer{Node: a.Node, Err: "connection refused"}
		}
	}
	return s
}

func TestDecideTable(t *testing.T) {
	two := 2
	for _, c := range []struct {
		name    string
		s       Situation
		change  func(*Situation)
		allowed bool
		want    string // part of a reason, or of the loss with consent
	}{
		{name: "holder gone, both standbys", s: silence(three(1), "a"), allowed: true},
		{name: "holder and one standby gone", s: silence(three(1), "a", "c"), want: "or 2 of [b c]"},
		{name: "k = 0 and the holder gone", s: silence(three(0), "a"), want: "epoch 1: a, who held it"},
		{name: "k = 0 and the holder there", s: silence(three(0), "c"), allowed: true},
		{name: "consent", s: silence(three(0), "a"), change: func(s *Situation) { s.AllowDataLoss = true }, allowed: true, want: "consented to data loss: unknown beyond LSN 2"},
		{name: "consent, committed is known", s: silence(three(1), "a", "c"), change: func(s *Situation) {
			s.AllowDataLoss = true
			s.Answers[1].Committed = 9
		}, allowed: true, want: "LSN 3 to 9, unknown beyond"},
		{name: "committed beyond every log", s: three(1), change: func(s *Situation) { s.Answers[2].Committed = 9 }, want: "LSN 9 was committed"},
		{name: "two histories", s: silence(three(1), "a"), change: func(s *Situation) { s.Answers[2].Position.Hash = 77 }, want: "two histories of epoch 1"},
		// b and c were promoted at the same time: each was granted epoch 2 by itself alone. Both grants count, and a's.
		// After a power cut of all machines, tails are in doubt. The promises hold; the logs count when nobody is left who could know more (R8).
		{name: "standbys in doubt, the holder whole", s: three(1), change: doubt("b", "c"), allowed: true},
		{name: "all in doubt, all answer", s: three(1), change: doubt("a", "b", "c"), allowed: true},
		{name: "all in doubt, one does not answer", s: silence(three(1), "a"), change: doubt("b", "c"), want: "b is not a voter"},
		{name: "epoch granted twice, all there", s: three(1), change: rivals, allowed: true},
		{name: "epoch granted twice, the old holder gone", s: silence(three(1), "a"), change: rivals, allowed: true},
		{name: "epoch granted twice, a rival gone", s: silence(three(1), "a", "c"), change: rivals, want: "epoch 2: b, who held it, and 1 of [a c]"},
		{name: "next set cannot commit", s: silence(three(1), "a"), change: func(s *Situation) { s.Next.K = two }, want: "nothing could be committed"},
		{name: "blank candidate", s: three(1), change: func(s *Situation) {
			s.Answers[1].Blank, s.Answers[1].Voter, s.AllowDataLoss = true, false, true
		}, want: "b is blank"},
		{name: "candidate that does not vote", s: three(1), change: func(s *Situation) { s.Answers[1].Voter = false }, want: "b is not a voter"},
		{name: "candidate that does not vote, consent", s: three(1), change: func(s *Situation) {
			s.Answers[1].Voter, s.AllowDataLoss = false, true
		}, allowed: true, want: "b is not a voter"},
		{name: "candidate silent", s: silence(three(1), "b"), want: "the candidate b did not answer"},
		{name: "healthy active", s: three(1), change: func(s *Situation) { s.Answers[0].Role = RoleActive }, allowed: true, want: "a is active in epoch 1 and will be fenced"},
		{name: "forgotten sets", s: three(1), change: func(s *Situation) { s.Answers[0].Forgotten = 1 }, want: "has forgotten"},
		{name: "unknown set", s: silence(three(1), "a"), change: func(s *Situation) {
			for i := range s.Answers {
				s.Answers[i].Tenures = append([]Tenure(nil), Tenure{Epoch: 1, Holder: "a"})
			}
		}, want: "its sync set is not known"},
		// An unfinished promotion of c to epoch 2: the rule is that of both epochs until its first record is found.
		{name: "after an unfinished promotion, its holder gone", s: silence(three(0), "c"), change: unfinished("c", 0), want: "epoch 2: c, who held it"},
		{name: "after an unfinished promotion, all there", s: three(0), change: unfinished("c", 0), allowed: true},
		{name: "after an unfinished promotion, old holder gone", s: silence(three(0), "a"), change: unfinished("c", 0), want: "epoch 1: a, who held it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(&c.s)
			}
			p := Decide(c.s)
			if p.Allowed != c.allowed || !strings.Contains(strings.Join(p.Reasons, "; "), c.want) {
				t.Fatalf("allowed %v, reasons %q, needed %q", p.Allowed, p.Reasons, p.Needed)
			}
			if c.allowed != p.Consented && c.s.AllowDataLoss {
				t.Fatalf("consented %v", p.Consented)
			}
		})
	}
}

// unfinished has every node that answers remember that holder was granted epoch 2.
func unfinished(holder string, k int) func(*Situation) {
	return func(s *Situation) {
		set := setOf(2, k, others(3, holder)...)
		for i, a := range s.Answers {
			if a.Reachable {
				s.Answers[i].Epoch, s.Answers[i].Holder, s.Answers[i].Sync = 2, holder, set
				s.Answers[i].Tenures = append(slices.Clone(a.Tenures), Tenure{Epoch: 2, Holder: holder, Sync: set})
			}
		}
	}
}

// doubt has nodes be in doubt about a damaged tail (R8).
func doubt(nodes ...string) func(*Situation) {
	return func(s *Situation) {
		for i, a := range s.Answers {
			if slices.Contains(nodes, a.Node) {
				s.Answers[i].Voter, s.Answers[i].Doubt = false, true
			}
		}
	}
}

// Two candidates that could both begin an epoch, because a person consented or because they did so before, use numbers of their own.
func TestDecideOwnEpochs(t *testing.T) {
	consent := func(candidate string) wal.Epoch {
		s := silence(three(1), "a")
		s.Candidate, s.AllowDataLoss = candidate, true
		return Decide(s).Epoch
	}
	if b, c := consent("b"), consent("c"); b == c || b < 2 || c < 2 {
		t.Fatalf("with consent b takes epoch %d and c epoch %d", b, c)
	}
	// a and c, who do not know that b was promoted with consent, go on one by one: epochs 2, 3, 4, … must not be b's.
	if b := consent("b"); b < 100 {
		t.Fatalf("with consent b takes epoch %d, which others reach soon", b)
	}
	again := func(candidate string) wal.Epoch {
		s := silence(three(1), "a")
		rivals(&s)
		s.Candidate = candidate
		return Decide(s).Epoch
	}
	if b, c := again("b"), again("c"); b == c || b < 3 || c < 3 {
		t.Fatalf("after both took epoch 2, b takes %d and c takes %d", b, c)
	}
	if p := Decide(three(1)); p.Epoch != 2 {
		t.Fatalf("an ordinary promotion takes epoch %d, want the next one", p.Epoch)
	}
}

// rivals has b and c each remember that it was granted epoch 2 itself.
func rivals(s *Situation) {
	for i, a := range s.Answers {
		if a.Reachable && a.Node != "a" {
			set := setOf(2, 1, others(3, a.Node)...)
			s.Answers[i].Epoch, s.Answers[i].Holder, s.Answers[i].Sync = 2, a.Node, set
			s.Answers[i].Tenures = append(slices.Clone(a.Tenures), Tenure{Epoch: 2, Holder: a.Node, Sync: set})
		}
	}
}

func blankCluster(n int, answers int) Situation {
	s := Situation{Candidate: "a", Nodes: names[:n], Next: wal.SyncSet{Members: others(n, "a"), K: min(1, n-1)}}
	for i := range n {
		s.Answers = append(s.Answers, Answer{Node: names[i], Reachable: in(answers, i), Blank: in(answers, i)})
	}
	return s
}

// R11: a blank node becomes active only in a cluster that is new.
func TestDecideBootstrap(t *testing.T) {
	if p := Decide(blankCluster(1, 1)); !p.Allowed || !p.Bootstrap || p.Epoch != 1 || p.Next.Version != 1 {
		t.Fatalf("single node: %+v", p)
	}
	if p := Decide(blankCluster(3, 7)); !p.Allowed || !p.Bootstrap || p.Consented {
		t.Fatalf("three blank nodes: %+v", p)
	}
	s := blankCluster(3, 3)
	if p := Decide(s); p.Allowed || !strings.Contains(p.why(), "--bootstrap") || !slices.Equal(p.Missing, []string{"c"}) {
		t.Fatalf("one is silent: %+v", p)
	}
	s.AllowDataLoss = true
	if p := Decide(s); p.Allowed {
		t.Fatalf("consent to loss is not a word about a new cluster: %+v", p)
	}
	s.Bootstrap = true
	if p := Decide(s); !p.Allowed || !p.Bootstrap {
		t.Fatalf("bootstrap: %+v", p)
	}
	s = blankCluster(3, 7)
	s.Token = Record{Epoch: 7, Holder: "b", Rev: 3}
	if p := Decide(s); p.Allowed || !strings.Contains(p.why(), "epoch 7 of b") {
		t.Fatalf("all wiped: %+v", p)
	}
}

// R2, R5: in the fence phase only nodes that granted the epoch count, and a higher epoch ends it.
func TestDecideFence(t *testing.T) {
	s := silence(three(1), "a")
	s.Next.K = 1
	survey := Decide(s)
	s.Fenced, s.Next = survey.Epoch, survey.Next
	if p := Decide(s); p.Allowed {
		t.Fatalf("nobody granted: %+v", p)
	}
	grant := func(i int, holder string) {
		a := &s.Answers[i]
		a.Epoch, a.Holder, a.Sync = survey.Epoch, holder, survey.Next
		a.Tenures = append(slices.Clone(a.Tenures[:1]), Tenure{Epoch: survey.Epoch, Holder: holder, Sync: survey.Next})
	}
	grant(1, "b")
	if p := Decide(s); p.Allowed || !strings.Contains(strings.Join(p.Missing, " "), "c (refused") {
		t.Fatalf("c did not grant: %+v", p)
	}
	grant(2, "b")
	if p := Decide(s); !p.Allowed || p.Epoch != 2 || p.Next.Version != survey.Next.Version || p.Target.LSN != 2 {
		t.Fatalf("all granted: %+v", p)
	}
	grant(2, "c")
	if p := Decide(s); p.Allowed || !strings.Contains(p.why(), "epoch 2 is held by c") {
		t.Fatalf("c granted it to itself: %+v", p)
	}
	s.AllowDataLoss = true
	s.Answers[2].Epoch = 9
	if p := Decide(s); p.Allowed {
		t.Fatalf("consent overrode a higher epoch (R3): %+v", p)
	}
}

// R11: a blank node does not count, even if its epoch file says that it votes: its log is gone.
func TestDecideBlankVoter(t *testing.T) {
	c := oneEpoch{n: 3, k: 1, answers: 0b110, blank: 0b100}
	s := c.situation(1, true)
	for i := range s.Answers {
		s.Answers[i].Voter = s.Answers[i].Reachable
	}
	if p := Decide(s); p.Allowed || slices.Contains(p.Have, "c") {
		t.Errorf("b may be promoted although a is gone and c is blank: %+v", p)
	}
}

// R5: that a node knows a record to be committed which no log that counts has is a broken promise, by one record as by many.
func TestDecideKnownCommitIsMissing(t *testing.T) {
	for committed, allowed := range map[wal.LSN]bool{2: true, 3: false, 9: false} {
		s := oneEpoch{n: 3, k: 1, acked: 0b110, answers: 0b110}.situation(1, true)
		s.Answers[2].Committed = committed
		if p := Decide(s); p.Allowed != allowed {
			t.Errorf("c knows that %d is committed, the logs end at 2: allowed %v: %v", committed, p.Allowed, p.Reasons)
		}
	}
}

// R11, fault row H2: b alone acked a write and lost it again, because its directory was put back from an older copy. It looks sound to itself, so only who saw it before can tell.
func TestDecideOlderCopy(t *testing.T) {
	at := func(lsn wal.LSN) wal.Position { return wal.Position{Epoch: 1, LSN: lsn, Hash: wal.Hash(lsn)} }
	// The holder a is gone, k = 1 of b and c, which both answer: both count.
	situation := func(by Sighting, from string) Situation {
		s := oneEpoch{n: 3, k: 1, acked: 0, answers: 6}.situation(2, true)
		for i := range s.Answers {
			if s.Answers[i].Reachable {
				s.Answers[i].Incarnation = "of " + s.Answers[i].Node
			}
			if s.Answers[i].Node == from {
				s.Answers[i].Seen = map[string]Sighting{"b": by}
			}
		}
		return s
	}
	for _, c := range []struct {
		name    string
		by      Sighting
		from    string
		allowed bool
	}{
		{"seen ahead", Sighting{"of b", at(2)}, "c", false},
		{"seen in a later epoch", Sighting{"of b", wal.Position{Epoch: 2, LSN: 1}}, "c", false},
		{"seen where it is", Sighting{"of b", at(1)}, "c", true},
		{"seen behind, in an older epoch", Sighting{"of b", wal.Position{LSN: 9}}, "c", true},
		{"another incarnation was seen", Sighting{"of b before", at(2)}, "c", true},
		{"by its own word", Sighting{"of b", at(2)}, "b", true},
	} {
		s := situation(c.by, c.from)
		if p := Decide(s); p.Allowed != c.allowed || !c.allowed && !strings.Contains(strings.Join(p.Missing, " "), "older copy") {
			t.Errorf("%s: allowed %v, want %v: %q, %q", c.name, p.Allowed, c.allowed, p.Reasons, p.Missing)
		}
		if p := (rule{countOutseen: true}).decide(s); !p.Allowed {
			t.Errorf("%s, without the clause: %q", c.name, p.Reasons)
		}
	}
	// A log in doubt does not count for it either, though all answer.
	s := oneEpoch{n: 3, k: 1, answers: 7}.situation(2, true)
	for i, a := range s.Answers {
		s.Answers[i].Voter, s.Answers[i].Doubt = false, true
		if a.Node != "b" {
			s.Answers[i].Seen = map[string]Sighting{"b": {"", at(7)}, "a": {"", at(7)}, "c": {"", at(7)}}
		}
	}
	if p := Decide(s); p.Allowed {
		t.Errorf("logs in doubt that were seen ahead count: %+v", p)
	}
}
