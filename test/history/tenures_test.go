package history

import (
	"strings"
	"testing"

	"repld/wal"
)

// The check finds a write that is acked by another node than the holder of its epoch, and one that an old active took when a new one had acked already; a late answer alone proves nothing.
func TestTenures(t *testing.T) {
	set := func(lsn wal.LSN, e wal.Epoch, key string) Record {
		return Record{LSN: lsn, Epoch: e, Effects: []Effect{{Key: key, Set: true, Value: key}}}
	}
	log := &Log{Holders: map[wal.Epoch]string{1: "a", 2: "b", 4: "a"}, Records: []Record{
		{LSN: 5, Epoch: 1}, set(6, 1, "k1"), set(7, 1, "k2"), {LSN: 8, Epoch: 2}, set(9, 2, "k3"), {LSN: 10, Epoch: 4}, set(11, 4, "k4"), set(12, 4, "k5"),
	}}
	for _, x := range []struct {
		name   string
		writes []acked
		txs    []*Tx
		want   string
		before int
	}{
		{"one after the other", []acked{{"k1", "a", 1, 2}, {"k2", "a", 1, 9}, {"k3", "b", 3, 4}, {"k4", "a", 5, 6}}, nil, "", 0},
		{"an old answer that was late", []acked{{"k2", "a", 3, 100}, {"k3", "b", 4, 5}}, nil, "", 0},
		{"another node's epoch", []acked{{"k3", "a", 1, 2}}, nil, "acked by a and is at LSN 9, in epoch 2 of b", 0},
		{"begun after a newer one acked", []acked{{"k3", "b", 3, 4}, {"k2", "a", 5, 6}}, nil, "k2 was begun and acked by a in epoch 1 after b had acked k3 in epoch 2", 0},
		{"over an epoch in between", []acked{{"k4", "a", 3, 4}, {"k3", "b", 1, 2}, {"k1", "a", 5, 6}}, nil, "in epoch 1 after", 0},
		{"a transaction", []acked{{"k3", "b", 3, 4}}, []*Tx{{Token: "x", Where: "a", Outcome: OK, Own: true, LSN: 7, Call: 5, Return: 6}}, "x was begun and acked by a", 0},
		{"an unknown one proves nothing", []acked{{"k3", "b", 3, 4}}, []*Tx{{Token: "x", Where: "a", Outcome: Unknown, Own: true, LSN: 7, Call: 5, Return: 6}}, "", 0},
		{"before the log", []acked{{"old", "c", 1, 2}}, nil, "", 1},
	} {
		var tn Tenures
		for _, w := range x.writes {
			tn.Add(w.key, w.where, w.call, w.answer)
		}
		r := tn.Check(log, x.txs)
		if got := strings.Join(r.Bad, "; "); (x.want == "") != (got == "") || !strings.Contains(got, x.want) || r.Before != x.before {
			t.Errorf("%s: %+v", x.name, r)
		}
	}
}
