package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const (
	kindDelete      = byte(pebble.InternalKeyKindDelete)
	kindSet         = byte(pebble.InternalKeyKindSet)
	kindRangeDelete = byte(pebble.InternalKeyKindRangeDelete)
)

// operation is one decoded operation of a payload; key and value alias it.
type operation struct {
	kind       byte
	key, value []byte
}

// nextOperation decodes the first operation of b and returns what follows it. It does not judge the rows.
func nextOperation(b []byte) (op operation, rest []byte, err error) {
	if len(b) == 0 {
		return op, nil, badEffects("payload ends before its last operation")
	}
	op.kind = b[0]
	var ok bool
	if op.key, rest, ok = nextString(b[1:]); !ok {
		return op, nil, badEffects("key is cut off")
	}
	switch op.kind {
	case kindDelete:
		return op, rest, nil
	case kindSet, kindRangeDelete:
		if op.value, rest, ok = nextString(rest); !ok {
			return op, nil, badEffects("value is cut off")
		}
		return op, rest, nil
	}
	return op, nil, badEffects("operation of unknown kind")
}

// nextString reads a length (at most 32 bits in at most 5 bytes, as Pebble reads it) and that many bytes.
func nextString(b []byte) (s, rest []byte, ok bool) {
	var n uint64
	size := 1
	if len(b) > 0 && b[0] < 0x80 {
		n = uint64(b[0])
	} else if n, size = binary.Uvarint(b); size <= 0 || size > 5 || n > 1<<32-1 {
		return nil, nil, false
	}
	b = b[size:]
	if n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// parsed is a payload that may be applied.
type parsed struct {
	ops    []byte // the encoded operations, without the one that sets the number of keys
	n      uint32 // how many
	count  int64  // the number of keys after the record, if counts
	counts bool
}

// parseEffects checks a payload in one walk, so that what it lets through can be committed as it is.
func parseEffects(payload []byte) (parsed, error) {
	var p parsed
	n, size := binary.Uvarint(payload)
	if size <= 0 || n == 0 || n > uint64(len(payload)) || n > 1<<31 {
		return p, badEffects("bad number of operations")
	}
	rest := payload[size:]
	for i := uint64(0); i < n; i++ {
		if p.counts {
			return p, badEffects("the number of keys is not set by the last operation")
		}
		before := rest
		var op operation
		var err error
		if op, rest, err = nextOperation(rest); err != nil {
			return p, err
		}
		if len(op.key) > 0 && Row(op.key[0]) == RowSystem {
			if p.count, err = checkCount(op); err != nil {
				return p, err
			}
			p.counts = true
			p.ops = payload[size : len(payload)-len(before)]
			continue
		}
		if err := op.check(); err != nil {
			return p, err
		}
		p.n++
	}
	if len(rest) > 0 {
		return p, badEffects("bytes after the last operation")
	}
	if !p.counts {
		p.ops = payload[size:]
	}
	return p, nil
}

// checkCount accepts the only operation that may touch a system row.
func checkCount(op operation) (int64, error) {
	if op.kind != kindSet || string(op.key) != countRow {
		return 0, badEffects("operation on a system row")
	}
	n, err := decodeCount(op.value)
	if err != nil {
		return 0, badEffects("bad number of keys")
	}
	return n, nil
}

// check accepts exactly what a Txn writes.
func (op operation) check() error {
	if op.kind == kindRangeDelete {
		if string(op.key) != clearFrom || string(op.value) != clearTo {
			return badEffects("range delete of other than everything")
		}
		return nil
	}
	if len(op.key) == 0 {
		return badEffects("empty row")
	}
	switch Row(op.key[0]) {
	case RowKey:
		if len(op.key) > 1+MaxKeyBytes {
			return badEffects("key is too long")
		}
		if op.kind == kindSet {
			if _, err := decodeMeta(op.value); err != nil {
				return fmt.Errorf("%w: %w", ErrBadEffects, err)
			}
		}
		return nil
	case RowExpiry:
		if len(op.key) < expiryHead || len(op.key) > expiryHead+MaxKeyBytes || op.key[1]&0x80 != 0 || len(op.value) > 0 {
			return badEffects("bad expiry row")
		}
		return nil
	}
	if Row(op.key[0]) == RowOnce || Row(op.key[0]) == RowOnceExpiry {
		return op.checkOnce()
	}
	return badEffects("row of unknown class")
}

func badEffects(reason string) error { return fmt.Errorf("%w: %s", ErrBadEffects, reason) }
