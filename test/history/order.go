package history

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"

	"repld/wal"
)

// Tx is one atomic submission (a MULTI, or one command on several keys) as its client saw it.
type Tx struct {
	Token   string     // unique, and part of a value that the transaction sets if it sets anything
	Where   string     // the node that answered
	Cmds    [][]string // names in lower case
	Replies []string   // in the form of Reply
	Outcome Outcome
	LSN     wal.LSN // from DEBUG LASTLSN; 0 if it could not be asked
	Own     bool    // the record at LSN is the transaction's own
	Call    int64
	Return  int64
}

// writes reports whether t has a record whatever the state is.
func (t *Tx) writes() bool {
	for _, c := range t.Cmds {
		if c[0] == "set" || c[0] == "mset" || c[0] == "incr" {
			return true
		}
	}
	return false
}

// Reply is a reply in one form, whatever the client library makes of it.
func Reply(v any) string {
	switch v := v.(type) {
	case nil:
		return "(nil)"
	case int64:
		return "(int) " + strconv.FormatInt(v, 10)
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = Reply(x)
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprint(v)
}

// Order collects transactions. It is safe for concurrent use.
type Order struct {
	mu  sync.Mutex
	all []*Tx
}

// Add takes a transaction.
func (o *Order) Add(t *Tx) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, t)
}

// All returns the transactions so far.
func (o *Order) All() []*Tx {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all[:len(o.all):len(o.all)]
}

// OrderResult is what Check found.
type OrderResult struct {
	Replayed int      // transactions that were compared with the log
	NoLSN    int      // acked, found in the log by their token only
	Before   int      // at LSNs before the beginning of the log: not compared
	Bad      []string // violations
}

// maxBad bounds what is said.
const maxBad = 20

func (r *OrderResult) bad(format string, args ...any) {
	if len(r.Bad) < maxBad {
		r.Bad = append(r.Bad, fmt.Sprintf(format, args...))
	}
}

// Check replays the log and compares every reply and every effect.
func (o *Order) Check(l *Log) OrderResult {
	c := &orderCheck{state: map[string]string{}, own: map[wal.LSN]*Tx{}, seeing: map[wal.LSN][]*Tx{}, byToken: map[string]*Tx{}, found: map[*Tx]bool{}}
	all := o.All()
	for _, t := range all {
		c.index(t)
	}
	if len(l.Records) > 0 && l.Records[0].LSN > 1 {
		// The state before the first record is not known: only whether what was acked is there can be told.
		c.partial = true
	}
	c.replay(l)
	for _, t := range all {
		c.settle(t, l)
	}
	c.realTime(all)
	return c.r
}

type orderCheck struct {
	r       OrderResult
	state   map[string]string
	own     map[wal.LSN]*Tx
	seeing  map[wal.LSN][]*Tx // transactions without a record that saw the state at an LSN
	byToken map[string]*Tx
	found   map[*Tx]bool // its record is in the log
	partial bool
}

func (c *orderCheck) index(t *Tx) {
	c.byToken[t.Token] = t
	if t.Outcome != OK || t.LSN == 0 {
		return
	}
	if !t.Own {
		c.seeing[t.LSN] = append(c.seeing[t.LSN], t)
		return
	}
	if other := c.own[t.LSN]; other != nil {
		c.r.bad("LSN %d was acked twice: %s by %s and %s by %s (R2)", t.LSN, other.Token, other.Where, t.Token, t.Where)
	}
	c.own[t.LSN] = t
}

func (c *orderCheck) replay(l *Log) {
	for _, rec := range l.Records {
		t := c.txOf(rec)
		if t != nil {
			c.record(t, rec)
		} else if claim := c.own[rec.LSN]; claim != nil {
			c.r.bad("LSN %d was acked to %s by %s, the log has another record there: %v (R1)", rec.LSN, claim.Token, claim.Where, rec.Effects)
		}
		for _, e := range rec.Effects {
			switch {
			case e.Set:
				c.state[e.Key] = e.Value
			case e.Key == "":
				clear(c.state)
			default:
				delete(c.state, e.Key)
			}
		}
		for _, t := range c.seeing[rec.LSN] {
			c.compare(t, rec, false)
		}
	}
}

// txOf finds the transaction that a record is of by the token in its values.
func (c *orderCheck) txOf(rec Record) *Tx {
	for _, e := range rec.Effects {
		token, _, ok := strings.Cut(e.Value, "|")
		if t := c.byToken[token]; ok && t != nil {
			return t
		}
	}
	return nil
}

// record is a transaction met in the log, acked or not.
func (c *orderCheck) record(t *Tx, rec Record) {
	if c.found[t] {
		c.r.bad("%s is in the log twice, the second time at LSN %d", t.Token, rec.LSN)
		return
	}
	c.found[t] = true
	switch {
	case t.Outcome == Refused:
		c.r.bad("%s was refused by %s and is in the log at LSN %d (R13)", t.Token, t.Where, rec.LSN)
	case t.Outcome == OK && t.LSN != 0 && t.LSN != rec.LSN:
		c.r.bad("%s was acked by %s as LSN %d and is in the log at LSN %d", t.Token, t.Where, t.LSN, rec.LSN)
	default:
		c.compare(t, rec, true)
	}
}

// compare evaluates t on the state and compares its replies, unless they are unknown, and its effects.
func (c *orderCheck) compare(t *Tx, rec Record, own bool) {
	if c.partial {
		return
	}
	c.r.Replayed++
	changes := map[string]*string{}
	var replies []string
	for _, cmd := range t.Cmds {
		replies = append(replies, evaluate(c.state, changes, cmd))
	}
	if t.Outcome == OK && strings.Join(replies, "\n") != strings.Join(t.Replies, "\n") {
		c.r.bad("%s at LSN %d through %s: %v answered %q, the log says %q", t.Token, rec.LSN, t.Where, t.Cmds, t.Replies, replies)
	}
	if !own {
		if len(changes) > 0 {
			c.r.bad("%s through %s saw LSN %d and wrote nothing; on that state it writes", t.Token, t.Where, rec.LSN)
		}
		return
	}
	written := map[string]*string{}
	for _, e := range rec.Effects {
		if written[e.Key] = nil; e.Set {
			written[e.Key] = &e.Value
		}
	}
	if a, b := effectsText(changes), effectsText(written); a != b {
		c.r.bad("%s at LSN %d through %s: the log has the effects %s, it should have %s", t.Token, rec.LSN, t.Where, b, a)
	}
}

func effectsText(m map[string]*string) string {
	var parts []string
	for k, v := range m {
		text := "deleted"
		if v != nil {
			text = strconv.Quote(*v)
		}
		parts = append(parts, k+"="+text)
	}
	sort.Strings(parts)
	return strings.Join(parts, " ")
}

// evaluate is Redis for the commands that histories use. changes holds what the transaction has changed so far.
func evaluate(state map[string]string, changes map[string]*string, cmd []string) string {
	get := func(k string) (string, bool) {
		if v, ok := changes[k]; ok {
			if v == nil {
				return "", false
			}
			return *v, true
		}
		v, ok := state[k]
		return v, ok
	}
	put := func(k, v string) { changes[k] = &v }
	orNil := func(v string, ok bool) string {
		if !ok {
			return "(nil)"
		}
		return v
	}
	switch cmd[0] {
	case "get":
		return orNil(get(cmd[1]))
	case "mget":
		var parts []string
		for _, k := range cmd[1:] {
			parts = append(parts, orNil(get(k)))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case "set":
		put(cmd[1], cmd[2])
		return "OK"
	case "mset":
		for i := 1; i < len(cmd); i += 2 {
			put(cmd[i], cmd[i+1])
		}
		return "OK"
	case "msetnx":
		for i := 1; i < len(cmd); i += 2 {
			if _, ok := get(cmd[i]); ok {
				return "(int) 0"
			}
		}
		for i := 1; i < len(cmd); i += 2 {
			put(cmd[i], cmd[i+1])
		}
		return "(int) 1"
	case "incr":
		v, _ := get(cmd[1])
		n, _ := strconv.ParseInt(v, 10, 64)
		put(cmd[1], strconv.FormatInt(n+1, 10))
		return "(int) " + strconv.FormatInt(n+1, 10)
	case "del":
		n := int64(0)
		for _, k := range cmd[1:] {
			if _, ok := get(k); ok {
				changes[k] = nil
				n++
			}
		}
		return "(int) " + strconv.FormatInt(n, 10)
	}
	panic("history: no model of " + cmd[0])
}

// settle looks for what was acked and is nowhere.
func (c *orderCheck) settle(t *Tx, l *Log) {
	if t.Outcome != OK {
		return
	}
	if t.LSN == 0 {
		if c.r.NoLSN++; !c.partial && !c.found[t] && t.writes() {
			c.r.bad("%s was acked by %s and is not in the log, which ends at %v (R1)", t.Token, t.Where, l.End())
		}
		return
	}
	first := wal.LSN(1)
	if len(l.Records) > 0 {
		first = l.Records[0].LSN
	}
	switch {
	case t.LSN < first:
		c.r.Before++
	case t.Own && !c.found[t]:
		c.r.bad("%s was acked by %s as LSN %d and is not in the log, which ends at %v (R1)", t.Token, t.Where, t.LSN, l.End())
	case t.LSN > l.End().LSN:
		c.r.bad("%s was answered by %s with what LSN %d held; the log ends at %v (R1)", t.Token, t.Where, t.LSN, l.End())
	}
}

// realTime holds that a transaction that began after another one had ended comes after it in the log.
func (c *orderCheck) realTime(all []*Tx) {
	var acked []*Tx
	for _, t := range all {
		if t.Outcome == OK && t.LSN != 0 {
			acked = append(acked, t)
		}
	}
	byCall := append([]*Tx(nil), acked...)
	sort.Slice(byCall, func(i, j int) bool { return byCall[i].Call < byCall[j].Call })
	sort.Slice(acked, func(i, j int) bool { return acked[i].Return < acked[j].Return })
	var newest *Tx
	n := 0
	for _, t := range byCall {
		for ; n < len(acked) && acked[n].Return < t.Call; n++ {
			if newest == nil || acked[n].LSN > newest.LSN {
				newest = acked[n]
			}
		}
		if newest == nil {
			continue
		}
		if t.LSN < newest.LSN || t.Own && t.LSN == newest.LSN {
			c.r.bad("%s began after %s had ended, and is at LSN %d, not after %d", t.Token, newest.Token, t.LSN, newest.LSN)
		}
	}
}
