package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"repld/wal"
)

// Result is what a write with an id was answered, kept so that a repetition of it is answered the same instead of being executed again. It is put in the
// same record as the write's effects, so that both survive or neither.
type Result struct {
	ExpireAt int64  // unix milliseconds, never 0
	Hash     uint64 // of the command: another command under the same id is a mistake
	Reply    []byte
}

const (
	// MaxIDBytes is the longest id.
	MaxIDBytes = 256
	// MaxReplyBytes is the longest reply that is kept.
	MaxReplyBytes = 1 << 20

	resultVersion = 1
	resultHead    = 1 + 8 + 8
)

// ownOnce is a result that the record in progress puts or removes.
type ownOnce struct {
	id      string
	result  Result
	deleted bool
}

// pendingOnce is the newest of them in flight.
type pendingOnce struct {
	ownOnce
	lsn wal.LSN
}

// onceOverlay is the overlay of results by id. They are few, so that they are copied.
type onceOverlay struct {
	by     map[string]pendingOnce
	flight []onceFlight // in LSN order
}

type onceFlight struct {
	lsn wal.LSN
	id  string
}

func (o *onceOverlay) add(lsn wal.LSN, list []ownOnce) {
	for _, x := range list {
		o.by[x.id] = pendingOnce{x, lsn}
		o.flight = append(o.flight, onceFlight{lsn, x.id})
	}
}

func (o *onceOverlay) drop(lsn wal.LSN) {
	n := 0
	for ; n < len(o.flight) && o.flight[n].lsn <= lsn; n++ {
		if p := o.by[o.flight[n].id]; p.lsn == o.flight[n].lsn {
			delete(o.by, p.id)
		}
	}
	if n > 0 {
		o.flight = append(o.flight[:0], o.flight[n:]...)
	}
}

// Result returns what the write with this id was answered, ok false if there was none or it is no longer kept. Reply is valid until the record ends.
func (t *Txn) Result(id []byte) (r Result, ok bool, err error) {
	r, present, err := t.result(id)
	if err != nil || !present || expiredAt(r.ExpireAt, t.nowMs) {
		return Result{}, false, err
	}
	return r, true, nil
}

// result is Result that shows expired ones too.
func (t *Txn) result(id []byte) (Result, bool, error) {
	if t.err != nil {
		return Result{}, false, t.err
	}
	for i := len(t.once) - 1; i >= 0; i-- {
		if t.once[i].id == string(id) {
			return t.once[i].result, !t.once[i].deleted, nil
		}
	}
	if p, ok := t.q.over.once.by[string(id)]; ok {
		return p.result, !p.deleted, nil
	}
	if err := t.q.s.enter(); err != nil {
		return Result{}, false, t.fail(err)
	}
	defer t.q.s.gate.leave()
	value, closer, err := t.q.s.db.Get(onceRow(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return Result{}, false, nil
	}
	if err != nil {
		return Result{}, false, t.fail(readError("read result of an id", err))
	}
	r, err := decodeResult(value)
	r.Reply = append([]byte(nil), r.Reply...)
	if err = errors.Join(err, closer.Close()); err != nil {
		return Result{}, false, t.fail(fmt.Errorf("read result of id %q: %w", id, err))
	}
	return r, true, nil
}

// PutResult keeps r for id.
func (t *Txn) PutResult(id []byte, r Result) error {
	if len(id) == 0 || len(id) > MaxIDBytes || len(r.Reply) > MaxReplyBytes || r.ExpireAt <= 0 {
		return t.fail(fmt.Errorf("result of id %q with %d bytes until %d: %w", id, len(r.Reply), r.ExpireAt, ErrTooLarge))
	}
	old, present, err := t.result(id)
	if err != nil {
		return err
	}
	if present {
		t.payload.onceOp(kindDelete, onceExpiryRow(old.ExpireAt, id), nil)
	}
	t.payload.onceOp(kindSet, onceRow(id), appendResult(nil, r))
	t.payload.onceOp(kindSet, onceExpiryRow(r.ExpireAt, id), []byte{})
	r.Reply = append([]byte(nil), r.Reply...)
	t.once = append(t.once, ownOnce{id: string(id), result: r})
	return nil
}

// DropResult removes the result of id if its time is over at Now, and reports whether it did.
func (t *Txn) DropResult(id []byte) (bool, error) {
	r, present, err := t.result(id)
	if err != nil || !present || !expiredAt(r.ExpireAt, t.nowMs) {
		return false, err
	}
	t.payload.onceOp(kindDelete, onceRow(id), nil)
	t.payload.onceOp(kindDelete, onceExpiryRow(r.ExpireAt, id), nil)
	t.once = append(t.once, ownOnce{id: string(id), deleted: true})
	return true, nil
}

// Changed reports whether the record has effects so far.
func (t *Txn) Changed() bool { return t.err == nil && t.payload.n > 0 }

// ExpiredResults returns up to limit ids whose results may go at now and that no record in flight touches. They are candidates: DropResult decides.
func (q *Sequencer) ExpiredResults(now time.Time, limit int) ([][]byte, error) {
	if err := q.s.enter(); err != nil {
		return nil, fmt.Errorf("expired results: %w", err)
	}
	defer q.s.gate.leave()
	it, err := q.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{byte(RowOnceExpiry)}, UpperBound: onceExpiryRow(now.UnixMilli()+1, nil)})
	if err != nil {
		return nil, readError("expired results", err)
	}
	var ids [][]byte
	for ok := it.First(); ok && len(ids) < limit; ok = it.Next() {
		_, id := splitExpiryRow(it.Key())
		if _, flying := q.over.once.by[string(id)]; !flying {
			ids = append(ids, append([]byte(nil), id...))
		}
	}
	if err := it.Close(); err != nil {
		return nil, readError("expired results", err)
	}
	return ids, nil
}

// onceOp writes one operation; value nil means that the kind has none.
func (p *payload) onceOp(kind byte, key, value []byte) {
	p.op(kind, len(key))
	p.buf = append(p.buf, key...)
	if value != nil {
		p.buf = binary.AppendUvarint(p.buf, uint64(len(value)))
		p.buf = append(p.buf, value...)
	}
}

func onceRow(id []byte) []byte { return append([]byte{byte(RowOnce)}, id...) }

func onceExpiryRow(expireAt int64, id []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{byte(RowOnceExpiry)}, uint64(expireAt))
	return append(b, id...)
}

func appendResult(b []byte, r Result) []byte {
	b = append(b, resultVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.ExpireAt))
	b = binary.BigEndian.AppendUint64(b, r.Hash)
	return append(b, r.Reply...)
}

// decodeResult splits the value of a RowOnce row; Reply aliases b.
func decodeResult(b []byte) (Result, error) {
	switch {
	case len(b) > 0 && b[0] != resultVersion:
		return Result{}, fmt.Errorf("result of an id: %w: version %d, known %d", ErrVersion, b[0], resultVersion)
	case len(b) < resultHead || len(b) > resultHead+MaxReplyBytes || b[1]&0x80 != 0:
		return Result{}, fmt.Errorf("result of an id: %w: %d bytes", ErrCorrupt, len(b))
	}
	return Result{ExpireAt: int64(binary.BigEndian.Uint64(b[1:])), Hash: binary.BigEndian.Uint64(b[9:]), Reply: b[resultHead:]}, nil
}

// checkOnce accepts exactly what a Txn writes into rows of results by id.
func (op operation) checkOnce() error {
	head := 1
	if Row(op.key[0]) == RowOnceExpiry {
		head = expiryHead
	}
	if n := len(op.key) - head; n < 1 || n > MaxIDBytes {
		return badEffects("id is empty or too long")
	}
	if head == expiryHead {
		if op.key[1]&0x80 != 0 || len(op.value) > 0 {
			return badEffects("bad expiry row of an id")
		}
		return nil
	}
	if op.kind == kindSet {
		if _, err := decodeResult(op.value); err != nil {
			return fmt.Errorf("%w: %w", ErrBadEffects, err)
		}
	}
	return nil
}

// once counts a row of results by id.
func (v *verifier) once(key, value []byte) {
	if err := (operation{kind: kindSet, key: key, value: value}).checkOnce(); err != nil {
		v.problem("row %q: %v", key, err)
		return
	}
	if Row(key[0]) == RowOnceExpiry {
		at, id := splitExpiryRow(key)
		v.idRows++
		v.idIndex += expiryHash(at, id)
		return
	}
	r, err := decodeResult(value)
	if err != nil {
		v.problem("row %q: %v", key, err)
		return
	}
	v.ids++
	v.idSum += expiryHash(r.ExpireAt, key[1:])
}
