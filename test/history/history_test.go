package history

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/wal"
)

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestOutcomeOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Outcome
	}{
		{nil, OK}, {redis.Nil, OK}, {redisError("READONLY epoch 3"), Refused}, {redisError("UNKNOWN the outcome"), Unknown},
		{redisError("ERR syntax error"), Unknown}, {errors.New("READONLY from nobody"), Unknown}, {fmt.Errorf("read: %w", errors.New("EOF")), Unknown},
	} {
		if got := OutcomeOf(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// TestLedger holds R1 and R13: acked and gone is lost, acked and another value is lost, refused and there is a ghost, unknown may be either.
func TestLedger(t *testing.T) {
	var l Ledger
	for _, e := range []struct {
		key string
		o   Outcome
	}{{"acked", OK}, {"gone", OK}, {"other", OK}, {"maybe", Unknown}, {"not", Unknown}, {"ghost", Refused}, {"refused", Refused}} {
		l.Add(e.key, "a", e.o)
	}
	store := map[string]any{"acked": "acked", "other": "something", "maybe": "maybe", "ghost": "ghost"}
	loss, err := l.Check(func(keys []string) ([]any, error) {
		out := make([]any, len(keys))
		for i, k := range keys {
			out[i] = store[k]
		}
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(loss.Lost) != 2 || len(loss.Ghosts) != 1 || loss.Survived != 1 || loss.Acked != 3 {
		t.Errorf("%+v", loss)
	}
}

// TestRegisters: a read that was overtaken, a write that was lost, and a refused value that is read have no order; unknown writes may be anywhere.
func TestRegisters(t *testing.T) {
	at := func(client int, call, ret int64, o Op) Op {
		o.Client, o.Call, o.Return, o.Key = client, call, ret, "k"
		return o
	}
	set := func(v string) Op { return Op{Kind: Set, Arg: v} }
	get := func(v string) Op { return Op{Kind: Get, Found: v != "", Reply: v} }
	unknown := func(o Op) Op { o.Outcome = Unknown; return o }
	refused := func(o Op) Op { o.Outcome = Refused; return o }
	for _, c := range []struct {
		name string
		ops  []Op
		ok   bool
	}{
		{"in order", []Op{at(1, 1, 2, set("x")), at(1, 3, 4, get("x"))}, true},
		{"lost", []Op{at(1, 1, 2, set("x")), at(1, 3, 4, get(""))}, false},
		{"overlap", []Op{at(1, 1, 9, set("x")), at(2, 3, 4, get("")), at(2, 5, 6, get("x"))}, true},
		{"back in time", []Op{at(1, 1, 9, set("x")), at(2, 3, 4, get("x")), at(2, 5, 6, get(""))}, false},
		{"unknown, late", []Op{at(1, 1, 2, unknown(set("x"))), at(2, 3, 4, get("")), at(2, 500, 501, get("x"))}, true},
		{"unknown, never", []Op{at(1, 1, 2, unknown(set("x"))), at(2, 3, 4, get(""))}, true},
		{"refused and there", []Op{at(1, 1, 2, refused(set("x"))), at(2, 3, 4, get("x"))}, false},
		{"counted once", []Op{at(1, 1, 2, Op{Kind: Incr, Reply: "1"}), at(2, 3, 4, Op{Kind: Incr, Reply: "2"})}, true},
		{"counted twice", []Op{at(1, 1, 2, Op{Kind: Incr, Reply: "1"}), at(2, 3, 4, Op{Kind: Incr, Reply: "3"})}, false},
		{"first come", []Op{at(1, 1, 2, Op{Kind: SetNX, Arg: "x", Reply: "1"}), at(2, 3, 4, Op{Kind: SetNX, Arg: "y", Reply: "1"})}, false},
	} {
		var r Registers
		for _, o := range c.ops {
			r.Add(o)
		}
		if v := r.Check(10 * time.Second); (len(v.Bad) == 0) != c.ok || len(v.Undecided) > 0 {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// logOf makes a log of one record for each string: space-separated key=value, or -key.
func logOf(records ...string) *Log {
	l := &Log{}
	for i, text := range records {
		r := Record{LSN: wal.LSN(i + 1), Epoch: 1}
		for _, e := range strings.Fields(text) {
			k, v, set := strings.Cut(e, "=")
			r.Effects = append(r.Effects, Effect{Key: strings.TrimPrefix(k, "-"), Set: set, Value: v})
		}
		l.Records = append(l.Records, r)
		l.Frames = append(l.Frames, Frame{First: r.LSN, End: wal.Position{Epoch: 1, LSN: r.LSN}})
	}
	return l
}

// TestOrder holds R1, R2, R7 and R13 for transactions: each violation is found, and an honest history is not suspected.
func TestOrder(t *testing.T) {
	mset := func(token string, lsn wal.LSN, call, ret int64) *Tx {
		return &Tx{Token: token, Where: "a", Cmds: [][]string{{"mset", "x", token + "|1", "y", token + "|2"}}, Replies: []string{"OK"}, LSN: lsn, Own: true, Call: call, Return: ret}
	}
	read := func(token string, x string, lsn wal.LSN, call, ret int64) *Tx {
		return &Tx{Token: token, Where: "a", Cmds: [][]string{{"msetnx", "x", token + "|1"}, {"get", "x"}}, Replies: []string{"(int) 0", x}, LSN: lsn, Call: call, Return: ret}
	}
	with := func(tx *Tx, o Outcome) *Tx { tx.Outcome = o; return tx }
	whole := logOf("x=t1|1 y=t1|2", "x=t2|1 y=t2|2")
	for _, c := range []struct {
		name string
		log  *Log
		txs  []*Tx
		want string // part of the one violation, "" for none
	}{
		{"honest", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), read("t3", "t2|1", 2, 5, 6)}, ""},
		{"unknown and there", whole, []*Tx{mset("t1", 1, 1, 2), with(mset("t2", 0, 3, 4), Unknown)}, ""},
		{"unknown and not there", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), with(mset("t9", 0, 3, 4), Unknown)}, ""},
		{"no LSN", whole, []*Tx{mset("t1", 0, 1, 2), mset("t2", 2, 3, 4)}, ""},
		{"no LSN and lost", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), mset("t4", 0, 5, 6)}, "not in the log"},
		{"lost", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), mset("t4", 3, 5, 6)}, "not in the log"},
		{"replaced", whole, []*Tx{mset("t1", 1, 1, 2), mset("t4", 2, 3, 4)}, "t4"},
		{"refused and there", whole, []*Tx{mset("t1", 1, 1, 2), with(mset("t2", 0, 3, 4), Refused)}, "was refused"},
		{"twice", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), mset("t4", 2, 3, 4)}, "acked twice"},
		{"half of it", logOf("x=t1|1 y=t1|2", "x=t2|1"), []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4)}, "it should have"},
		{"unknown and half of it", logOf("x=t1|1 y=t1|2", "x=t2|1"), []*Tx{mset("t1", 1, 1, 2), with(mset("t2", 0, 3, 4), Unknown)}, "it should have"},
		{"wrong reply", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), read("t3", "t1|1", 2, 5, 6)}, "answered"},
		{"out of order", whole, []*Tx{mset("t1", 1, 5, 6), mset("t2", 2, 3, 4)}, "began after"},
		{"stale", whole, []*Tx{mset("t1", 1, 1, 2), mset("t2", 2, 3, 4), read("t3", "t1|1", 1, 5, 6)}, "began after"},
	} {
		var o Order
		for _, tx := range c.txs {
			o.Add(tx)
		}
		r := o.Check(c.log)
		switch {
		case c.want == "" && len(r.Bad) > 0:
			t.Errorf("%s: %v", c.name, r.Bad)
		case c.want != "" && (len(r.Bad) == 0 || !strings.Contains(strings.Join(r.Bad, "\n"), c.want)):
			t.Errorf("%s: %v, want %q", c.name, r.Bad, c.want)
		}
	}
}

func TestReply(t *testing.T) {
	if got := Reply([]any{"OK", nil, int64(3), []any{"a", nil}}); got != "[OK (nil) (int) 3 [a (nil)]]" {
		t.Error(got)
	}
}
