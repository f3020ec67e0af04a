package kv

import (
	"errors"
	"time"

	"repld/wal"
)

// Txn evaluates one record: its reads see the record's own effects, then those of the records in flight, then the
// applied state. An error of any method is final: the record must be aborted, and every later method returns it too.
// Arguments may alias what the Txn has returned.
type Txn struct {
	q     *Sequencer
	now   time.Time
	nowMs int64
	open  bool
	err   error

	payload payload
	count   int64
	cleared bool           // by this record
	changes []change       // by this record, one for a key, since its Clear
	index   map[string]int // into changes, once they are many
	once    []ownOnce      // results by id, put or removed by this record

	row   []byte // Pebble key of the current read
	value []byte // what Get has returned last
}

// change is what a key holds after the record; key and value lie in the payload.
type change struct {
	key     []byte
	entry   Entry
	deleted bool
}

// indexFrom is the number of changes from which a map finds a key sooner than a loop.
const indexFrom = 8

func (t *Txn) begin(now time.Time) {
	t.now, t.nowMs, t.open, t.err = now, now.UnixMilli(), true, nil
	t.payload.reset(t.q.over.buffer())
	t.count, t.cleared = t.q.count, false
	t.changes = t.changes[:0]
	clear(t.index)
	t.once = t.once[:0]
}

// Now implements View.
func (t *Txn) Now() time.Time { return t.now }

// Len implements View.
func (t *Txn) Len() (int64, error) { return t.count, t.err }

// Get implements View.
func (t *Txn) Get(key []byte) (Entry, bool, error) {
	e, present, err := t.read(key)
	if err != nil || !present || e.expired(t.nowMs) {
		return Entry{}, false, err
	}
	return e, true, nil
}

// Exists implements View.
func (t *Txn) Exists(key []byte) (bool, error) {
	present, expireAt, err := t.peek(key)
	return present && !expiredAt(expireAt, t.nowMs), err
}

// find looks a key up in the record's own effects and in the overlay. known means that Pebble need not be asked.
func (t *Txn) find(key []byte) (e Entry, present, known bool) {
	if i, ok := t.own(key); ok {
		c := &t.changes[i]
		return c.entry, !c.deleted, true
	}
	if t.cleared {
		return Entry{}, false, true
	}
	if p := t.q.over.keys[string(key)]; p != nil {
		return p.entry, !p.deleted, true
	}
	return Entry{}, false, t.q.over.cleared != 0
}

func (t *Txn) own(key []byte) (int, bool) {
	if len(t.changes) >= indexFrom {
		i, ok := t.index[string(key)]
		return i, ok
	}
	for i := range t.changes {
		if string(t.changes[i].key) == string(key) {
			return i, true
		}
	}
	return 0, false
}

// read returns what key holds, expired or not.
func (t *Txn) read(key []byte) (Entry, bool, error) {
	if t.err != nil {
		return Entry{}, false, t.err
	}
	if e, present, known := t.find(key); known {
		return e, present, nil
	}
	e, present, err := t.base(key, true)
	return e, present, err
}

// peek is read without the value.
func (t *Txn) peek(key []byte) (present bool, expireAt int64, err error) {
	if t.err != nil {
		return false, 0, t.err
	}
	e, present, known := t.find(key)
	if known {
		return present, e.ExpireAt, nil
	}
	if present, expireAt, known = t.q.recent.get(key); known {
		return present, expireAt, nil
	}
	e, present, err = t.base(key, false)
	return present, e.ExpireAt, err
}

// base reads Pebble. The value is copied, if wanted, into a buffer that only the next read of a value overwrites.
func (t *Txn) base(key []byte, value bool) (Entry, bool, error) {
	if err := t.q.s.enter(); err != nil {
		return Entry{}, false, t.fail(err)
	}
	defer t.q.s.gate.leave()
	t.row = appendKeyRow(t.row[:0], key)
	e, closer, err := getMeta(t.q.s.db, t.row)
	if err != nil {
		return Entry{}, false, t.fail(err)
	}
	t.q.recent.put(key, closer != nil, e.ExpireAt)
	if closer == nil {
		return Entry{}, false, nil
	}
	if value {
		t.value = append(t.value[:0], e.Value...)
		e.Value = t.value[:len(t.value):len(t.value)]
	} else {
		e.Value = nil
	}
	if err := closeRead(closer); err != nil {
		return Entry{}, false, t.fail(err)
	}
	return e, true, nil
}

// fail makes an error final: a record evaluated on half of what it should have seen must not reach the log.
func (t *Txn) fail(err error) error {
	t.err = err
	return err
}

// Effects is the payload of the record, nil when nothing changed: then there is nothing to append to the log, and Abort
// ends the Txn. It is valid until Commit or Abort.
func (t *Txn) Effects() []byte {
	if t.err != nil {
		return nil
	}
	return t.payload.finish(t.count, t.count != t.q.count)
}

// Commit tells that Effects are in the log as record lsn, and ends the Txn. LSNs must rise.
func (t *Txn) Commit(lsn wal.LSN) {
	q := t.q
	if t.err != nil || t.payload.n == 0 {
		t.Abort()
		return
	}
	q.over.add(lsn, t.payload.buf, t.cleared, t.changes)
	q.over.once.add(lsn, t.once)
	q.count = t.count
	t.touch()
	t.payload.buf = nil
	t.end()
}

func (t *Txn) touch() {
	q := t.q
	if t.cleared {
		q.recent.forget()
		if q.touched != nil {
			q.touched(nil, true)
		}
	}
	for i := range t.changes {
		c := &t.changes[i]
		q.recent.put(c.key, !c.deleted, c.entry.ExpireAt)
		if c.entry.ExpireAt != 0 {
			q.soonest = min(q.soonest, c.entry.ExpireAt)
		}
		if q.touched != nil {
			q.touched(c.key, false)
		}
	}
}

// Abort forgets the record and ends the Txn. After Commit, or called twice, it does nothing.
func (t *Txn) Abort() {
	if !t.open {
		return
	}
	t.q.over.recycle(t.payload.buf)
	t.payload.buf = nil
	t.end()
}

func (t *Txn) end() {
	t.open = false
	t.payload.n = 0
	t.err = errTxnEnded
	if cap(t.value) > keepValue {
		t.value = nil
	}
	if cap(t.changes) > 1024 {
		t.changes, t.index = nil, nil
	}
	clear(t.changes)
	clear(t.once)
}

var errTxnEnded = errors.New("record has been committed or aborted")
