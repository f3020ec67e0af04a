package failover

import "fmt"

// decideCut turns the plan into one that ends the history at the candidate's Cut. The rest of R5 stays: the old epoch has to be fenced by as many
// nodes as ever (R2), or the old active would go on acking; only what the candidate continues from is another choice.
func (q *inquiry) decideCut() {
	self := q.answers[q.Candidate]
	if q.Cut == nil {
		if self.Held {
			q.hard = append(q.hard, fmt.Sprintf("%s is held: a person wants its state to stay where it is; release it, or promote it to a moment", q.Candidate))
		}
		return
	}
	c, p := *q.Cut, &q.plan
	switch {
	case self.Position.Epoch < p.Target.Epoch:
		q.hard = append(q.hard, fmt.Sprintf("the log of %s ends in epoch %d, that of %s in epoch %d: which records both share is not known until %s follows", q.Candidate, self.Position.Epoch,
			p.Source, p.Target.Epoch, q.Candidate))
	case self.Position.LSN < c.LSN || c.LSN < c.At.LSN:
		q.hard = append(q.hard, fmt.Sprintf("the log of %s ends at LSN %d, before LSN %d", q.Candidate, self.Position.LSN, c.LSN))
	case self.Applied > c.At.LSN:
		q.hard = append(q.hard, fmt.Sprintf("the state of %s holds LSN %d already, the history is to end at LSN %d: effects are never undone; use a node that is further behind, or restore a backup",
			q.Candidate, self.Applied, c.LSN))
	}
	p.Cut = &c
}

// concludeCut is the end of an allowed plan with a cut. What the other nodes hold behind the cut is given up as well, and saved by each of them.
func (q *inquiry) concludeCut() {
	p := &q.plan
	end := p.Target.LSN
	for _, a := range q.Answers {
		if a.Reachable {
			end = max(end, a.Position.LSN)
		}
	}
	unknown := p.Loss.Unknown
	p.Source, p.Target = q.Candidate, p.Cut.At
	p.Loss = Loss{From: p.Cut.LSN + 1, To: end, Unknown: unknown}
	p.Consented = true
	if end <= p.Cut.LSN {
		p.Loss = Loss{Unknown: unknown}
		if unknown {
			p.Loss.From = p.Cut.LSN + 1
		}
	}
	p.Reasons = append(p.Reasons, fmt.Sprintf("the history ends at LSN %d (%s); set aside: %s", p.Cut.LSN, p.Cut.Why, p.Loss))
}
