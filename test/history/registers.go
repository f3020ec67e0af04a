package history

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is an operation on one key.
type Kind uint8

// Operations.
const (
	Get    Kind = iota
	Set         // SET key arg
	GetSet      // SET key arg GET
	SetNX       // SETNX key arg: 1 or 0
	Del         // DEL key: 1 or 0
	Incr        // INCR key, on keys that hold numbers only
)

// Op is one operation on a key as its client saw it.
type Op struct {
	Client  int
	Key     string
	Kind    Kind
	Arg     string
	Found   bool   // Get, GetSet: there was a value
	Reply   string // Get, GetSet: it; SetNX, Del, Incr: the number
	Outcome Outcome
	Call    int64 // nanoseconds on one clock
	Return  int64
}

// String is the operation in one line.
func (o Op) String() string {
	reply := o.Reply
	if (o.Kind == Get || o.Kind == GetSet) && !o.Found {
		reply = "(nil)"
	}
	if o.Outcome != OK {
		reply = o.Outcome.String()
	}
	name := [...]string{"GET", "SET", "GETSET", "SETNX", "DEL", "INCR"}[o.Kind]
	return fmt.Sprintf("client %d: %s %s %s = %s [%d %d]", o.Client, name, o.Key, o.Arg, reply, o.Call, o.Return)
}

// Registers collects operations. It is safe for concurrent use.
type Registers struct {
	mu  sync.Mutex
	ops map[string][]Op
	n   int
}

// Add takes an operation. Refused ones did not happen, and reads of unknown outcome say nothing: they are left out. A refused value that is read nevertheless has no
// operation that explains it, so that is found.
func (r *Registers) Add(o Op) {
	if o.Outcome == Refused || o.Outcome == Unknown && o.Kind == Get {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ops == nil {
		r.ops = map[string][]Op{}
	}
	r.ops[o.Key] = append(r.ops[o.Key], o)
	r.n++
}

// Len is the number of operations.
func (r *Registers) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// Verdict is what Check found.
type Verdict struct {
	Keys, Ops int
	Bad       []string // keys without an order that explains their answers, with their operations
	Undecided []string // keys that took too long
}

// Check judges every key, each within limit.
func (r *Registers) Check(limit time.Duration) Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := Verdict{Ops: r.n}
	keys := make([]string, 0, len(r.ops))
	for k := range r.ops {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		v.Keys++
		ops := r.ops[k]
		switch porcupine.CheckOperationsTimeout(register, operations(ops), limit) {
		case porcupine.Illegal:
			v.Bad = append(v.Bad, describe(k, ops))
		case porcupine.Unknown:
			v.Undecided = append(v.Undecided, fmt.Sprintf("%s: %d operations", k, len(ops)))
		}
	}
	return v
}

// shownOps bounds the text about one bad key.
const shownOps = 40

func describe(key string, ops []Op) string {
	text := fmt.Sprintf("%s: no order explains its %d operations:", key, len(ops))
	for i, o := range ops {
		if i == shownOps {
			return text + "\n  …"
		}
		text += "\n  " + o.String()
	}
	return text
}

// operations gives unknown ones an end that never comes: they may take effect at any time from their call on.
func operations(ops []Op) []porcupine.Operation {
	out := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		end := o.Return
		if o.Outcome == Unknown {
			end = math.MaxInt64
		}
		out[i] = porcupine.Operation{ClientId: o.Client, Input: o, Output: o, Call: o.Call, Return: end}
	}
	return out
}

// value is a key's content.
type value struct {
	is   bool
	text string
}

// register is a key as Redis has it.
var register = porcupine.Model{
	Init: func() any { return value{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(value), input.(Op)
		reply, found, next := s.step(o)
		return o.Outcome == Unknown || reply == o.Reply && found == o.Found, next
	},
	Equal: func(a, b any) bool { return a == b },
}

// step returns what o answers on s, and what the key holds then.
func (s value) step(o Op) (reply string, found bool, next value) {
	switch o.Kind {
	case Set:
		return "", false, value{true, o.Arg}
	case GetSet:
		return s.text, s.is, value{true, o.Arg}
	case SetNX:
		if s.is {
			return "0", false, s
		}
		return "1", false, value{true, o.Arg}
	case Del:
		if s.is {
			return "1", false, value{}
		}
		return "0", false, s
	case Incr:
		n, _ := strconv.ParseInt(s.text, 10, 64) // an absent key counts as 0
		text := strconv.FormatInt(n+1, 10)
		return text, false, value{true, text}
	}
	return s.text, s.is, s
}
