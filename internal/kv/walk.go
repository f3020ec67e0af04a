package kv

import "fmt"

// Op is what an effect does to a row.
type Op uint8

const (
	// OpSet writes a row.
	OpSet Op = iota + 1
	// OpDelete removes a row.
	OpDelete
	// OpClear removes every key (FLUSHALL).
	OpClear
)

// String returns the name that dumps use.
func (o Op) String() string {
	switch o {
	case OpSet:
		return "set"
	case OpDelete:
		return "del"
	case OpClear:
		return "clear"
	}
	return fmt.Sprintf("op-%d", uint8(o))
}

// Effect is one operation of a record, decoded for people. Its slices alias the payload.
type Effect struct {
	Op       Op
	Row      Row
	Key      []byte // the user key (RowKey, RowExpiry), the id (RowOnce, RowOnceExpiry)
	Type     Type   // of a RowKey that is set
	Value    []byte // of a RowKey that is set
	ExpireAt int64  // unix milliseconds: of a RowKey that is set, 0 = never; of a RowExpiry
	Count    int64  // number of keys after the record (RowSystem)
}

// WalkEffects calls fn for each operation of a wal.KindEffects payload, in order, until fn returns an error. A malformed payload
// is ErrBadEffects before fn is called at all.
func WalkEffects(payload []byte, fn func(Effect) error) error {
	p, err := parseEffects(payload)
	if err != nil {
		return err
	}
	rest := p.ops
	for range p.n {
		var op operation
		if op, rest, err = nextOperation(rest); err != nil {
			return err
		}
		e, err := op.effect()
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if !p.counts {
		return nil
	}
	return fn(Effect{Op: OpSet, Row: RowSystem, Count: p.count})
}

// effect decodes an operation that check has accepted.
func (op operation) effect() (Effect, error) {
	if op.kind == kindRangeDelete {
		return Effect{Op: OpClear, Row: RowKey}, nil
	}
	e := Effect{Op: OpSet, Row: Row(op.key[0])}
	if op.kind == kindDelete {
		e.Op = OpDelete
	}
	if e.Row == RowExpiry {
		e.ExpireAt, e.Key = splitExpiryRow(op.key)
		return e, nil
	}
	if e.Row == RowOnceExpiry {
		e.ExpireAt, e.Key = splitExpiryRow(op.key)
		return e, nil
	}
	e.Key = op.key[1:]
	if e.Row == RowOnce && e.Op == OpSet {
		r, err := decodeResult(op.value)
		e.Value, e.ExpireAt = r.Reply, r.ExpireAt
		return e, err
	}
	if e.Op == OpDelete {
		return e, nil
	}
	m, err := decodeMeta(op.value)
	e.Type, e.Value, e.ExpireAt = m.Type, m.Value, m.ExpireAt
	return e, err
}
