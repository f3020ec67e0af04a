package node

import (
	"context"
	"fmt"
	"time"

	"repld/internal/admin"
	"repld/internal/kv"
)

const (
	peerRanges   = "/peer/v1/ranges"   // POST: kv.Ranges of a state at a mark
	peerVerified = "/peer/v1/verified" // POST: how a verification came out

	// maxDifferences bounds what is said of one node; what is beyond is counted.
	maxDifferences = 50
	// maxNarrow bounds the steps from the whole state to a row.
	maxNarrow = 12
)

// keepStates has all nodes keep the state of a mark while the slowest of them is waited for.
func (g *group) keepStates(ctx context.Context, id string) {
	t := time.NewTicker(keepStateOf / 4)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		g.digests.touch(id)
		for _, peer := range g.o.dataPeers() {
			var r kv.Ranges
			_ = g.peers.call(ctx, peer, peerRanges, rangesRequest{ID: id, Whole: true}, &r) // the question is what counts
		}
	}
}

// ranges answers a peer that compares.
func (g *group) ranges(ctx context.Context, r rangesRequest) (kv.Ranges, error) {
	g.digests.touch(r.ID)
	return g.digests.rangesAt(ctx, r)
}

// rangesOf asks a node.
func (g *group) rangesOf(ctx context.Context, node string, r rangesRequest) (out kv.Ranges, err error) {
	if node == g.o.Name {
		return g.ranges(ctx, r)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, verifySlack, fmt.Errorf("no ranges of %s within %s", node, verifySlack))
	defer cancel()
	if err := g.peers.call(ctx, node, peerRanges, r, &out); err != nil {
		return out, err
	}
	return out, out.Check(r.From, r.To)
}

// narrow finds out where the states differ that were digested at one position, and says so in v.
func (g *group) narrow(ctx context.Context, id string, keys int, v *admin.VerifyResult) {
	for _, d := range v.Nodes {
		if d.Error != "" || d.Node == v.Reference || d.Position != v.Mark || sameDigest(*v, d) {
			continue
		}
		n := narrowing{g: g, id: id, ref: v.Reference, node: d.Node, keys: min(keys, admin.MaxVerifyKeys)}
		if err := n.step(ctx, rangesRequest{ID: id, Whole: true}, 0); err != nil {
			v.Notes = append(v.Notes, fmt.Sprintf("where %s differs could not be told completely: %v", d.Node, err))
		}
		if n.more > 0 {
			v.Notes = append(v.Notes, fmt.Sprintf("%s differs in more ranges than are listed: %d", d.Node, n.more))
		}
		v.Differences = append(v.Differences, n.found...)
	}
}

func sameDigest(v admin.VerifyResult, d admin.NodeDigest) bool {
	for _, ref := range v.Nodes {
		if ref.Node == v.Reference {
			return sameState(ref, d)
		}
	}
	return false
}

// narrowing compares one node with the reference. It holds two sets of ranges a step: its memory does not depend on the state's size.
type narrowing struct {
	g         *group
	id        string
	ref, node string
	keys      int // still to be listed
	found     []admin.Difference
	more      int
}

// step compares the ranges of a part of the state and goes into each that differs.
func (n *narrowing) step(ctx context.Context, r rangesRequest, depth int) error {
	a, err := n.g.rangesOf(ctx, n.ref, r)
	if err != nil {
		return fmt.Errorf("%s: %w", n.ref, err)
	}
	b, err := n.g.rangesOf(ctx, n.node, r)
	if err != nil {
		return fmt.Errorf("%s: %w", n.node, err)
	}
	var all []kv.RangeDiff
	kv.CompareRanges(a, b, func(d kv.RangeDiff) { all = append(all, d) })
	if len(all) > 0 && all[0].Row {
		n.rows(all)
		return nil
	}
	for _, d := range all {
		switch {
		case len(n.found) >= maxDifferences:
			n.more++
			continue
		case depth == maxNarrow || (!r.Whole && len(all) == 1 && len(a.List) == 1 && len(b.List) == 1):
			n.add(d) // it cannot be divided any further: a few very long keys
			continue
		}
		if err := n.step(ctx, rangesRequest{ID: n.id, From: d.From, To: d.To}, depth+1); err != nil {
			n.add(d) // what is known
			return err
		}
	}
	return nil
}

func (n *narrowing) add(d kv.RangeDiff) {
	n.found = append(n.found, n.difference(d))
}

func (n *narrowing) difference(d kv.RangeDiff) admin.Difference {
	to := "the end"
	if len(d.To) > 0 {
		to = kv.DescribeRow(d.To)
	}
	return admin.Difference{Node: n.node, From: kv.DescribeRow(d.From), To: to, RefRows: d.A.Rows, Rows: d.B.Rows}
}

// rows adds rows that differ as ranges: rows that follow each other as one.
func (n *narrowing) rows(all []kv.RangeDiff) {
	for i := 0; i < len(all); {
		d := all[i]
		var keys []admin.KeyDifference
		for first := i; i < len(all) && (i == first || string(all[i].From) == string(d.To)); i++ {
			x := all[i]
			if i > first {
				d.To = x.To
				d.A.Rows, d.B.Rows = d.A.Rows+x.A.Rows, d.B.Rows+x.B.Rows
			}
			if n.keys > 0 {
				n.keys--
				keys = append(keys, admin.KeyDifference{Row: kv.DescribeRow(x.From), Kind: kindOf(x)})
			}
		}
		if len(n.found) >= maxDifferences {
			n.more++
			continue
		}
		found := n.difference(d)
		found.Keys = keys
		n.found = append(n.found, found)
	}
}

func kindOf(d kv.RangeDiff) string {
	switch {
	case d.B.Rows == 0:
		return admin.KeyMissing
	case d.A.Rows == 0:
		return admin.KeyExtra
	}
	return admin.KeyChanged
}
