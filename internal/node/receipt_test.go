package node

import (
	"context"
	"testing"
	"time"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// receipted writes a key and returns its receipt.
func (m *member) receipted(t *testing.T, key string) wal.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	type outcome struct {
		lsn wal.LSN
		err error
	}
	done := make(chan outcome, 1)
	m.group.seq.submit(ctx, func(s server.Sequence) error {
		return s.Record(time.Now(), func(x *kv.Txn) error { return x.Set([]byte(key), []byte(key), 0) })
	}, func(lsn wal.LSN, err error) { done <- outcome{lsn, err} })
	o := soon(t, done, "the write's answer")
	if o.err != nil {
		t.Fatal(o.err)
	}
	p, err := newBackend(m.group).Receipt(o.lsn)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A receipt is in the history of every node that has the record, unknown where the log does not reach, and not in a history that went another way: here a record that only the old active
// had, given up with consent (R5, R9).
func TestReceiptOfHistories(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, nil, "a", "b", "c")
	c.start()
	c.promote("a")
	a, b := c.nodes["a"], c.nodes["b"]
	a.mustSet("before")
	kept := a.receipted(t, "kept")
	c.settled("a")
	for _, n := range c.names {
		if v, why := c.nodes[n].group.inHistory(kept); v != server.VerdictIn {
			t.Fatalf("%s: %s, %s", n, v, why)
		}
	}
	r, err := b.api().Receipt(t.Context(), admin.ReceiptRequest{Receipt: kept.String()}, ignore)
	if err != nil || len(r.Nodes) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, n := range r.Nodes {
		if n.Verdict != string(server.VerdictIn) {
			t.Errorf("%+v", n)
		}
	}
	forged := kept
	forged.Hash++
	if v, why := b.group.inHistory(forged); v != server.VerdictNotIn {
		t.Errorf("another hash: %s, %s", v, why)
	}
	if v, why := b.group.inHistory(wal.Position{Epoch: kept.Epoch, LSN: kept.LSN + 1000, Hash: 1}); v != server.VerdictUnknown {
		t.Errorf("not come so far: %s, %s", v, why)
	}
	if _, err := b.api().Receipt(t.Context(), admin.ReceiptRequest{Receipt: "nonsense"}, ignore); err == nil {
		t.Error("nonsense was taken for a receipt")
	}

	// Only a has the next record: k = 0, and nobody can hear it.
	c.wire.partition()
	lost := a.receipted(t, "lost")
	c.stop("a")
	c.wire.heal()
	until(t, func() error {
		_, err := b.promote(admin.PromoteRequest{AllowDataLoss: true})
		return err
	})
	b.mustSet("after", "and more")
	if v, why := b.group.inHistory(lost); v != server.VerdictNotIn {
		t.Errorf("a record that was given up: %s, %s", v, why)
	}
	if v, why := b.group.inHistory(kept); v != server.VerdictIn {
		t.Errorf("after the promotion: %s, %s", v, why)
	}
}
