package node

import (
	"context"
	"fmt"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// promotable asks the promotion rule (R5), for each node with data, whether it would be promoted without consent to loss if `without` stayed away: the
// active, or the last holder. answers are those of a survey; nothing is changed anywhere.
func promotable(answers []failover.Answer, without string, token failover.Record, shared bool) []string {
	var nodes []string
	seen := make([]failover.Answer, 0, len(answers))
	for _, a := range answers {
		nodes = append(nodes, a.Node)
		if a.Node == without {
			a = failover.Answer{Node: a.Node, Err: "taken to be gone"}
		}
		seen = append(seen, a)
	}
	out := []string{}
	for _, a := range seen {
		if !a.Reachable || a.Held {
			continue
		}
		// How many copies the next epoch promises is another question: it could be promoted with --sync 0.
		plan := failover.Decide(failover.Situation{Candidate: a.Node, Nodes: nodes, Answers: seen, Token: token, Shared: shared, Next: wal.SyncSet{Members: nodes}})
		if plan.Allowed && !plan.Bootstrap {
			out = append(out, a.Node)
		}
	}
	return out
}

// addPromotable completes a status by who may be promoted. A shared token that cannot be read is said: then nobody can be.
func addPromotable(ctx context.Context, c *admin.ClusterStatus, token failover.Store, survey func(ctx context.Context) []failover.Answer) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout+100*time.Millisecond)
	defer cancel()
	read := make(chan error, 1)
	var rec failover.Record
	go func() {
		var err error
		rec, err = token.Load(ctx)
		read <- err
	}()
	answers := survey(ctx)
	if err := <-read; err != nil {
		c.AtRisk.Promotable = []string{}
		c.Alarms = append(c.Alarms, fmt.Sprintf("the token store does not answer, so nobody can be promoted: %v", err))
		return
	}
	c.AtRisk.Promotable = promotable(answers, c.Active, rec, token.Shared())
}
