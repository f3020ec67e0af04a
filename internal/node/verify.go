package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/wal"
)

// verify proves that the copies agree: a mark goes through the log, every node digests its state where it applies the mark, and the digests
// and positions must be the same everywhere. Equal positions include equal chain hashes, so the logs agree up to there too. States that differ are compared range by range,
// and replaced if that is asked for.
func (g *group) verify(ctx context.Context, req admin.VerifyRequest, emit func(admin.Event)) (admin.VerifyResult, error) {
	if err := g.checkVerify(req); err != nil {
		return admin.VerifyResult{}, err
	}
	out, err := g.verifyOnce(ctx, req, false, emit)
	if err != nil || req.RepairFrom == "" || out.OK {
		return out, err
	}
	repaired, err := g.repairStates(ctx, req.RepairFrom, out, emit)
	if err != nil || len(repaired) == 0 {
		return out, err
	}
	again, err := g.verifyOnce(ctx, req, false, emit)
	again.Repaired = repaired
	return again, err
}

// verifyOnce makes one comparison, and tells all nodes how it came out.
func (g *group) verifyOnce(ctx context.Context, req admin.VerifyRequest, self bool, emit func(admin.Event)) (admin.VerifyResult, error) {
	active := g.o.Name
	if !g.active() {
		active = g.otherHolder()
	}
	if active == "" {
		return admin.VerifyResult{}, &admin.Error{Code: admin.CodeNoActive, Message: "no active: a mark cannot be written"}
	}
	began := time.Now()
	id := fmt.Sprintf("verify/%s/%d/%d", g.o.Name, began.UnixNano(), g.marks.Add(1))
	if req.BytesPerSec > 0 {
		id += fmt.Sprintf("%s%d", rateSeparator, req.BytesPerSec)
	}
	at, err := g.askMark(ctx, active, id)
	if err != nil {
		return admin.VerifyResult{}, fmt.Errorf("append digest mark on %s: %w", active, err)
	}
	emit(admin.Event{Message: fmt.Sprintf("mark at lsn %d written by %s; each node digests its state there", at, active)})
	var mu sync.Mutex
	results := make([]admin.NodeDigest, len(g.nodes()))
	waiting := slices.Clone(g.nodes())
	var all sync.WaitGroup
	for i, node := range g.nodes() {
		all.Go(func() {
			d := g.nodeDigest(ctx, node, id, req.WaitSeconds)
			mu.Lock()
			defer mu.Unlock()
			results[i] = d
			waiting = slices.DeleteFunc(waiting, func(n string) bool { return n == node })
			if d.Error == "" {
				emit(admin.Event{Message: fmt.Sprintf("%s: digest %s of %d rows at %s", node, d.Digest, d.Rows, d.Position)})
			}
		})
	}
	watched, done := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { g.keepStates(watched, id) })
	keeping.Go(func() {
		each(watched, verifySays, func() {
			mu.Lock()
			defer mu.Unlock()
			if len(waiting) > 0 {
				emit(admin.Event{Message: fmt.Sprintf("after %s: %s still reading", time.Since(began).Round(time.Second), strings.Join(waiting, ", "))})
			}
		})
	})
	all.Wait()
	done()
	keeping.Wait()
	out := compare(results, active)
	g.narrow(ctx, id, req.Keys, &out)
	g.tellVerified(ctx, verification(out, g.o.Name, self, began))
	return out, nil
}

func (g *group) askMark(ctx context.Context, active, id string) (wal.LSN, error) {
	if active == g.o.Name {
		a, err := g.mark(ctx, markRequest{ID: id})
		return a.LSN, err
	}
	var a markAnswer
	err := g.peers.call(ctx, active, peerMark, markRequest{ID: id}, &a)
	return a.LSN, err
}

// verifySays is how often a comparison that lasts says for whom it waits.
const verifySays = 5 * time.Second

// each calls fn now and then until ctx ends.
func each(ctx context.Context, every time.Duration, fn func()) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			fn()
		case <-ctx.Done():
			return
		}
	}
}

// verifySlack is how long a node may take beyond its delay.
const verifySlack = 30 * time.Second

// nodeDigest asks a node until it has the digest, for as long as its delay allows and the reading may take; a node that is not heard is given verifySlack.
func (g *group) nodeDigest(ctx context.Context, node, id string, wait float64) admin.NodeDigest {
	limit, silence := time.Duration(wait*float64(time.Second)), time.Duration(0)
	if limit <= 0 {
		rate := markRate(id, g.o.DigestRate)
		def(&rate, kv.YieldFloor)
		silence = verifySlack
		limit = verifySlack + g.delayOf(ctx, node) + time.Duration(float64(g.state.size())/float64(rate)*float64(time.Second))
	}
	heard := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no digest within %s", limit))
	defer cancel()
	for {
		var d admin.NodeDigest
		var err error
		if node == g.o.Name {
			d, err = g.digest(ctx, markRequest{ID: id})
		} else {
			err = g.peers.call(ctx, node, peerDigest, markRequest{ID: id}, &d)
		}
		if err == nil {
			return d
		}
		if ctx.Err() != nil {
			return admin.NodeDigest{Node: node, Error: fmt.Sprintf("%v: %v", context.Cause(ctx), err)}
		}
		var said *peerError
		switch {
		case node == g.o.Name || errors.As(err, &said): // it has none yet
			heard = time.Now()
		case silence > 0 && time.Since(heard) > silence:
			return admin.NodeDigest{Node: node, Error: fmt.Sprintf("no digest within %s: %v", silence, err)}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// delayOf is the apply delay of a node.
func (g *group) delayOf(ctx context.Context, node string) time.Duration {
	if node == g.o.Name {
		return g.o.ApplyDelay
	}
	return g.peers.status(ctx, node).ApplyDelay
}

// compare holds every digest against the active's, or the first one that there is.
func compare(results []admin.NodeDigest, active string) admin.VerifyResult {
	v := admin.VerifyResult{Nodes: results, OK: true}
	var ref *admin.NodeDigest
	for i := range results {
		if d := &results[i]; d.Error == "" && (ref == nil || d.Node == active) {
			ref = d
		}
	}
	if ref != nil {
		v.Reference, v.Mark = ref.Node, ref.Position
	}
	for i := range results {
		d := &results[i]
		switch {
		case d.Error != "":
			v.OK = false
			v.Notes = append(v.Notes, fmt.Sprintf("%s: %s", d.Node, d.Error))
		case d.Position != ref.Position:
			v.OK = false
			v.Notes = append(v.Notes, fmt.Sprintf("logs differ: %s has %s, %s has %s", ref.Node, ref.Position, d.Node, d.Position))
		case !sameState(*d, *ref):
			v.OK = false
			v.Notes = append(v.Notes, fmt.Sprintf("states differ at lsn %d: %s has digest %s of %d rows, %s has %s of %d rows",
				d.Position.LSN, ref.Node, ref.Digest, ref.Rows, d.Node, d.Digest, d.Rows))
		}
	}
	return v
}

func sameState(a, b admin.NodeDigest) bool { return a.Digest == b.Digest && a.Rows == b.Rows }

// odd lists the nodes that differ from the reference.
func odd(v admin.VerifyResult) (names []string) {
	for _, ref := range v.Nodes {
		if ref.Node != v.Reference {
			continue
		}
		for _, d := range v.Nodes {
			if d.Error == "" && (d.Position != ref.Position || !sameState(d, ref)) {
				names = append(names, d.Node)
			}
		}
	}
	return names
}
