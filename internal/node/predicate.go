package node

import (
	"fmt"
	"strings"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// predicate selects effects by their kind and key: 'DEL user:*'.
type predicate struct {
	op      kv.Op // 0 = any
	pattern []byte
}

// parsePredicate reads "KIND [PATTERN]": DEL (which a clear of everything is, too), SET, CLEAR, ANY.
func parsePredicate(text string) (predicate, error) {
	kind, pattern, _ := strings.Cut(strings.TrimSpace(text), " ")
	p := predicate{pattern: []byte(strings.TrimSpace(pattern))}
	switch strings.ToUpper(kind) {
	case "DEL":
		p.op = kv.OpDelete
	case "SET":
		p.op = kv.OpSet
	case "CLEAR", "FLUSHALL":
		if len(p.pattern) > 0 {
			return p, usage("predicate %q: CLEAR removes every key and takes no pattern", text)
		}
		p.op = kv.OpClear
		return p, nil
	case "ANY":
	default:
		return p, usage("predicate %q: want 'KIND PATTERN' with kind DEL, SET, CLEAR or ANY", text)
	}
	if len(p.pattern) == 0 {
		return p, usage("predicate %q names no key pattern", text)
	}
	return p, nil
}

// CheckPredicate says what is wrong with a predicate over effects, as in admin.PromoteRequest.Before.
func CheckPredicate(text string) error {
	_, err := parsePredicate(text)
	return err
}

func usage(format string, args ...any) error {
	return &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf(format, args...)}
}

// effect reports whether e is one of those that are meant.
func (p predicate) effect(e kv.Effect) bool {
	switch {
	case e.Row != kv.RowKey:
		return false
	case e.Op == kv.OpClear:
		return p.op != kv.OpSet
	case p.op == kv.OpClear || (p.op != 0 && p.op != e.Op):
		return false
	}
	return server.Match(p.pattern, e.Key)
}

// record counts the effects of a record that are meant.
func (p predicate) record(r wal.Record) (n uint64, err error) {
	if r.Kind != wal.KindEffects {
		return 0, nil
	}
	err = kv.WalkEffects(r.Payload, func(e kv.Effect) error {
		if p.effect(e) {
			n++
		}
		return nil
	})
	return n, err
}
