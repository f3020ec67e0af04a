package failover

import (
	"strings"
	"testing"

	"repld/wal"
)

// cutSituation is a cluster of three: a held epoch 1 and ends at LSN 100, all have everything, c's state is at 40 and is to be cut at 60.
func cutSituation() Situation {
	s := oneEpoch{n: 3, k: 1, acked: 7, answers: 7}.situation(2, false)
	for i := range s.Answers {
		a := &s.Answers[i]
		a.Position = wal.Position{Epoch: 1, LSN: 100, Hash: 100}
		a.Committed, a.Applied = 100, 100
	}
	s.Answers[2].Applied = 40
	s.Cut = &Cut{At: wal.Position{Epoch: 1, LSN: 55, Hash: 55}, LSN: 60, Why: "before DEL user:*"}
	s.Next.K = 0
	return s
}

// A cut is a choice of what to continue from, with consent; the rest of R5, which fences the old epoch, is asked for as ever.
func TestDecideCut(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*Situation)
		refused string // "" = allowed
	}{
		{"allowed", func(*Situation) {}, ""},
		{"applied too far", func(s *Situation) { s.Answers[2].Applied = 56 }, "holds LSN 56 already"},
		{"log too short", func(s *Situation) { s.Answers[2].Position.LSN = 59 }, "ends at LSN 59, before LSN 60"},
		{"of an older epoch", func(s *Situation) { s.Answers[1].Position.Epoch = 2 }, "both share is not known"},
		{"too few to fence", func(s *Situation) { s.Answers[0] = Answer{Node: "a"}; s.Answers[1] = Answer{Node: "b"} }, "needed for epoch 1"},
		{"held is no obstacle", func(s *Situation) { s.Answers[2].Held = true }, ""},
		{"held without a cut", func(s *Situation) { s.Answers[2].Held, s.Cut = true, nil }, "c is held"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := cutSituation()
			tc.change(&s)
			p := Decide(s)
			why := strings.Join(p.Reasons, "; ")
			if p.Allowed != (tc.refused == "") || !strings.Contains(why, tc.refused) {
				t.Fatalf("allowed %t: %s", p.Allowed, why)
			}
			if !p.Allowed {
				return
			}
			if p.Source != "c" || p.Target != s.Cut.At || p.Loss != (Loss{From: 61, To: 100}) || !p.Consented || p.Cut == nil {
				t.Fatalf("plan %+v", p)
			}
		})
	}
}

// With consent to data loss as well, whom nobody could ask may have had more behind the cut: that is said.
func TestDecideCutWithDataLoss(t *testing.T) {
	s := cutSituation()
	s.Answers[0], s.AllowDataLoss = Answer{Node: "a"}, true
	s.Answers[1] = Answer{Node: "b"}
	p := Decide(s)
	if !p.Allowed || p.Source != "c" || p.Target != s.Cut.At || p.Loss != (Loss{From: 61, To: 100, Unknown: true}) {
		t.Fatalf("plan %+v", p)
	}
}
